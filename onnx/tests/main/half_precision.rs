//! Files that are completely or partly in half precision give the float backbone with the same values, and a note
//! states it.

use clr_onnx::{
    Backbone,
    proto::{AttributeProto, TensorProto},
};

use crate::support::{Model, int, tensor};

const FLOAT: i64 = 1;
const FLOAT16: i64 = 10;
const DOUBLE: i64 = 11;
const BFLOAT16: i64 = 16;

/// Values that both half-precision formats represent exactly.
const WEIGHTS: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];

fn raw(kind: i64, values: &[f32]) -> TensorProto {
    let word = |value: &f32| {
        if kind == BFLOAT16 {
            half::bf16::from_f32(*value).to_le_bytes()
        } else {
            half::f16::from_f32(*value).to_le_bytes()
        }
    };
    TensorProto {
        data_type: Some(kind as i32),
        raw_data: Some(values.iter().flat_map(word).collect()),
        ..tensor("h", &[2, 3, 1, 1], &[])
    }
}

/// Returns a tensor with the bits of each value in `int32_data`, as some exporters store them.
fn bits(kind: i64, values: &[f32]) -> TensorProto {
    let word = |value: &f32| {
        i32::from(if kind == BFLOAT16 {
            half::bf16::from_f32(*value).to_bits()
        } else {
            half::f16::from_f32(*value).to_bits()
        })
    };
    TensorProto {
        data_type: Some(kind as i32),
        int32_data: values.iter().map(word).collect(),
        ..tensor("h", &[2, 3, 1, 1], &[])
    }
}

fn plain() -> Backbone {
    Model::new(13).conv().output("c").load().unwrap()
}

fn noted(backbone: &Backbone) -> bool {
    backbone.notes().iter().any(|note| note.contains("half precision"))
}

#[test]
fn weights_in_half_precision_are_widened_and_that_is_noted() {
    for kind in [FLOAT16, BFLOAT16] {
        for weight in [raw(kind, &WEIGHTS), bits(kind, &WEIGHTS)] {
            let constant = AttributeProto {
                i: None,
                t: Some(weight.clone()),
                ..int("value", 0)
            };
            let mut given = Model::new(13).node("Cast", &["h"], "w", &[int("to", FLOAT)]);
            given.graph.initializer.push(weight);
            let written =
                Model::new(13)
                    .node("Constant", &[], "h", &[constant])
                    .node("Cast", &["h"], "w", &[int("to", FLOAT)]);
            for model in [given, written] {
                let model = model.named("conv", "Conv", &["x", "w"], "c", &[]).output("c");
                let backbone = model.load().unwrap();
                assert_eq!(backbone.digest(), plain().digest());
                assert!(noted(&backbone), "{:?}", backbone.notes());
            }
        }
    }
    assert!(!noted(&plain()));
}

#[test]
fn casts_between_floats_change_nothing() {
    for kind in [FLOAT16, BFLOAT16, DOUBLE] {
        let model = Model::new(13)
            .floats("w", &[2, 3, 1, 1], &WEIGHTS)
            .node("Cast", &["x"], "xh", &[int("to", kind)])
            .node("Cast", &["w"], "wh", &[int("to", kind)])
            .named("conv", "Conv", &["xh", "wh"], "ch", &[])
            .node("Cast", &["ch"], "back", &[int("to", FLOAT)])
            .node("CastLike", &["back", "x"], "c", &[])
            .output("c");
        let backbone = model.load().unwrap();
        assert_eq!(backbone.digest(), plain().digest());
        assert_eq!(noted(&backbone), kind != DOUBLE);
    }
}

#[test]
fn an_image_in_half_precision_is_an_image() {
    for kind in [FLOAT16, BFLOAT16] {
        let mut model = Model::new(13);
        let input = model.graph.input[0].r#type.as_mut().unwrap();
        input.tensor_type.as_mut().unwrap().elem_type = Some(kind as i32);
        model.graph.initializer.push(TensorProto {
            name: Some("w".into()),
            ..raw(kind, &WEIGHTS)
        });
        let model = model.named("conv", "Conv", &["x", "w"], "c", &[]).output("c");
        assert_eq!(model.load().unwrap().digest(), plain().digest());
    }
}

#[test]
fn a_cast_that_drops_the_fraction_is_refused() {
    let text = Model::new(13)
        .conv()
        .node("Cast", &["c"], "y", &[int("to", 7)])
        .output("y")
        .error();
    assert!(text.contains("`y` is no vector or map per image"), "{text}");
}
