//! Import of any supported ONNX file as a canonical graph.

mod attributes;
mod boundary;
mod classifier;
mod constant;
mod dialect;
mod ending;
mod external;
mod file;
mod folding;
mod functions;
mod grey;
mod half_precision;
mod head;
mod normalisation;
mod opaque;
mod operands;
mod operators;
mod options;
mod order;
mod outputs;
mod patterns;
mod qoperator;
mod sparse;
mod value;
mod view;
mod wire;

pub use options::ReadOptions;
pub(crate) use wire::read_file;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use crate::{
    Backbone, Missing, OnnxError, Origin, PreprocessingOrigins, Quantisation, Shape,
    graph::{Node, Op, ValueId},
    metadata,
    preprocess::stated_next_to,
    proto::{GraphProto, OperatorSetIdProto, TensorProto},
};
use attributes::Source;
use ending::Producers;
use external::External;
use file::{File, Network};
use value::{Refusal, Value, missing};
use view::View;

/// Returns the backbone in `bytes`. `path` is the model's path; external data files are looked for in its folder.
pub(crate) fn backbone(
    bytes: &[u8],
    origin: &str,
    path: Option<&Path>,
    options: &ReadOptions,
) -> Result<Backbone, OnnxError> {
    let mut model = wire::decode(bytes, origin)?;
    let metadata = metadata::read(&model, origin)?;
    functions::inline(&mut model, origin)?;
    let no_graph = || OnnxError::Malformed {
        origin: origin.to_owned(),
        reason: "there is no graph".to_owned(),
    };
    let mut graph = model.graph.take().ok_or_else(no_graph)?;
    qoperator::rewrite(&mut graph);
    let external = External::new(&graph, path, origin)?;
    sparse::densify(&mut graph, &external, origin)?;
    // The metadata of a file written by this library is complete.
    let own = metadata.preprocessing.is_some();
    let in_graph = if own {
        None
    } else {
        normalisation::take_out(&mut graph, &external)
    };
    let file = File {
        origin,
        graph: &graph,
        sets: &model.opset_import,
        names: order::names(&graph.node),
        external: &external,
        producers: Producers::new(&graph),
        size: options.size,
        two_classes: options.two_classes,
        classifier: metadata.classifier,
        steps: &metadata.steps,
    };
    let network = outputs::choose(&file, options.output.as_deref())?;
    let name = match (&metadata.preprocessing, graph.name.as_deref()) {
        // This library wrote the file, so the graph's name is the backbone's name.
        (Some(_), Some(name)) => name.to_owned(),
        _ => Path::new(origin)
            .file_stem()
            .map_or_else(|| origin.to_owned(), |stem| stem.to_string_lossy().into_owned()),
    };
    let [height, width] = network.size;
    let (preprocessing, origins) = if let Some(preprocessing) = metadata.preprocessing {
        let unsaid = PreprocessingOrigins::all(Origin::Metadata);
        (preprocessing, metadata.origins.unwrap_or(unsaid))
    } else {
        let default = if network.grey {
            grey::default_preprocessing
        } else {
            Backbone::default_preprocessing
        };
        (default(height, width), PreprocessingOrigins::all(Origin::Assumed))
    };
    let backbone = Backbone::new(name, network.graph, network.head, metadata.labels, preprocessing)?
        .with_bias_units(metadata.bias_units)?
        .with_origins(origins)
        .with_in_graph(in_graph)
        .with_notes(network.notes)
        .with_further_inside(network.further_inside);
    match path.filter(|_| !own).and_then(stated_next_to) {
        Some(stated) => backbone.with_stated(&stated, Origin::Config),
        None => Ok(backbone),
    }
}

/// Treatment of a node with foreign values.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Takes {
    #[default]
    Nothing,
    /// The foreign values become values of the graph.
    Values,
    /// The foreign values become values of the graph, with the channels in the last axis.
    ChannelsLast,
}

