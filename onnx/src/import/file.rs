//! A decoded file, and the part of its network that one output depends on.

use clr_adapters::Head;

use super::{
    Import,
    attributes::Source,
    classifier::{self, Evidence},
    ending::Producers,
    external::External,
    grey,
    value::missing,
};
use crate::{
    OnnxError, Shape,
    graph::Graph,
    metadata::StepEntry,
    proto::{GraphProto, OperatorSetIdProto},
};

/// A decoded file from which networks are read.
pub(super) struct File<'a> {
    pub(super) origin: &'a str,
    pub(super) graph: &'a GraphProto,
    pub(super) sets: &'a [OperatorSetIdProto],
    /// Names of the nodes, by position in the file.
    pub(super) names: Vec<String>,
    pub(super) external: &'a External,
    pub(super) producers: Producers<'a>,
    /// Rows and columns that the caller states, for a file that leaves them open.
    pub(super) size: Option<[u32; 2]>,
    /// Value of [`ReadOptions::two_classes`](crate::ReadOptions::two_classes).
    pub(super) two_classes: bool,
    /// Whether the file has a classifier, according to metadata that this library wrote; `None` without such metadata.
    pub(super) classifier: Option<bool>,
    /// The opaque steps, according to the metadata that this library wrote.
    pub(super) steps: &'a [StepEntry],
}

/// The nodes and values that an output depends on.
pub(super) struct Network {
    pub(super) graph: Graph,
    pub(super) head: Option<Head>,
    /// Size of the image.
    pub(super) size: [u32; 2],
    /// Whether the network reads one channel, which a conversion from RGB provides.
    pub(super) grey: bool,
    /// Shape of the value that was taken as logits or features.
    pub(super) features: Shape,
    /// Without a classifier: the value that the last layer reads.
    pub(super) further_inside: Option<String>,
    pub(super) notes: Vec<String>,
}

impl<'a> File<'a> {
    /// Returns the network that `output` depends on, split into features and classifier.
    pub(super) fn network(&'a self, output: &'a str) -> Result<Network, OnnxError> {
        let (value, ending) = self.producers.strip(output);
        let mut import = Import::new(self, value)?;
        let features = import.run()?;
        let shape = import.shape(features);
        let mut notes = std::mem::take(&mut import.notes);
        if let Some(index) = ending.softmax {
            self.check_axis(index, import.opset, shape)?;
        }
        if let Some((first, rest)) = ending.operators.split_first() {
            let (list, are) = match rest {
                [] => ((*first).to_owned(), "is"),
                _ => (format!("{first} and {}", rest.join(", ")), "are"),
            };
            notes.push(format!("the {list} at the end {are} left out, the outputs are logits"));
        }
        let raw = Graph {
            input_channels: import.channels,
            nodes: std::mem::take(&mut import.nodes),
            features,
        };
        let grey = raw.input_channels == 1;
        let raw = if grey { grey::convert(raw) } else { raw };
        if grey {
            notes.push(grey::NOTE.to_owned());
        }
        let evidence = Evidence {
            known: self.classifier,
            ending: &ending,
            named: &|node| self.is_named_classifier(node),
            two_classes: self.two_classes,
        };
        let (size, pixels) = (import.size, import.size.map(|side| side as usize));
        drop(import);
        let (graph, head) = classifier::split(raw, pixels, &evidence, &mut notes)?;
        let further_inside = head.is_none().then(|| self.producers.last_layer_reads(value)).flatten();
        Ok(Network {
            further_inside: further_inside.map(str::to_owned),
            graph,
            head,
            size,
            grey,
            features: shape,
            notes,
        })
    }

    /// Refuses a Softmax over another axis than the classes.
    fn check_axis(&self, index: usize, opset: i64, shape: Shape) -> Result<(), OnnxError> {
        let source = Source {
            proto: &self.graph.node[index],
            name: &self.names[index],
            opset,
        };
        let axis = source.int("axis", if source.opset < 13 { 1 } else { -1 });
        let reason = match (axis, shape) {
            (Ok(1 | -1), Shape::Vector(_)) | (Ok(1 | -3), Shape::Map(_)) => return Ok(()),
            (Ok(axis), shape) => format!("axis {axis} of {shape}: expected the classes"),
            (Err(_), _) => "attribute `axis` is not an integer".to_owned(),
        };
        Err(OnnxError::Unsupported {
            origin: self.origin.to_owned(),
            missing: vec![missing(source.name, "", source.operator(), opset, reason)],
            unchecked: 0,
            read_until: None,
        })
    }

    /// Returns whether a node or its weights have a name that frameworks use for classifiers: the last module in
    /// torchvision and timm, the last layer in Keras.
    fn is_named_classifier(&self, node: &str) -> bool {
        let named = |name: &str| {
            name.split(['/', '.']).any(|part| {
                matches!(
                    part,
                    "classifier" | "classification" | "logits" | "fc" | "predictions" | "final_conv"
                )
            })
        };
        let weight = || {
            let index = self.names.iter().position(|name| name == node)?;
            self.graph.node[index].input.get(1)
        };
        named(node) || weight().is_some_and(|weight| named(weight))
    }
}
