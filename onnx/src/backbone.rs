//! Backbone: a frozen graph with its digest, sites, own classifier and preprocessing.

use std::sync::Arc;

use clr_adapters::{Adapter, Background, Digest, Head, Header, Preprocessing, Provenance};

use crate::{
    OnnxError, Origin, PreprocessingOrigins, Shape, SiteInfo, StatedPreprocessing,
    bias_units::BiasUnits,
    canonical,
    digest::digest,
    graph::{Graph, Node, Op, ValueId},
    imagenet_preprocessing,
    in_graph::InGraph,
    infer,
    sites::find_sites,
    validate,
};

/// A frozen, validated backbone. Clones share the weights.
///
/// Equality ignores the notes of the import, and the background.
#[derive(Clone, Debug)]
pub struct Backbone {
    name: String,
    graph: Graph,
    sites: Vec<SiteInfo>,
    shapes: Vec<Shape>,
    feature_count: usize,
    digest: Digest,
    classifier: Option<Head>,
    labels: Option<Vec<String>>,
    preprocessing: Preprocessing,
    origins: PreprocessingOrigins,
    /// Normalisation that was inside the file's graph. When the backbone is written, it becomes part of the
    /// preprocessing.
    in_graph: Option<InGraph>,
    notes: Vec<String>,
    further_inside: Option<String>,
    bias_units: Option<Arc<BiasUnits>>,
    pub(crate) background: Option<Arc<Background>>,
}

impl PartialEq for Backbone {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
            && self.name == other.name
            && self.graph == other.graph
            && self.classifier == other.classifier
            && self.labels == other.labels
            && self.preprocessing == other.preprocessing
    }
}

impl Backbone {
    /// Creates a backbone from `graph`, in canonical form. Equivalent groups of nodes become one node, for example
    /// `x·sigmoid(x)` a `Silu`, and a Mul and an Add of constants one [`crate::Op::ChannelAffine`]. Nodes that the
    /// features do not depend on are removed, so indices may differ from those in `graph`. `labels` are the names of
    /// the classes of `classifier`.
    ///
    /// # Errors
    /// [`OnnxError`] if nodes, weights and shapes are inconsistent at the size given by `preprocessing`, if a weight is
    /// not finite, if a name is empty or not unique, or if classifier and labels do not fit the features.
    pub fn new(
        name: impl Into<String>,
        graph: Graph,
        classifier: Option<Head>,
        labels: Option<Vec<String>>,
        preprocessing: Preprocessing,
    ) -> Result<Self, OnnxError> {
        validate::preprocessing(&preprocessing)?;
        validate::graph(&graph)?;
        let graph = canonical::canonical(graph);
        validate::graph(&graph)?;
        let shapes = shapes_at(&graph, [preprocessing.height as usize, preprocessing.width as usize])?;
        let Shape::Vector(feature_count) = shapes[graph.features.0] else {
            let reason = format!("the features must be a vector [N, F], got {}", shapes[graph.features.0]);
            return Err(OnnxError::Graph { reason });
        };
        validate::classifier(classifier.as_ref(), labels.as_deref(), feature_count)?;
        let (sites, digest) = (find_sites(&graph), digest(&graph, None));
        Ok(Self {
            name: name.into(),
            graph,
            sites,
            shapes,
            feature_count,
            digest,
            classifier,
            labels,
            preprocessing,
            origins: PreprocessingOrigins::all(Origin::Option),
            in_graph: None,
            notes: Vec::new(),
            further_inside: None,
            bias_units: None,
            background: None,
        })
    }

    /// Returns the name of the backbone, which messages use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the frozen graph in canonical form.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns whether the backbone is quantised: whether a convolution has integer weights.
    pub fn is_quantised(&self) -> bool {
        let integer = |node: &Node| matches!(&node.op, Op::Conv(conv) if conv.weight.int8().is_some());
        self.graph.nodes.iter().any(integer)
    }