/// An import in progress.
struct Import<'a> {
    origin: &'a str,
    opset: i64,
    sets: &'a [OperatorSetIdProto],
    external: &'a External,
    file: &'a GraphProto,
    constants: HashMap<&'a str, &'a TensorProto>,
    values: HashMap<&'a str, Value>,
    /// The node that produces a value, as its index in the file.
    producers: HashMap<&'a str, usize>,
    /// The position of a node in the topological order, by its index in the file.
    places: HashMap<usize, usize>,
    /// Values of the graph that stand for foreign values.
    materialised: HashMap<&'a str, Value>,
    placeholders: BTreeMap<ValueId, opaque::Placeholder<'a>>,
    /// The opaque steps of a file that this library wrote.
    own: opaque::OwnSteps<'a>,
    /// Whether the node that is being converted accepts foreign values, and in which layout.
    takes: Takes,
    output: &'a str,
    channels: usize,
    size: [u32; 2],
    /// The batch size, if the file fixes it.
    batch: Option<i64>,
    /// Names of the nodes, by position in the file.
    names: &'a [String],
    taken: HashSet<String>,
    nodes: Vec<Node>,
    /// Shapes by [`ValueId`].
    shapes: Vec<Shape>,
    /// Grids by [`ValueId`].
    grids: Vec<Option<Quantisation>>,
    /// The names that are read as weights of convolutions only.
    conv_weights: HashSet<&'a str>,
    /// The number of convolutions whose weights are integers in the file, but not here.
    float_weights: usize,
    missing: Vec<Missing>,
    notes: Vec<String>,
    budget: folding::Budget,
    half: half_precision::Seen,
}

impl<'a> Import<'a> {
    /// Creates an import of the nodes that `output` depends on.
    fn new(source: &'a File<'a>, output: &'a str) -> Result<Self, OnnxError> {
        let &File {
            origin,
            graph: file,
            sets,
            external,
            size,
            ..
        } = source;
        let names = &source.names[..];
        let mut constants = HashMap::new();
        for tensor in &file.initializer {
            let name = tensor.name.as_deref().unwrap_or("");
            if constants.insert(name, tensor).is_some() {
                return Err(OnnxError::Duplicate {
                    origin: origin.to_owned(),
                    what: "initialiser",
                    name: name.to_owned(),
                });
            }
        }
        let image = boundary::image(file, &constants.keys().copied().collect(), size, origin)
            .map_err(|error| dialect::quantised(file, origin).unwrap_or(error))?;
        let size = image.size.map(|side| side as usize);
        let shape = Shape::Map([image.channels, size[0], size[1]]);
        let pixels = if image.channels_last {
            let origin = format!("the input `{}`", image.name);
            Value::View(View::channels_last(ValueId::IMAGE, shape, origin))
        } else {
            Value::Data(ValueId::IMAGE)
        };
        Ok(Self {
            origin,
            opset: boundary::opset(sets, origin)?,
            sets,
            external,
            file,
            constants,
            values: HashMap::from([(image.name, pixels)]),
            producers: file
                .node
                .iter()
                .enumerate()
                .flat_map(|(index, node)| node.output.iter().map(move |output| (output.as_str(), index)))
                .collect(),
            places: HashMap::new(),
            materialised: HashMap::new(),
            placeholders: BTreeMap::new(),
            own: opaque::OwnSteps::new(source.steps),
            takes: Takes::default(),
            output,
            channels: image.channels,
            size: image.size,
            batch: image.batch,
            taken: names.iter().cloned().collect(),
            names,
            nodes: Vec::new(),
            shapes: vec![shape],
            grids: vec![None],
            conv_weights: operators::conv_weights(&file.node),
            float_weights: 0,
            missing: Vec::new(),
            notes: Vec::new(),
            budget: folding::Budget::default(),
            half: half_precision::Seen::default(),
        })
    }

