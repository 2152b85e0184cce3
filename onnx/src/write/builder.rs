//! Builder of ONNX models, node by node, with unique names.

use std::collections::HashSet;

use clr_adapters::Preprocessing;

use crate::{
    PreprocessingOrigins, Tensor,
    bias_units::BiasUnits,
    graph::{Graph, Op, PadMode},
    metadata::{self, StepEntry},
    proto::{
        AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
        TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
    },
    resize::Coordinates,
};

/// The opset to write, unless the graph contains an operator that only a later opset has.
pub(crate) const OPSET: i64 = 17;
/// The file format version to write (ONNX 1.12, the first with opset 17).
pub(crate) const IR_VERSION: i64 = 8;

/// A dimension of an input or output.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dim {
    /// The symbolic batch, `N`.
    Batch,
    Fixed(usize),
}

/// A model under construction.
pub(crate) struct Builder {
    pub(super) opset: i64,
    /// The opaque steps among the nodes.
    pub(super) steps: Vec<StepEntry>,
    graph: GraphProto,
    values: HashSet<String>,
    nodes: HashSet<String>,
    metadata: Vec<StringStringEntryProto>,
}

impl Builder {
    /// Returns an empty model with the opset that `graph` needs.
    pub(crate) fn new(graph: &Graph) -> Self {
        let needed = graph.nodes.iter().map(|node| match &node.op {
            Op::Opaque(step) => step.opset(),
            Op::Pad {
                mode: PadMode::Wrap, ..
            } => 19,
            Op::Resize(resize) if resize.coordinates == Coordinates::HalfPixelSymmetric => 19,
            _ => OPSET,
        });
        Self {
            opset: needed.fold(OPSET, i64::max),
            steps: Vec::new(),
            graph: GraphProto::default(),
            values: HashSet::new(),
            nodes: HashSet::new(),
            metadata: Vec::new(),
        }
    }

    /// Keeps `name` free of [`Builder::value`].
    pub(crate) fn reserve_value(&mut self, name: &str) {
        self.values.insert(name.to_owned());
    }

    /// Reserves `name`, so that no helper node gets it.
    pub(crate) fn reserve_node(&mut self, name: &str) {
        self.nodes.insert(name.to_owned());
    }

    /// Returns an unused value name; `wanted` if it is free.
    pub(crate) fn value(&mut self, wanted: &str) -> String {
        fresh(&mut self.values, wanted)
    }

    /// Returns an unused node name; `wanted` if it is free.
    pub(crate) fn helper(&mut self, wanted: &str) -> String {
        fresh(&mut self.nodes, wanted)
    }

    /// Adds a constant with the values `values` and the shape `shape`. Its name is unused and based on `wanted`.
    pub(crate) fn constant(&mut self, wanted: &str, shape: &[usize], values: &[f32]) -> String {
        let name = self.value(wanted);
        self.initializer(&name, shape, values);
        name
    }

    /// Adds a tensor under an unused name based on `wanted`.
    pub(crate) fn tensor(&mut self, wanted: &str, tensor: &Tensor) -> String {
        self.constant(wanted, tensor.shape(), tensor.data())
    }

    /// Adds a tensor of type `kind` from its little-endian bytes, under an unused name based on `wanted`.
    pub(super) fn bytes(&mut self, wanted: &str, kind: i32, shape: &[usize], raw: Vec<u8>) -> String {
        let name = self.value(wanted);
        self.graph.initializer.push(TensorProto {
            dims: shape.iter().map(|&dim| dim as i64).collect(),
            data_type: Some(kind),
            name: Some(name.clone()),
            raw_data: Some(raw),
            ..TensorProto::default()
        });
        name
    }

    /// Adds an integer vector under an unused name based on `wanted`.
    pub(crate) fn integers(&mut self, wanted: &str, values: &[i64]) -> String {
        let name = self.value(wanted);
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.graph.initializer.push(TensorProto {
            dims: vec![values.len() as i64],
            data_type: Some(TensorProto::INT64),
            name: Some(name.clone()),
            raw_data: Some(raw),
            ..TensorProto::default()
        });
        name
    }

    /// Adds an initialiser under exactly this name.
    pub(crate) fn initializer(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.graph.initializer.push(TensorProto {
            dims: shape.iter().map(|&dim| dim as i64).collect(),
            data_type: Some(TensorProto::FLOAT),
            name: Some(name.to_owned()),
            raw_data: Some(raw),
            ..TensorProto::default()
        });
    }

