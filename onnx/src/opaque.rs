//! Opaque steps: parts of a network that no operation of the canonical graph expresses, kept as ONNX nodes.
//!
//! A step is a small ONNX model of standard operators, which contains its constants. Its inputs and its single output
//! are values of the graph (`[N, C, H, W]` or `[N, F]`). It is executed for one image at a time (N = 1), because files
//! with a fixed batch compute nothing else. Its shapes are those of the input size at which the network was imported.

use prost::Message as _;

use crate::{
    Shape,
    proto::{
        DimensionProto, GraphProto, ModelProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TensorTypeProto,
        TypeProto, ValueInfoProto,
    },
};

/// File format version of a step's model (ONNX 1.12).
const IR_VERSION: i64 = 8;

/// A part of a network as ONNX nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Opaque {
    opset: i64,
    /// Names of values: `x0` … for the inputs, `y` for the output, `c0` … for constants and `v0` … for inner values.
    graph: GraphProto,
    inputs: Vec<Shape>,
    output: Shape,
    /// Whether the nodes support only a batch of one.
    single: bool,
}

impl Opaque {
    /// Returns the name of input `index` in [`Opaque::model`].
    pub fn input_name(index: usize) -> String {
        format!("x{index}")
    }

    /// The name of the output in [`Opaque::model`].
    pub const OUTPUT: &'static str = "y";

    /// Creates a step from `graph`, whose values have these names. Its inputs and outputs are not declared yet.
    pub(crate) fn new(opset: i64, mut graph: GraphProto, inputs: Vec<Shape>, output: Shape, single: bool) -> Self {
        graph.name = Some("opaque".to_owned());
        graph.input = (inputs.iter().enumerate())
            .map(|(index, &shape)| info(&Self::input_name(index), shape))
            .collect();
        graph.output = vec![info(Self::OUTPUT, output)];
        Self {
            opset,
            graph,
            inputs,
            output,
            single,
        }
    }

    /// Returns the shapes of the step's inputs, in the order of the node's inputs.
    pub fn inputs(&self) -> &[Shape] {
        &self.inputs
    }

    /// Returns the shape of the step's output.
    pub fn output(&self) -> Shape {
        self.output
    }

    /// Returns the step's operators, in order.
    pub fn operators(&self) -> impl Iterator<Item = &str> {
        self.graph.node.iter().filter_map(|node| node.op_type.as_deref())
    }

    /// Returns whether the step's nodes support only a batch of one.
    pub fn is_single(&self) -> bool {
        self.single
    }

    /// Returns the bytes of the step's ONNX model. The model has the inputs `x0`, `x1` … and the output `y`, for one
    /// image (N = 1).
    pub fn model(&self) -> Vec<u8> {
        let model = ModelProto {
            ir_version: Some(IR_VERSION),
            graph: Some(self.graph.clone()),
            opset_import: vec![OperatorSetIdProto {
                domain: Some(String::new()),
                version: Some(self.opset),
            }],
            ..ModelProto::default()
        };
        model.encode_to_vec()
    }

    /// Returns the number of bytes of the step's constants.
    pub fn constant_bytes(&self) -> usize {
        let bytes = |tensor: &TensorProto| tensor.raw_data.as_ref().map_or(0, Vec::len);
        self.graph.initializer.iter().map(bytes).sum()
    }

    pub(crate) fn opset(&self) -> i64 {
        self.opset
    }

    pub(crate) fn graph(&self) -> &GraphProto {
        &self.graph
    }

    /// Returns the output's shape, or the reason why the inputs do not fit.
    pub(crate) fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        if inputs == self.inputs {
            return Ok(self.output);
        }
        let list = |shapes: &[Shape]| shapes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        Err(format!(
            "an opaque step keeps the size at which the network was imported: expected {}, got {}\nhint: import the network \
             from a file that was exported at this size",
            list(&self.inputs),
            list(inputs)
        ))
    }
}

fn info(name: &str, shape: Shape) -> ValueInfoProto {
    let dim = |size: usize| DimensionProto {
        dim_value: Some(size as i64),
        dim_param: None,
    };
    let dims = [1].into_iter().chain(shape.dims().iter().copied()).map(dim);
    let shape = Some(TensorShapeProto { dim: dims.collect() });
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: Some(TensorProto::FLOAT),
                shape,
            }),
        }),
    }
}