    /// Converts every node that the output depends on, and returns the output.
    fn run(&mut self) -> Result<ValueId, OnnxError> {
        let given: HashSet<&str> = self.constants.keys().chain(self.values.keys()).copied().collect();
        let order = order::needed(self.file, &given, self.output, self.origin)?;
        let read: HashSet<&str> = order
            .iter()
            .flat_map(|&index| order::inputs(&self.file.node[index]))
            .collect();
        let (mut unchecked, mut refused) = (0, Vec::new());
        self.places = order.iter().enumerate().map(|(turn, &index)| (index, turn)).collect();
        for index in order {
            let source = Source {
                proto: &self.file.node[index],
                name: &self.names[index],
                opset: self.opset,
            };
            let converted = self.convert(source, &read);
            if converted.is_err() {
                refused.push(index);
            }
            let values = match converted {
                Ok(values) => values,
                Err(Refusal::Error(error)) => return Err(error),
                Err(Refusal::Tainted) => {
                    unchecked += 1;
                    Vec::new()
                }
                Err(Refusal::Unsupported(reason) | Refusal::Invalid(reason)) => {
                    let domain = source.proto.domain.as_deref().unwrap_or("");
                    let opset = if domain.is_empty() {
                        self.opset
                    } else {
                        boundary::version(self.sets, domain)
                    };
                    self.missing
                        .push(missing(source.name, domain, source.operator(), opset, reason));
                    Vec::new()
                }
            };
            let mut values = values.into_iter();
            for output in &source.proto.output {
                let value = values.next().unwrap_or(Value::Unknown);
                if !output.is_empty() {
                    self.values.insert(output, value);
                }
            }
        }
        if !self.missing.is_empty() {
            let missing = std::mem::take(&mut self.missing);
            let read_until = self.read_until(&refused);
            return Err(dialect::refusal(self.file, missing, unchecked, read_until, self.origin));
        }
        self.notes.extend(self.half.note());
        self.notes.extend(self.float_weights_note());
        let output = match self.values.get(self.output).cloned() {
            Some(Value::Foreign(foreign)) => self.materialised(self.output, &foreign),
            Some(Value::Quantised { real, .. }) => Some(*real),
            value => value,
        };
        let fail = |reason: String| OnnxError::Output {
            origin: self.origin.to_owned(),
            reason,
        };
        let value = match (&output, output.as_ref().and_then(Value::computed)) {
            (Some(Value::View(view)), _) if !view.is_whole() => {
                return Err(fail(format!(
                    "`{}` is {}: expected [N, C, H, W] or [N, F]",
                    self.output,
                    view.describe()
                )));
            }
            (_, Some(value)) => value,
            (None, None) if matches!(self.values.get(self.output), Some(Value::Foreign(_))) => {
                return Err(fail(format!("`{}` is no vector or map per image", self.output)));
            }
            _ => return Err(fail(format!("`{}` does not depend on the image", self.output))),
        };
        let filled = self.fill(value).map_err(|reason| OnnxError::Output {
            origin: self.origin.to_owned(),
            reason,
        })?;
        self.notes.extend(self.opaque_note());
        Ok(filled)
    }

    /// If only the end of the model was refused, has no convolution, and depends on a single value: returns this value
    /// and its shape.
    fn read_until(&self, refused: &[usize]) -> Option<String> {
        let nodes = || refused.iter().map(|&index| &self.file.node[index]);
        if nodes().any(|node| node.op_type.as_deref() == Some("Conv")) {
            return None;
        }
        let value = |name: &str| self.values.get(name).and_then(Value::computed);
        let mut names = nodes().flat_map(order::inputs).filter(|name| value(name).is_some());
        let first = names.next()?;
        let read = value(first)?;
        let convolved = self.nodes.iter().any(|node| matches!(node.op, Op::Conv(_)));
        (convolved && names.all(|name| value(name) == Some(read))).then(|| format!("`{first}` {}", self.shape(read)))
    }

