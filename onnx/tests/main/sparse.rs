//! Sparse constants are read as dense ones, within a bound.

use clr_onnx::{
    Backbone, OnnxError,
    proto::{AttributeProto, SparseTensorProto, TensorProto},
};

use crate::support::{Model, tensor};

pub(crate) fn sparse(name: &str, dims: &[i64], indices: &[i64], shape: &[i64], values: &[f32]) -> SparseTensorProto {
    SparseTensorProto {
        values: Some(tensor(name, &[values.len() as i64], values)),
        indices: Some(TensorProto {
            dims: shape.to_vec(),
            data_type: Some(TensorProto::INT64),
            int64_data: indices.to_vec(),
            ..TensorProto::default()
        }),
        dims: dims.to_vec(),
    }
}

fn model(weight: SparseTensorProto) -> Result<Backbone, OnnxError> {
    let mut model = Model::new(13).named("conv", "Conv", &["x", "w"], "y", &[]).output("y");
    model.graph.sparse_initializer.push(weight);
    model.load()
}

fn dense() -> Backbone {
    Model::new(13)
        .floats("w", &[2, 3, 1, 1], &[0.0, 2.0, 0.0, 0.0, 0.0, 3.0])
        .named("conv", "Conv", &["x", "w"], "y", &[])
        .output("y")
        .load()
        .unwrap()
}

#[test]
fn positions_and_coordinates_give_the_dense_weight() {
    let dims = [2, 3, 1, 1];
    assert_eq!(model(sparse("w", &dims, &[1, 5], &[2], &[2.0, 3.0])).unwrap(), dense());
    let coordinates = [0, 1, 0, 0, 1, 2, 0, 0];
    assert_eq!(
        model(sparse("w", &dims, &coordinates, &[2, 4], &[2.0, 3.0])).unwrap(),
        dense()
    );
}

#[test]
fn indices_in_raw_bytes_are_read() {
    let mut weight = sparse("w", &[2, 3, 1, 1], &[], &[2], &[2.0, 3.0]);
    let raw = [1_i64, 5].iter().flat_map(|index| index.to_le_bytes()).collect();
    weight.indices.as_mut().unwrap().raw_data = Some(raw);
    assert_eq!(model(weight).unwrap(), dense());
}

#[test]
fn a_sparse_value_of_a_constant_node_is_read() {
    let value = AttributeProto {
        name: Some("sparse_value".into()),
        sparse_tensor: Some(sparse("", &[2, 3, 1, 1], &[1, 5], &[2], &[2.0, 3.0])),
        r#type: Some(11),
        ..AttributeProto::default()
    };
    let model = Model::new(13)
        .node("Constant", &[], "w", &[value])
        .named("conv", "Conv", &["x", "w"], "y", &[]);
    assert_eq!(model.output("y").load().unwrap().graph(), dense().graph());
}

#[test]
fn inconsistent_sparse_constants_are_reported() {
    let dims = [2, 3, 1, 1];
    let cases = [
        (sparse("w", &dims, &[1, 6], &[2], &[2.0, 3.0]), "an index is outside"),
        (sparse("w", &dims, &[1, -1], &[2], &[2.0, 3.0]), "an index is outside"),
        (sparse("w", &dims, &[1], &[1], &[2.0, 3.0]), "2 values for 1 indices"),
        (
            sparse("w", &dims, &[0, 1, 0, 0], &[2, 2], &[2.0, 3.0]),
            "indices of shape",
        ),
        (sparse("w", &[-2, 3, 1, 1], &[1], &[1], &[2.0]), "a negative dimension"),
        (
            sparse("w", &[1 << 20, 1 << 20], &[1], &[1], &[2.0]),
            "out of proportion",
        ),
        (
            sparse("w", &[i64::MAX, i64::MAX], &[1], &[1], &[2.0]),
            "out of proportion",
        ),
    ];
    for (weight, word) in cases {
        let text = model(weight).unwrap_err().to_string();
        assert!(
            text.contains("tensor `w`: sparse") && text.contains(word),
            "no '{word}' in: {text}"
        );
    }
}

/// Each of them alone is small enough.
#[test]
fn many_large_sparse_constants_together_are_refused() {
    let mut model = Model::new(13).conv().output("c");
    let part = |index| sparse(&format!("s{index}"), &[1 << 20], &[1], &[1], &[2.0]);
    model.graph.sparse_initializer.extend((0..3).map(part));
    assert!(model.error().contains("out of proportion"));
}
