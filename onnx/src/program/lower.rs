//! Lowering of the canonical graph to steps.

use std::{collections::HashSet, sync::Arc};

use super::{
    ConvStep, Program, Step, StepOp,
    fuse::{Group, Role, fuse, separate},
    norm::{affine_of_norm, frozen_epilogue},
    simplify::simplify,
};
use crate::{Activation, Graph, OnnxError, Op, Shape, ValueId, backbone::Backbone};

pub(super) fn lower(backbone: &Backbone, size: [usize; 2]) -> Result<Program, OnnxError> {
    let shapes = backbone.value_shapes(size[0], size[1])?;
    let roles = fuse(backbone.graph(), backbone.sites(), &shapes);
    let mut program = steps(backbone, shapes, roles);
    simplify(&mut program.steps, &program.shapes, program.features);
    Ok(finish(program, backbone.graph()))
}

pub(super) fn unfused(backbone: &Backbone, size: [usize; 2]) -> Result<Program, OnnxError> {
    let shapes = backbone.value_shapes(size[0], size[1])?;
    let roles = separate(backbone.graph(), backbone.sites());
    Ok(finish(steps(backbone, shapes, roles), backbone.graph()))
}

fn finish(mut program: Program, graph: &Graph) -> Program {
    drop_dead(&mut program.steps, graph);
    find_last_uses(&mut program.steps, graph);
    program
}

/// Returns the steps of nodes with these roles.
fn steps(backbone: &Backbone, shapes: Vec<Shape>, roles: Vec<Role>) -> Program {
    let graph = backbone.graph();
    let mut steps = Vec::with_capacity(roles.len());
    for (index, role) in roles.into_iter().enumerate() {
        let alone = |start: usize, activation| {
            let node = &graph.nodes[start];
            let op = match &node.op {
                Op::Concat => {
                    let channels: usize = node.inputs.iter().map(|input| shapes[input.0].channels()).sum();
                    let index = (0..channels as u32).collect();
                    StepOp::Gather { index }
                }
                op => plain(op, activation),
            };
            (start, op, node.inputs.clone())
        };
        let ((start, op, inputs), grid) = match role {
            Role::Inside => continue,
            Role::Ends(group) => (conv(backbone, &group, &shapes), group.grid),
            Role::Alone => (alone(index, None), None),
            Role::Finishes {
                start,
                activation,
                grid,
            } => (alone(start, activation), grid),
        };
        steps.push(Step {
            name: graph.nodes[start].name.clone(),
            op,
            inputs,
            output: ValueId::of_node(index),
            last_uses: Vec::new(),
            grid,
        });
    }
    Program {
        steps,
        shapes,
        features: graph.features,
        sites: backbone.sites().len(),
    }
}

fn conv(backbone: &Backbone, group: &Group, shapes: &[Shape]) -> (usize, StepOp, Vec<ValueId>) {
    let nodes = &backbone.graph().nodes;
    let site = &backbone.sites()[group.site];
    let node = &nodes[site.conv];
    let Op::Conv(conv) = &node.op else {
        unreachable!("sites are convolutions")
    };
    let norm = site.norm.and_then(|norm| match &nodes[norm].op {
        Op::BatchNorm(norm) => Some(norm),
        _ => None,
    });
    let (scale, bias) = frozen_epilogue(conv, norm);
    let size = shapes[node.inputs[0].0].spatial().unwrap_or([1, 1]);
    let step = ConvStep {
        site: group.site,
        pads: conv.padding.resolve(size, conv.kernel(), conv.stride, conv.dilation),
        conv: conv.clone(),
        scale,
        bias,
        shortcut: group.shortcut.is_some(),
        activation: group.activation,
        inner: group.inner,
    };
    let inputs = node.inputs.iter().copied().chain(group.shortcut).collect();
    (site.conv, StepOp::Conv(Box::new(step)), inputs)
}

fn plain(op: &Op, activation: Option<Activation>) -> StepOp {
    match op {
        Op::BatchNorm(norm) => {
            let (scale, bias) = affine_of_norm(norm, None);
            StepOp::Affine {
                scale,
                bias,
                activation,
            }
        }
        Op::ChannelAffine { scale, bias } => StepOp::Affine {
            scale: scale.data().to_vec(),
            bias: bias.data().to_vec(),
            activation,
        },
        Op::Add => StepOp::Add { activation },
        Op::GatherChannels { index } => StepOp::Gather {
            index: Arc::clone(index),
        },
        other => StepOp::Node(other.clone()),
    }
}

fn drop_dead(steps: &mut Vec<Step>, graph: &Graph) {
    let mut needed = HashSet::from([graph.features]);
    let mut live: Vec<bool> = (steps.iter().rev())
        .map(|step| {
            let live = needed.contains(&step.output);
            if live {
                needed.extend(&step.inputs);
            }
            live
        })
        .collect();
    steps.retain(|_| live.pop().unwrap_or(true));
}

fn find_last_uses(steps: &mut [Step], graph: &Graph) {
    let mut seen = HashSet::from([graph.features]);
    for step in steps.iter_mut().rev() {
        for &input in &step.inputs {
            if seen.insert(input) {
                step.last_uses.push(input);
            }
        }
    }
}