    /// Returns the values of a node's outputs.
    fn convert(&mut self, source: Source<'a>, read: &HashSet<&str>) -> Result<Vec<Value>, Refusal> {
        if let Some(entry) = self.own.entry(source.name) {
            return if source.proto.output.contains(&entry.output) {
                self.own_step(entry).map(|value| vec![value])
            } else {
                Ok(Vec::new())
            };
        }
        let nodes = self.nodes.len();
        if let Some(value) = self.pattern(source) {
            return Ok(vec![value]);
        }
        self.takes = self.takes_foreign(source);
        let foreign = self.reads_foreign(source);
        // Values of such a node stay inside an opaque step, but their sizes can still be inferred.
        let inside = foreign && self.takes == Takes::Nothing && !matches!(source.operator(), "Shape" | "Size");
        let native = if inside {
            self.foreign(source).or_else(|_| self.native(source, read))
        } else {
            self.native(source, read)
        };
        let first = match native {
            Err(first @ (Refusal::Unsupported(_) | Refusal::Tainted)) => first,
            settled => return settled,
        };
        // Removes all nodes that the failed attempt added.
        self.roll_back(nodes);
        self.foreign(source).map_err(|second| match (first, second) {
            (Refusal::Unsupported(first), Refusal::Unsupported(second)) => {
                let known = operators::find(source.operator()).is_some();
                let reason = match (known, second == opaque::UNKNOWN) {
                    (true, true) => first,
                    (true, false) => format!("{first}; as part of an opaque step: {second}"),
                    (false, _) => second,
                };
                Refusal::Unsupported(reason)
            }
            (_, second) => second,
        })
    }

    /// Removes all nodes after the first `nodes`.
    fn roll_back(&mut self, nodes: usize) {
        self.nodes.truncate(nodes);
        self.shapes.truncate(nodes + 1);
        self.grids.truncate(nodes + 1);
        self.placeholders.retain(|id, _| id.0 <= nodes);
        self.materialised
            .retain(|_, value| value.computed().is_none_or(|value| value.0 <= nodes));
    }

    /// Returns whether a node reads a foreign value.
    fn reads_foreign(&self, source: Source<'a>) -> bool {
        order::inputs(source.proto).any(|name| matches!(self.values.get(name), Some(Value::Foreign(_))))
    }

    /// Returns how a node treats foreign values. Convolutions, norms, pools and dense layers end an opaque step, and so
    /// does a node that also reads a value of the graph.
    fn takes_foreign(&mut self, source: Source<'a>) -> Takes {
        if !self.reads_foreign(source) {
            return Takes::Nothing;
        }
        match source.operator() {
            "MatMul" | "Gemm" | "LayerNormalization" => Takes::ChannelsLast,
            "Conv"
            | "BatchNormalization"
            | "InstanceNormalization"
            | "GroupNormalization"
            | "MaxPool"
            | "AveragePool"
            | "GlobalAveragePool"
            | "ReduceMean"
            | "Resize" => Takes::Values,
            "Add" | "Sub" | "Mul" | "Concat" => {
                let view = order::inputs(source.proto).find_map(|name| self.layout(name));
                let Some(view) = view else { return Takes::Nothing };
                for name in order::inputs(source.proto) {
                    if let Some(Value::Foreign(foreign)) = self.values.get(name).cloned() {
                        // Both operands need the same layout.
                        self.materialised_like(name, &foreign, &view);
                    }
                }
                Takes::Values
            }
            _ => Takes::Nothing,
        }
    }

    /// Returns the values of a node's outputs, computed by operations of the canonical graph.
    fn native(&mut self, source: Source<'a>, read: &HashSet<&str>) -> Result<Vec<Value>, Refusal> {
        let standard = matches!(source.proto.domain.as_deref(), None | Some("" | "ai.onnx"));
        let Some(operator) = operators::find(source.operator()).filter(|_| standard) else {
            return value::unsupported("unknown operator");
        };
        if source.operator() == "Split" {
            return operators::split(self, source);
        }
        if let Some(extra) = source
            .proto
            .output
            .iter()
            .skip(1)
            .find(|output| read.contains(output.as_str()))
        {
            return value::unsupported(format!("its second output `{extra}` is used"));
        }
        let quantised = if operators::moves(source.operator()) {
            self.with_real_inputs(source)
        } else {
            Vec::new()
        };
        let value = operator(self, source);
        let signed = quantised.iter().find_map(|(_, value)| match value {
            Value::Quantised { signed, .. } => Some(*signed),
            _ => None,
        });
        self.values.extend(quantised);
        let mut value = value?;
        if let Some(signed) = signed {
            let real = Box::new(value);
            value = Value::Quantised { real, signed };
        }
        if let Value::Integers { values, .. } = &value {
            self.budget.make(values.len())?;
        }
        Ok(vec![value])
    }
}
