//! From the network's plan to steps over blocks, for one input size.

use std::sync::{Arc, OnceLock};

use clr_kernels::{Arena, Bounds, ConvGradient, Form, LANES, Level, PoolKind, PoolShape, pack_parameters, split};
use clr_onnx::{Activation, Pool, ValueId};

use super::{Body, SiteWork, Step, Work, buffers::Buffers};
use crate::{
    kernels::pool::Window,
    network::plan::{Plan, StepKind},
};

/// Channels, rows, columns.
type Map = [usize; 3];

impl Body {
    /// The plan for pictures of `size` rows × columns; `None` if it has an operator that is not known here.
    pub(crate) fn compile(plan: &Plan, channels: usize, size: [usize; 2]) -> Option<Self> {
        let (level, arena) = (Level::detect(), Arc::new(Arena::default()));
        let mut maps: Vec<Option<Map>> = vec![None; plan.values];
        maps[0] = Some([channels, size[0], size[1]]);
        let mut steps = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            let input = maps[step.inputs.first()?.0]?;
            let picture = step.inputs.contains(&ValueId::IMAGE);
            let plane = input[1] * input[2] * LANES;
            let (work, output) = match &step.kind {
                StepKind::Site(index) => site(plan, *index, input, picture, level, &arena)?,
                // The picture is not in blocks: only convolutions read it.
                _ if picture => return None,
                StepKind::Affine {
                    scale,
                    bias,
                    activation,
                } => {
                    let (scale, bias): (Vec<f32>, Vec<f32>) = (scale.to_vec1().ok()?, bias.to_vec1().ok()?);
                    let bounds = clamp(*activation)?;
                    let parameters = pack_parameters(&scale, &bias);
                    (
                        Work::Affine {
                            parameters,
                            plane,
                            bounds,
                        },
                        input,
                    )
                }
                StepKind::Activation(activation) => (Work::Activation(clamp(Some(*activation))?), input),
                StepKind::Add { activation } => {
                    if maps[step.inputs.get(1)?.0]? != input {
                        return None;
                    }
                    (Work::Add(clamp(*activation)?), input)
                }
                StepKind::MaxPool(shape) => pool(shape, PoolKind::Max, input)?,
                StepKind::AveragePool(shape) => {
                    let include_pad = shape.count_include_pad;
                    pool(shape, PoolKind::Average { include_pad }, input)?
                }
                StepKind::GlobalAveragePool => (Work::GlobalAverage { plane }, [input[0], 1, 1]),
                StepKind::Flatten if input[1..] == [1, 1] => (Work::Flatten, input),
                _ => return None,
            };
            maps[step.output.0] = Some(output);
            steps.push(Step {
                kept: kept(&work, step.output, &step.inputs),
                work,
                inputs: step.inputs.clone(),
                output: step.output,
                release: step.release.clone(),
            });
        }
        if maps[plan.features.0]? != [plan.feature_count, 1, 1] {
            return None;
        }
        let length = |map: &Option<Map>| map.map_or(0, |[c, h, w]| c.next_multiple_of(LANES) * h * w);
        let mut lengths: Vec<usize> = maps.iter().map(length).collect();
        // The picture is not in blocks.
        lengths[ValueId::IMAGE.0] = channels * size[0] * size[1];
        Some(Self {
            steps,
            lengths,
            features: plan.features,
            feature_count: plan.feature_count,
            channels,
            level,
            arena,
            buffers: Buffers::default(),
        })
    }
}

/// What the way back through a step reads.
fn kept(work: &Work, output: ValueId, inputs: &[ValueId]) -> Vec<ValueId> {
    match work {
        Work::Activation(bounds) | Work::Add(bounds) if *bounds != Bounds::NONE => vec![output],
        Work::Affine { .. } => vec![inputs[0]],
        Work::Pool(shape) if shape.kind == PoolKind::Max => vec![inputs[0]],
        _ => Vec::new(),
    }
}

/// The activation as a clamp.
fn clamp(activation: Option<Activation>) -> Option<Bounds> {
    let Some(activation) = activation else {
        return Some(Bounds::NONE);
    };
    split(activation).and_then(|(bounds, smooth)| smooth.is_none().then_some(bounds))
}

fn pool(pool: &Pool, kind: PoolKind, input: Map) -> Option<(Work, Map)> {
    let size = [input[1], input[2]];
    let window = Window {
        kernel: pool.kernel,
        stride: pool.stride,
        pads: pool.padding.resolve(size, pool.kernel, pool.stride, [1, 1]),
        ceil: pool.ceil,
        count_pad: pool.count_include_pad,
    };
    let output = window.output(size)?;
    let shape = PoolShape {
        kind,
        input: size,
        output,
        kernel: pool.kernel,
        stride: pool.stride,
        pads: window.pads,
    };
    Some((Work::Pool(shape), [input[0], output[0], output[1]]))
}

fn site(plan: &Plan, index: usize, input: Map, picture: bool, level: Level, arena: &Arc<Arena>) -> Option<(Work, Map)> {
    let frozen = &plan.sites[index];
    let conv = frozen.conv.weights();
    // The picture's few channels are not padded to a block.
    if picture && input[0] >= LANES / 2 {
        return None;
    }
    let bounds = clamp(frozen.activation)?;
    let size = [input[1], input[2]];
    let pads = conv.padding.resolve(size, conv.kernel(), conv.stride, conv.dilation);
    let output = frozen.conv.output(size)?;
    if !picture && !ConvGradient::exists(conv, size, output, pads) {
        return None;
    }
    let work = SiteWork {
        index,
        input: size,
        output,
        pads,
        form: Form::choose(conv, picture, output),
        bounds,
        frozen: frozen.conv.clone(),
        forms: OnceLock::new(),
        gradient: OnceLock::new(),
        level,
        arena: Arc::clone(arena),
    };
    Some((Work::Site(Box::new(work)), [conv.channels(), output[0], output[1]]))
}