    /// Adds a graph input under exactly this name.
    pub(crate) fn input(&mut self, name: &str, shape: &[Dim]) {
        self.graph.input.push(info(name, shape));
    }

    /// Adds a graph output under exactly this name.
    pub(crate) fn output(&mut self, name: &str, shape: &[Dim]) {
        self.graph.output.push(info(name, shape));
    }

    /// Adds a node with one output.
    pub(crate) fn node(
        &mut self,
        name: &str,
        op: &str,
        inputs: &[&str],
        output: &str,
        attributes: Vec<AttributeProto>,
    ) {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: Some(name.to_owned()),
            op_type: Some(op.to_owned()),
            attribute: attributes,
            domain: None,
        });
    }

    /// Adds a node of an opaque step, unchanged except for new names.
    pub(super) fn raw_node(&mut self, node: NodeProto) {
        self.graph.node.push(node);
    }

    /// Adds a constant of an opaque step, unchanged except for a new name.
    pub(super) fn raw_constant(&mut self, tensor: TensorProto) {
        self.graph.initializer.push(tensor);
    }

    /// Adds the entries of `metadata_props`, after all nodes have been added.
    pub(crate) fn metadata(
        &mut self,
        preprocessing: &Preprocessing,
        origins: PreprocessingOrigins,
        labels: Option<&[String]>,
        classifier: bool,
        bias_units: Option<&BiasUnits>,
    ) {
        let entries = metadata::entries(preprocessing, origins, labels, &self.steps, classifier, bias_units);
        self.metadata
            .extend(entries.into_iter().map(|(key, value)| StringStringEntryProto {
                key: Some(key.to_owned()),
                value: Some(value),
            }));
    }

    /// Returns the finished model.
    pub(crate) fn finish(mut self, name: &str) -> ModelProto {
        self.graph.name = Some(name.to_owned());
        ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some("clr".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            graph: Some(self.graph),
            opset_import: vec![OperatorSetIdProto {
                domain: Some(String::new()),
                version: Some(self.opset),
            }],
            metadata_props: self.metadata,
            ..ModelProto::default()
        }
    }
}

fn fresh(taken: &mut HashSet<String>, wanted: &str) -> String {
    let mut name = wanted.to_owned();
    let mut number = 1;
    while !taken.insert(name.clone()) {
        name = format!("{wanted}_{number}");
        number += 1;
    }
    name
}

fn info(name: &str, shape: &[Dim]) -> ValueInfoProto {
    let dim = shape.iter().map(|dim| match dim {
        Dim::Batch => DimensionProto {
            dim_value: None,
            dim_param: Some("N".to_owned()),
        },
        Dim::Fixed(size) => DimensionProto {
            dim_value: Some(*size as i64),
            dim_param: None,
        },
    });
    let shape = Some(TensorShapeProto { dim: dim.collect() });
    let tensor_type = Some(TensorTypeProto {
        elem_type: Some(TensorProto::FLOAT),
        shape,
    });
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { tensor_type }),
    }
}

/// Returns a constant of floats.
pub(crate) fn raw_floats(shape: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        dims: shape.iter().map(|&dim| dim as i64).collect(),
        data_type: Some(TensorProto::FLOAT),
        raw_data: Some(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        ..TensorProto::default()
    }
}

/// Returns a constant of integers or booleans.
pub(crate) fn raw_integers(shape: &[usize], values: &[i64], bool: bool) -> TensorProto {
    let raw = if bool {
        values.iter().map(|&value| u8::from(value != 0)).collect()
    } else {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    };
    TensorProto {
        dims: shape.iter().map(|&dim| dim as i64).collect(),
        data_type: Some(if bool { TensorProto::BOOL } else { TensorProto::INT64 }),
        raw_data: Some(raw),
        ..TensorProto::default()
    }
}

/// Returns an integer attribute.
pub(crate) fn int(name: &str, value: usize) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        i: Some(value as i64),
        r#type: Some(AttributeProto::INT),
        ..AttributeProto::default()
    }
}

/// Returns a list of integers.
pub(crate) fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().map(|&value| value as i64).collect();
    AttributeProto {
        name: Some(name.to_owned()),
        ints,
        r#type: Some(AttributeProto::INTS),
        ..AttributeProto::default()
    }
}

/// Returns a float attribute.
pub(crate) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        f: Some(value),
        r#type: Some(AttributeProto::FLOAT),
        ..AttributeProto::default()
    }
}

/// Returns a string attribute.
pub(crate) fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        s: Some(value.as_bytes().to_vec()),
        r#type: Some(AttributeProto::STRING),
        ..AttributeProto::default()
    }
}