    /// Returns a backbone with another graph of the same features, and this one's classifier, labels and preprocessing.
    pub(crate) fn with_graph(&self, graph: Graph) -> Result<Self, OnnxError> {
        let (classifier, labels) = (self.classifier.clone(), self.labels.clone());
        let backbone = Self::new(self.name.clone(), graph, classifier, labels, self.preprocessing.clone())?;
        Ok(Self {
            origins: self.origins,
            ..backbone
        })
    }

    /// Returns the units of the sites' biases, if the backbone has them in place of norms.
    pub fn bias_units(&self) -> Option<&BiasUnits> {
        self.bias_units.as_deref()
    }

    /// Sets the units of the sites' biases, which changes the digest.
    pub(crate) fn with_bias_units(self, units: Option<BiasUnits>) -> Result<Self, OnnxError> {
        if let Some(units) = &units {
            units.check(&self.sites).map_err(|reason| OnnxError::Graph { reason })?;
        }
        Ok(Self {
            digest: digest(&self.graph, units.as_ref()),
            bias_units: units.map(Arc::new),
            ..self
        })
    }

    /// Replaces the classifier, if there is one, by one with the same features and classes.
    pub(crate) fn map_classifier(mut self, replacement: impl FnOnce(&Head) -> Head) -> Self {
        self.classifier = self.classifier.as_ref().map(replacement);
        self
    }

    /// Returns all convolutions, in the graph's order.
    pub fn sites(&self) -> &[SiteInfo] {
        &self.sites
    }

    /// Returns the length F of the features.
    pub fn feature_count(&self) -> usize {
        self.feature_count
    }

    /// Returns the SHA-256 of the canonical frozen graph: names, structure and weights, without the classifier, and of
    /// [`Backbone::bias_units`].
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the preprocessing from image to input.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Returns where each part of [`Backbone::preprocessing`] came from; [`Origin::Option`] for a backbone created by
    /// [`Backbone::new`].
    pub fn preprocessing_origins(&self) -> PreprocessingOrigins {
        self.origins
    }

    /// Returns the classifier that came with the backbone.
    pub fn classifier(&self) -> Option<&Head> {
        self.classifier.as_ref()
    }

    /// Returns the classes of [`Backbone::classifier`].
    pub fn labels(&self) -> Option<&[String]> {
        self.labels.as_deref()
    }

    /// Returns notes on decisions of the import and on parts that it dropped, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Returns the name of the value that the file's last layer reads, for a network read without a classifier. The
    /// name can be used as [`ReadOptions::output`](crate::ReadOptions::output) if the network's output does not describe the image.
    pub fn further_inside(&self) -> Option<&str> {
        self.further_inside.as_deref()
    }

    pub(crate) fn with_further_inside(self, further_inside: Option<String>) -> Self {
        Self { further_inside, ..self }
    }

