//! Builder of ONNX files, node by node, as an exporter would write them.

use clr_adapters::{Head, Preprocessing};
use clr_onnx::{
    Backbone, Graph, OnnxError, Op,
    proto::{
        AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
        TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
    },
};
use prost::Message as _;

pub(crate) struct Model {
    pub(crate) graph: GraphProto,
    pub(crate) opset: i64,
}

impl Model {
    /// A model with input `x [N, 3, 8, 8]`.
    pub(crate) fn new(opset: i64) -> Self {
        let mut model = Self::bare(opset);
        model.graph.input.push(info("x", &[None, Some(3), Some(8), Some(8)]));
        model
    }

    pub(crate) fn bare(opset: i64) -> Self {
        Self {
            graph: GraphProto {
                name: Some("small".into()),
                ..GraphProto::default()
            },
            opset,
        }
    }

    pub(crate) fn floats(mut self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        self.graph.initializer.push(tensor(name, dims, values));
        self
    }

    pub(crate) fn integers(mut self, name: &str, dims: &[i64], values: &[i64]) -> Self {
        self.graph.initializer.push(TensorProto {
            dims: dims.to_vec(),
            data_type: Some(TensorProto::INT64),
            int64_data: values.to_vec(),
            name: Some(name.into()),
            ..TensorProto::default()
        });
        self
    }

    /// Adds a node, which is named after its output.
    pub(crate) fn node(self, op: &str, inputs: &[&str], output: &str, attributes: &[AttributeProto]) -> Self {
        self.named(output, op, inputs, output, attributes)
    }

    pub(crate) fn named(
        mut self,
        name: &str,
        op: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[AttributeProto],
    ) -> Self {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: Some(name.to_owned()),
            op_type: Some(op.to_owned()),
            attribute: attributes.to_vec(),
            domain: None,
        });
        self
    }

    /// Adds a 1×1 convolution named `conv` from 3 to 2 channels, which reads `x` and produces `c`.
    pub(crate) fn conv(self) -> Self {
        self.floats("w", &[2, 3, 1, 1], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
            .named("conv", "Conv", &["x", "w"], "c", &[])
    }

    pub(crate) fn output(mut self, name: &str) -> Self {
        self.graph.output.push(info(name, &[]));
        self
    }

    /// The type of the first input.
    pub(crate) fn image_type(&mut self) -> &mut TensorTypeProto {
        let kind = self.graph.input[0].r#type.as_mut().unwrap();
        kind.tensor_type.as_mut().unwrap()
    }

    pub(crate) fn proto(self) -> ModelProto {
        ModelProto {
            ir_version: Some(8),
            graph: Some(self.graph),
            opset_import: vec![OperatorSetIdProto {
                domain: None,
                version: Some(self.opset),
            }],
            ..ModelProto::default()
        }
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.proto().encode_to_vec()
    }

    pub(crate) fn load(self) -> Result<Backbone, OnnxError> {
        Backbone::from_bytes(&self.bytes(), "folder/small.onnx")
    }

    /// Returns the operations of the imported graph, including the final pool and flattening.
    pub(crate) fn ops(self) -> Vec<Op> {
        let backbone = self.load().unwrap_or_else(|error| panic!("{error}"));
        backbone.graph().nodes.iter().map(|node| node.op.clone()).collect()
    }

    pub(crate) fn error(self) -> String {
        match self.load() {
            Ok(backbone) => panic!("expected an error, got {:?}", backbone.graph()),
            Err(error) => error.to_string(),
        }
    }
}

/// The weights `1, 2, 3 …` scaled down.
pub(crate) fn ramp(count: usize) -> Vec<f32> {
    (0..count).map(|index| (index as f32 + 1.0) / 16.0).collect()
}

pub(crate) fn tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: Some(TensorProto::FLOAT),
        float_data: values.to_vec(),
        name: Some(name.into()),
        ..TensorProto::default()
    }
}

pub(crate) fn info(name: &str, dims: &[Option<i64>]) -> ValueInfoProto {
    let dim = dims.iter().map(|dim| DimensionProto {
        dim_value: *dim,
        dim_param: dim.is_none().then(|| "batch".to_owned()),
    });
    let shape = Some(TensorShapeProto { dim: dim.collect() });
    let tensor_type = Some(TensorTypeProto {
        elem_type: Some(TensorProto::FLOAT),
        shape,
    });
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { tensor_type }),
    }
}

pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        i: Some(value),
        r#type: Some(AttributeProto::INT),
        ..AttributeProto::default()
    }
}

pub(crate) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        ints: values.to_vec(),
        r#type: Some(AttributeProto::INTS),
        ..AttributeProto::default()
    }
}

pub(crate) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        f: Some(value),
        r#type: Some(AttributeProto::FLOAT),
        ..AttributeProto::default()
    }
}

pub(crate) fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        s: Some(value.into()),
        r#type: Some(AttributeProto::STRING),
        ..AttributeProto::default()
    }
}

pub(crate) fn preprocessing(size: u32) -> Preprocessing {
    Backbone::default_preprocessing(size, size)
}

/// Returns a head with `classes` classes on `features`, whose values are a ramp.
pub(crate) fn head(features: usize, classes: usize) -> Head {
    Head {
        features,
        weight: ramp(features * classes),
        bias: ramp(classes),
    }
}

/// A backbone of these nodes at 8 × 8 pixels.
pub(crate) fn backbone(graph: Graph, classifier: Option<Head>) -> Backbone {
    Backbone::new("small", graph, classifier, None, preprocessing(8)).unwrap_or_else(|error| panic!("{error}"))
}
