//! One operation of a fused plan, as tract sees it: an op with fixed shapes over blocked f32 values.

use std::{ops::Range, sync::Arc};

use tract_onnx::{
    prelude::{DatumType, DatumTypeExt as _},
    tract_core::internal::{
        EvalContext, EvalOp, Op, StaticName, TValue, TVec, Tensor, TractResult, TypedFact, TypedOp, Validation, as_op,
        bail, op_as_typed_op, op_out_of_plan, tvec,
    },
};

use clr_kernels::{
    self as kernels, Binary, Bounds, LANES, Level, PoolShape, Site, Smooth, activate, affine, binary, dense,
    global_average, pool, prelu, unblock,
};

/// Where a step's per-channel parameters come from.
#[derive(Clone, Debug)]
pub(super) enum Parameters {
    /// The backbone.
    Frozen(Arc<[f32]>),
    /// This part of the adapter's tensor, which is the step's last input.
    Adapter(Range<usize>),
}

/// What a step computes. Values are `[⌈C / 16⌉, H, W, 16]`, vectors `[F]`, the picture `[1, H, W, C]`.
#[derive(Debug)]
pub(super) enum Work {
    /// A convolution with everything behind it; inputs: value, residual if any, adapter if the parameters are its.
    Site {
        site: Site,
        parameters: Parameters,
        residual: bool,
    },
    /// The picture in blocks.
    Block { channels: usize },
    /// Per-channel scale and bias, clamped.
    Affine {
        parameters: Arc<[f32]>,
        plane: usize,
        bounds: Bounds,
    },
    /// Leaky per channel.
    PRelu { slope: Arc<[f32]>, plane: usize },
    /// A clamp and a smooth activation.
    Activation { bounds: Bounds, smooth: Option<Smooth> },
    /// A sum or product, clamped. With `swap`, the second input is the larger one.
    Binary {
        op: Binary,
        plane: usize,
        swap: bool,
        bounds: Bounds,
    },
    /// Joining along the channels.
    Concat { channels: Vec<usize>, pixels: usize },
    /// Pooling.
    Pool(PoolShape),
    /// Mean over the plane.
    GlobalAverage { plane: usize },
    /// A border.
    Pad {
        size: [usize; 2],
        pads: [usize; 4],
        value: f32,
    },
    /// Blocks to a vector in NCHW order.
    Flatten { channels: usize },
    /// A vector to blocks of one pixel.
    Unflatten,
    /// A dense layer.
    Dense { weight: Arc<[f32]>, bias: Arc<[f32]> },
}

/// A [`Work`] with its output shape and where it runs.
#[derive(Debug)]
pub(super) struct StepBody {
    pub work: Work,
    pub output: Vec<usize>,
    pub level: Level,
    pub threads: usize,
}

/// The tract op.
#[derive(Clone, Debug)]
pub(super) struct Step(pub Arc<StepBody>);

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Step {}

impl Op for Step {
    fn name(&self) -> StaticName {
        match &self.0.work {
            Work::Site { .. } => "ClrSite",
            Work::Block { .. } => "ClrBlock",
            Work::Affine { .. } => "ClrAffine",
            Work::PRelu { .. } => "ClrPRelu",
            Work::Activation { .. } => "ClrActivation",
            Work::Binary { .. } => "ClrBinary",
            Work::Concat { .. } => "ClrConcat",
            Work::Pool(_) => "ClrPool",
            Work::GlobalAverage { .. } => "ClrGlobalAverage",
            Work::Pad { .. } => "ClrPad",
            Work::Flatten { .. } => "ClrFlatten",
            Work::Unflatten => "ClrUnflatten",
            Work::Dense { .. } => "ClrDense",
        }
        .into()
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for Step {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        // SAFETY: every f32 bit pattern is a value, and `StepBody::run` writes all of the output.
        let mut output = unsafe { Tensor::uninitialized::<f32>(&self.0.output)? };
        {
            let views = inputs.iter().map(|input| input.try_as_plain_ram()?.as_slice::<f32>());
            let views = views.collect::<TractResult<TVec<&[f32]>>>()?;
            self.0
                .run(&views, output.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?)?;
        }
        Ok(tvec!(output.into()))
    }
}

impl TypedOp for Step {
    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(DatumType::F32.fact(self.0.output.as_slice())))
    }

    as_op!();
}

impl StepBody {
    fn run(&self, inputs: &[&[f32]], out: &mut [f32]) -> TractResult<()> {
        let level = self.level;
        let (Some(&x), last) = (inputs.first(), inputs.last()) else {
            bail!("a step without inputs")
        };
        match &self.work {
            Work::Site {
                site,
                parameters,
                residual,
            } => {
                let parameters = match (parameters, last) {
                    (Parameters::Frozen(parameters), _) => parameters,
                    (Parameters::Adapter(part), Some(adapter)) => &adapter[part.clone()],
                    (Parameters::Adapter(_), None) => bail!("a site without its adapter"),
                };
                site.run(x, parameters, residual.then(|| inputs[1]), out);
            }
            Work::Block { channels } => kernels::block(x, *channels, out),
            Work::Affine {
                parameters,
                plane,
                bounds,
            } => affine(level, x, parameters, *plane, out, *bounds),
            Work::PRelu { slope, plane } => prelu(level, x, slope, *plane, out),
            Work::Activation { bounds, smooth } => {
                for (to, from) in out.iter_mut().zip(x) {
                    // Not `clamp`: the bounds come from a file and may be out of order, which ONNX defines.
                    *to = if *from < bounds.low { bounds.low } else { *from };
                    *to = if *to > bounds.high { bounds.high } else { *to };
                }
                if let Some(smooth) = smooth {
                    activate(level, out, *smooth);
                }
            }
            Work::Binary {
                op,
                plane,
                swap,
                bounds,
            } => {
                let (left, right) = if *swap { (inputs[1], x) } else { (x, inputs[1]) };
                binary(level, *op, left, right, *plane, out, *bounds);
            }
            Work::Concat { channels, pixels } => {
                let parts: Vec<(&[f32], usize)> = inputs.iter().copied().zip(channels.iter().copied()).collect();
                kernels::concat(&parts, *pixels, out);
            }
            Work::Pool(shape) => {
                let (from, to) = (plane(shape.input), plane(shape.output));
                let one = |(x, out): (&[f32], &mut [f32])| pool(level, shape, x, out);
                if self.threads > 1 && x.len() > 1 << 16 {
                    use rayon::prelude::*;
                    x.par_chunks_exact(from).zip(out.par_chunks_exact_mut(to)).for_each(one);
                } else {
                    x.chunks_exact(from).zip(out.chunks_exact_mut(to)).for_each(one);
                }
            }
            Work::GlobalAverage { plane } => global_average(level, x, *plane, out),
            Work::Pad { size, pads, value } => kernels::pad(x, *size, *pads, *value, out),
            Work::Flatten { channels } => unblock(x, *channels, out),
            Work::Unflatten => {
                out[..x.len()].copy_from_slice(x);
                out[x.len()..].fill(0.0);
            }
            Work::Dense { weight, bias } => dense(level, weight, bias, x, out),
        }
        Ok(())
    }
}

/// Values of a block's plane.
fn plane(size: [usize; 2]) -> usize {
    size[0] * size[1] * LANES
}
