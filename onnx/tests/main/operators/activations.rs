//! Activations, and the ways in which exporters write them.

use clr_onnx::{Activation, Op};

use super::{after_conv, vector};
use crate::support::{Model, float};

#[test]
fn activations_keep_their_parameters() {
    let cases = [
        ("Relu", vec![], Activation::Relu),
        ("LeakyRelu", vec![], Activation::LeakyRelu { alpha: 0.01 }),
        (
            "LeakyRelu",
            vec![float("alpha", 0.3)],
            Activation::LeakyRelu { alpha: 0.3 },
        ),
        ("Sigmoid", vec![], Activation::Sigmoid),
        ("HardSigmoid", vec![], Activation::HardSigmoid { alpha: 0.2, beta: 0.5 }),
        ("HardSwish", vec![], Activation::HardSwish),
        (
            "Clip",
            vec![float("min", 0.0), float("max", 6.0)],
            Activation::Clip { min: 0.0, max: 6.0 },
        ),
    ];
    for (op, attributes, expected) in cases {
        assert_eq!(
            after_conv(Model::new(14).conv().node(op, &["c"], "y", &attributes)),
            [Op::Activation(expected)],
            "{op}"
        );
    }
}

#[test]
fn clip_takes_its_bounds_from_inputs_and_may_leave_one_open() {
    let model = || {
        Model::new(13)
            .conv()
            .floats("low", &[], &[0.0])
            .floats("high", &[], &[6.0])
    };
    let clip = |min, max| vec![Op::Activation(Activation::Clip { min, max })];
    assert_eq!(
        after_conv(model().node("Clip", &["c", "low", "high"], "y", &[])),
        clip(0.0, 6.0)
    );
    assert_eq!(
        after_conv(model().node("Clip", &["c", "", "high"], "y", &[])),
        clip(f32::NEG_INFINITY, 6.0)
    );
    assert_eq!(
        after_conv(model().node("Clip", &["c", "low"], "y", &[])),
        clip(0.0, f32::INFINITY)
    );
    assert_eq!(after_conv(model().node("Clip", &["c"], "y", &[])), []);
}

#[test]
fn prelu_slopes_become_one_per_channel() {
    for (dims, values, expected) in [
        (&[2, 1, 1][..], &[0.1, 0.2][..], [0.1, 0.2]),
        (&[1], &[0.3], [0.3, 0.3]),
        (&[1, 2, 1, 1], &[0.1, 0.2], [0.1, 0.2]),
    ] {
        let ops = after_conv(
            Model::new(13)
                .conv()
                .floats("s", dims, values)
                .node("PRelu", &["c", "s"], "y", &[]),
        );
        assert_eq!(
            ops,
            [Op::PRelu {
                slope: vector(&expected)
            }]
        );
    }
}

#[test]
fn x_times_sigmoid_of_x_is_a_silu_in_either_order() {
    for inputs in [["c", "s"], ["s", "c"]] {
        let model = Model::new(13)
            .conv()
            .node("Sigmoid", &["c"], "s", &[])
            .node("Mul", &inputs, "y", &[]);
        assert_eq!(after_conv(model), [Op::Activation(Activation::Silu)]);
    }
}

#[test]
fn a_sigmoid_that_is_read_twice_stays_a_sigmoid() {
    let model = Model::new(13)
        .conv()
        .node("Sigmoid", &["c"], "s", &[])
        .node("Mul", &["c", "s"], "m", &[])
        .node("Add", &["m", "s"], "y", &[]);
    assert_eq!(
        after_conv(model),
        [Op::Activation(Activation::Sigmoid), Op::Mul, Op::Add]
    );
}

#[test]
fn hard_swish_is_found_in_every_spelling() {
    let base = || {
        Model::new(13)
            .conv()
            .floats("3", &[], &[3.0])
            .floats("6", &[], &[6.0])
            .floats("0", &[], &[0.0])
            .floats("sixth", &[], &[1.0 / 6.0])
    };
    let clipped = || {
        base()
            .node("Add", &["c", "3"], "a", &[])
            .node("Clip", &["a", "0", "6"], "k", &[])
    };
    let spellings = [
        clipped()
            .node("Mul", &["c", "k"], "m", &[])
            .node("Div", &["m", "6"], "y", &[]),
        clipped()
            .node("Mul", &["k", "c"], "m", &[])
            .node("Mul", &["m", "sixth"], "y", &[]),
        clipped()
            .node("Div", &["k", "6"], "g", &[])
            .node("Mul", &["c", "g"], "y", &[]),
        base()
            .node(
                "HardSigmoid",
                &["c"],
                "g",
                &[float("alpha", 1.0 / 6.0), float("beta", 0.5)],
            )
            .node("Mul", &["c", "g"], "y", &[]),
    ];
    for model in spellings {
        assert_eq!(after_conv(model), [Op::Activation(Activation::HardSwish)]);
    }
    let gate = clipped().node("Div", &["k", "6"], "y", &[]);
    assert_eq!(
        after_conv(gate),
        [Op::Activation(Activation::HardSigmoid {
            alpha: 1.0 / 6.0,
            beta: 0.5
        })]
    );
}