    pub(crate) fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.notes = notes;
        self
    }

    pub(crate) fn with_origins(self, origins: PreprocessingOrigins) -> Self {
        Self { origins, ..self }
    }

    /// Adds the normalisation that was inside the graph of a file.
    pub(crate) fn with_in_graph(mut self, in_graph: Option<InGraph>) -> Self {
        if let Some(found) = &in_graph {
            if found.normalises || found.orders {
                found.apply(&mut self.preprocessing);
            }
            if found.normalises {
                self.origins.normalisation = Origin::Graph;
            }
            if found.orders {
                self.origins.channel_order = Origin::Graph;
            }
        }
        Self { in_graph, ..self }
    }

    /// Returns the backbone with the parts of the preprocessing that are set in `stated`, and records `origin` as their
    /// origin. Mean, deviation and channel order are those of the file's input. A normalisation that was inside the
    /// graph is applied in addition, unless the stated values already equal the combined ones.
    ///
    /// # Errors
    /// [`OnnxError`] if a value is not finite or a deviation is 0.
    pub fn with_stated(mut self, stated: &StatedPreprocessing, origin: Origin) -> Result<Self, OnnxError> {
        let mut preprocessing = self.preprocessing.clone();
        stated.apply(&mut preprocessing);
        validate::preprocessing(&preprocessing)?;
        if let Some(in_graph) = &mut self.in_graph {
            in_graph.restate(stated.mean, stated.std, stated.channel_order);
            in_graph.apply(&mut preprocessing);
            validate::preprocessing(&preprocessing)?;
        }
        stated.mark(&mut self.origins, origin);
        Ok(Self { preprocessing, ..self })
    }

    /// Returns the backbone with another preprocessing. The digest does not depend on it.
    ///
    /// # Errors
    /// [`OnnxError`] if the graph does not fit the new input size.
    pub fn with_preprocessing(self, preprocessing: Preprocessing) -> Result<Self, OnnxError> {
        validate::preprocessing(&preprocessing)?;
        let shapes = self.shapes_for([preprocessing.height as usize, preprocessing.width as usize])?;
        Ok(Self {
            shapes,
            preprocessing,
            ..self
        })
    }

    /// Returns the backbone with another name. The digest does not depend on it.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..self
        }
    }

    /// Returns the backbone with labels for its classifier.
    ///
    /// # Errors
    /// [`OnnxError`] if the backbone has no classifier, or if the number of labels differs from that of its classes.
    pub fn with_labels(self, labels: Vec<String>) -> Result<Self, OnnxError> {
        validate::classifier(self.classifier.as_ref(), Some(&labels), self.feature_count)?;
        Ok(Self {
            labels: Some(labels),
            ..self
        })
    }

    /// Returns the backbone's own classifier as an adapter with the recipe `linear`, or `None` if the backbone has no
    /// classifier. The adapter has version 1, no metrics and no canaries. Without labels, its classes are named
    /// `class 0`, `class 1` …
    pub fn original_adapter(&self) -> Option<Adapter> {
        let head = self.classifier.clone()?;
        let labels = self
            .labels
            .clone()
            .unwrap_or_else(|| (0..head.classes()).map(|class| format!("class {class}")).collect());
        let header = Header::new(
            self.name.clone(),
            labels,
            self.digest,
            self.preprocessing.clone(),
            Provenance::Imported,
        );
        Some(Adapter {
            header,
            sites: Vec::new(),
            head,
        })
    }

    /// Returns the shape of every value at the preprocessing's input size.
    pub(crate) fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// Returns the shape of every value at `size` (rows, columns). The features must have the same length as before.
    pub(crate) fn shapes_for(&self, size: [usize; 2]) -> Result<Vec<Shape>, OnnxError> {
        let shapes = shapes_at(&self.graph, size)?;
        let (expected, got) = (Shape::Vector(self.feature_count), shapes[self.graph.features.0]);
        if got == expected {
            return Ok(shapes);
        }
        let [height, width] = size;
        Err(OnnxError::Graph {
            reason: format!("at {height} × {width} pixels: expected features {expected}, got {got}"),
        })
    }

    /// Returns the shape of every value, by [`ValueId`], for an image of `height` × `width` pixels.
    ///
    /// # Errors
    /// [`OnnxError`] if the graph does not fit that size.
    pub fn value_shapes(&self, height: usize, width: usize) -> Result<Vec<Shape>, OnnxError> {
        shapes_at(&self.graph, [height, width])
    }

    /// Returns the node that produces `value`; `None` for the image.
    pub fn node(&self, value: ValueId) -> Option<&Node> {
        self.graph.nodes.get(value.producer()?)
    }

    /// Returns the preprocessing that is assumed for a file without one: RGB, ImageNet mean and standard deviation, the
    /// shorter side scaled to `size / 0.875` (bilinear), then a centre crop.
    pub fn default_preprocessing(height: u32, width: u32) -> Preprocessing {
        Preprocessing {
            height,
            width,
            ..imagenet_preprocessing()
        }
    }
}

fn shapes_at(graph: &Graph, size: [usize; 2]) -> Result<Vec<Shape>, OnnxError> {
    infer::infer_all(graph, size).map_err(|(index, reason)| {
        let node = graph
            .nodes
            .get(index)
            .map_or_else(|| "image".to_owned(), |node| node.name.clone());
        OnnxError::Node {
            node,
            reason: format!("at {} × {} pixels: {reason}", size[0], size[1]),
        }
    })
}
