use super::*;
use crate::{Architecture, PadMode, Padding, seeded_backbone};

fn programs() -> impl Iterator<Item = (Backbone, Program)> {
    [
        Architecture::EfficientNetLite0,
        Architecture::ResNet18,
        Architecture::MobileNetV2,
    ]
    .into_iter()
    .map(|architecture| {
        let backbone = seeded_backbone(architecture, 1, 3);
        let program = Program::lower(&backbone, [64, 96]).unwrap();
        (backbone, program)
    })
}

#[test]
fn norms_shortcuts_and_activations_are_fused_into_their_convolution() {
    for (backbone, program) in programs() {
        let convolutions = program.steps.iter().filter(|step| matches!(step.op, StepOp::Conv(_)));
        assert_eq!(convolutions.count(), backbone.sites().len());
        let left = |step: &Step| {
            matches!(
                &step.op,
                StepOp::Affine { .. } | StepOp::Add { .. } | StepOp::Node(Op::Activation(_))
            )
        };
        assert!(
            !program.steps.iter().any(left),
            "{:?}",
            program.steps.iter().find(|step| left(step))
        );
    }
}

fn program_of(ops: Vec<(Op, Vec<usize>)>) -> Program {
    let node = |(index, (op, inputs)): (usize, (Op, Vec<usize>))| crate::Node {
        name: format!("node{index}"),
        op,
        inputs: inputs.into_iter().map(ValueId).collect(),
    };
    let nodes: Vec<crate::Node> = ops.into_iter().enumerate().map(node).collect();
    let graph = crate::Graph {
        input_channels: 3,
        features: ValueId(nodes.len()),
        nodes,
    };
    let backbone = Backbone::new("test", graph, None, None, Backbone::default_preprocessing(12, 12)).unwrap();
    Program::lower(&backbone, [12, 12]).unwrap()
}

fn conv(out: usize, input: usize, kernel: usize, padding: Padding) -> Op {
    let shape = [out, input, kernel, kernel];
    Op::Conv(Conv {
        weight: crate::Tensor::new(shape, vec![0.5; shape.iter().product()]).into(),
        bias: None,
        stride: [2; 2],
        dilation: [1; 2],
        group: 1,
        padding,
    })
}

#[test]
fn zero_padding_within_the_kernels_reach_moves_into_the_convolution() {
    let pad = |pads, value| {
        let mode = PadMode::Constant(value);
        Op::Pad { pads, mode }
    };
    let pads_of = |pad: Op, padding| {
        let program = program_of(vec![
            (pad, vec![0]),
            (conv(4, 3, 3, padding), vec![1]),
            (Op::GlobalAveragePool, vec![2]),
            (Op::Flatten, vec![3]),
        ]);
        let conv = program.steps.iter().find_map(|step| match &step.op {
            StepOp::Conv(conv) => Some((conv.pads, conv.conv.padding, step.inputs[0])),
            _ => None,
        });
        (conv.unwrap(), program.steps.len())
    };
    let explicit = Padding::Explicit([1, 0, 0, 1]);
    let joined = [1, 1, 1, 2];
    assert_eq!(
        pads_of(pad([0, 1, 1, 1], 0.0), explicit),
        ((joined, Padding::Explicit(joined), ValueId::IMAGE), 3)
    );
    // Cases that are not merged: another value than zero, more padding than the kernel reaches, a padding that depends
    // on the size.
    for (pad, padding) in [
        (pad([0, 1, 1, 1], 1.0), explicit),
        (pad([0, 1, 1, 2], 0.0), explicit),
        (pad([0, 1, 1, 1], 0.0), Padding::SameUpper),
    ] {
        let ((_, _, input), steps) = pads_of(pad, padding);
        assert_eq!((input, steps), (ValueId(1), 4));
    }
}

#[test]
fn channels_are_moved_once() {
    // Two maps are concatenated and shuffled, and the halves are used separately.
    let shuffle: Vec<u32> = (0..8).map(|at| at % 2 * 4 + at / 2).collect();
    let gather = |index: Vec<u32>| Op::GatherChannels { index: index.into() };
    let one = Padding::Explicit([1; 4]);
    let program = program_of(vec![
        (conv(4, 3, 3, one), vec![0]),
        (conv(4, 3, 3, one), vec![0]),
        (Op::Concat, vec![1, 2]),
        (gather(shuffle), vec![3]),
        (gather((0..4).collect()), vec![4]),
        (gather((4..8).collect()), vec![4]),
        (Op::Concat, vec![6, 5, 3]),
        (Op::GlobalAveragePool, vec![7]),
        (Op::Flatten, vec![8]),
    ]);
    let gathers: Vec<_> = (program.steps.iter())
        .filter_map(|step| match &step.op {
            StepOp::Gather { index } => Some((step.output, step.inputs.clone(), index.to_vec())),
            _ => None,
        })
        .collect();
    let index = vec![2, 6, 3, 7, 0, 4, 1, 5, 0, 1, 2, 3, 4, 5, 6, 7];
    assert_eq!(gathers, [(ValueId(7), vec![ValueId(1), ValueId(2)], index)]);
}

#[test]
fn every_value_is_computed_before_it_is_read_and_released_after_its_last_use() {
    for (_, program) in programs() {
        let mut alive = std::collections::HashSet::from([ValueId::IMAGE]);
        for step in &program.steps {
            assert!(step.inputs.iter().all(|input| alive.contains(input)), "{}", step.name);
            assert!(alive.insert(step.output), "{} is computed twice", step.name);
            assert!(step.last_uses.iter().all(|value| alive.remove(value)), "{}", step.name);
        }
        assert_eq!(alive, [program.features].into());
    }
}

#[test]
fn a_folded_norm_equals_the_norm_of_the_biased_sum() {
    let tensor = |values: &[f32]| crate::Tensor::new([values.len()], values.to_vec());
    let norm = crate::BatchNorm {
        scale: tensor(&[2.0, -1.0]),
        bias: tensor(&[0.5, 0.25]),
        mean: tensor(&[1.0, -3.0]),
        variance: tensor(&[3.0, 0.0]),
        epsilon: 1.0,
    };
    let (scale, bias) = norm::affine_of_norm(&norm, Some(&[2.0, 0.0]));
    assert_eq!(scale, [1.0, -1.0]);
    assert_eq!(bias, [1.5, -2.75]);
}

#[test]
fn block_outputs_are_the_narrow_maps_at_any_input_size() {
    let widths = |architecture, size| {
        let program = Program::lower(&seeded_backbone(architecture, 1, 3), size).unwrap();
        let outputs = program.block_outputs().into_iter();
        outputs
            .map(|value| program.shapes[value.0].channels())
            .collect::<Vec<_>>()
    };
    for size in [[32, 32], [64, 96]] {
        let lite0 = widths(Architecture::EfficientNetLite0, size);
        assert_eq!(lite0, [16, 24, 40, 80, 112, 192, 320]);
        assert_eq!(widths(Architecture::MobileNetV2, size), [16, 24, 32, 64, 96, 160, 320]);
        assert_eq!(widths(Architecture::ResNet18, size), [64, 128, 256, 512]);
    }
}

#[test]
fn the_only_map_of_a_network_is_its_block_output() {
    let program = program_of(vec![
        (conv(8, 3, 3, Padding::Explicit([1; 4])), vec![0]),
        (Op::GlobalAveragePool, vec![1]),
        (Op::Flatten, vec![2]),
    ]);
    assert_eq!(program.block_outputs(), [ValueId(1)]);
}
