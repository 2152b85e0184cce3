//! The canonical form does not change when a backbone is written and read again.

use clr_onnx::{Activation, Backbone, Conv, Graph, Node, Op, Padding, Tensor, ValueId};
use proptest::prelude::*;

use crate::{
    round_trip::conv,
    support::{backbone, head},
};

/// Generates chains of operations on 3 channels that the canonical form may merge.
fn chain() -> impl Strategy<Value = Graph> {
    let value = prop_oneof![
        Just(0.0_f32),
        Just(-0.0),
        Just(1.0),
        Just(3.0),
        Just(6.0),
        Just(1.0 / 6.0),
        -2.0_f32..2.0
    ];
    let vector = prop_oneof![
        value.clone().prop_map(|value| vec![value; 3]),
        proptest::collection::vec(value, 3)
    ]
    .prop_map(|values| Tensor::new([3], values));
    let affine = (vector.clone(), vector).prop_map(|(scale, bias)| Op::ChannelAffine { scale, bias });
    let op = prop_oneof![
        affine.clone(),
        affine,
        Just(Op::Activation(Activation::Clip { min: 0.0, max: 6.0 })),
        Just(Op::Activation(Activation::Sigmoid)),
        Just(Op::Activation(Activation::HardSigmoid {
            alpha: 1.0 / 6.0,
            beta: 0.5
        })),
        Just(Op::Mul),
        Just(Op::Add),
        any::<bool>().prop_map(|bias| conv(3, 3, 1, 1, Padding::SameUpper, bias)),
    ];
    proptest::collection::vec((op, any::<proptest::sample::Index>(), any::<bool>()), 1..12).prop_map(|steps| {
        let mut nodes: Vec<Node> = Vec::new();
        for (op, other, last) in steps {
            let at = nodes.len();
            let near = ValueId(if last { at } else { other.index(at + 1) });
            let far = ValueId(other.index(at + 1));
            let op = if let Op::Conv(conv) = op {
                Op::Conv(Conv { stride: [1, 1], ..conv })
            } else {
                op
            };
            let inputs = if matches!(op, Op::Add | Op::Mul) {
                vec![near, far]
            } else {
                vec![near]
            };
            nodes.push(Node {
                name: format!("n{at}"),
                op,
                inputs,
            });
        }
        nodes.push(Node {
            name: "pool".into(),
            op: Op::GlobalAveragePool,
            inputs: vec![ValueId(nodes.len())],
        });
        nodes.push(Node {
            name: "flat".into(),
            op: Op::Flatten,
            inputs: vec![ValueId(nodes.len())],
        });
        Graph {
            input_channels: 3,
            features: ValueId(nodes.len()),
            nodes,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_canonical_form_is_stable_under_writing_and_reading(graph in chain()) {
        let written = backbone(graph, Some(head(3, 2)));
        let read = Backbone::from_bytes(&written.to_bytes(), "memory").unwrap();
        prop_assert_eq!(&read, &written);
        prop_assert_eq!(read.digest(), written.digest());
    }
}

/// Regression test, found by the test above. Scale and shift before a clip are one node here and two nodes in a file,
/// where only the shift belongs to the activation.
#[test]
fn a_scaled_shift_before_a_hard_sigmoid_is_the_same_backbone_again() {
    for offset in [0.0, 0.25] {
        let affine = |scale: f32, bias: f32| Op::ChannelAffine {
            scale: Tensor::new([3], vec![scale; 3]),
            bias: Tensor::new([3], vec![bias; 3]),
        };
        let clip = Op::Activation(Activation::Clip { min: 0.0, max: 6.0 });
        let ops = [
            affine(-0.5, 3.0),
            clip,
            affine(1.0 / 6.0, offset),
            Op::GlobalAveragePool,
            Op::Flatten,
        ];
        let nodes = ops.into_iter().enumerate().map(|(index, op)| Node {
            name: format!("n{index}"),
            op,
            inputs: vec![ValueId(index)],
        });
        let graph = Graph {
            input_channels: 3,
            nodes: nodes.collect(),
            features: ValueId(5),
        };
        let written = backbone(graph, Some(head(3, 2)));
        let read = Backbone::from_bytes(&written.to_bytes(), "memory").unwrap();
        assert_eq!(read, written, "offset {offset}");
        assert_eq!(read.digest(), written.digest());
        let hard = |node: &Node| matches!(node.op, Op::Activation(Activation::HardSigmoid { .. }));
        assert!(written.graph().nodes.iter().any(hard), "offset {offset}");
    }
}
