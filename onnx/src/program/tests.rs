use super::*;
use crate::{Architecture, seeded_backbone};

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
fn norms_shortcuts_and_activations_join_their_convolution() {
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

#[test]
fn every_value_is_computed_before_it_is_read_and_dies_at_its_last_use() {
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
fn a_folded_norm_is_the_norm_of_the_biased_sum() {
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
