//! A convolution of bytes with integer weights.

use std::sync::{Arc, OnceLock};

use clr_kernels::{Bounds, Epilogue, InnerRounding, Int8Conv, Int8Form, Int8Output, Int8Sum, LANES, largest_sum};
use clr_onnx::{Quantisation, QuantisedTensor};

use super::{bytes, bytes_mut, rounding};
use crate::SiteParameters;

/// The result of a convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Result {
    /// Real values, after a clamp; a real shortcut is added before, unless rounding comes between.
    Real {
        /// The activation's bounds.
        bounds: Bounds,
    },
    /// Bytes; a shortcut of bytes is added before.
    Bytes {
        /// The grid of the result.
        grid: Quantisation,
        /// The activation's bounds.
        bounds: Bounds,
        /// The grid of the shortcut, if there is one.
        shortcut: Option<Quantisation>,
        /// The rounding before the shortcut is added.
        inner: Option<Quantisation>,
    },
}

/// A convolution of bytes for one input size. Its parameters are those of the site in units of its sums and its result
/// ([`IntegerConv::scaled`]).
#[derive(Debug)]
pub(crate) struct IntegerConv {
    /// The input's grid.
    pub(crate) input: Quantisation,
    /// How the input is stored.
    pub(crate) form: Int8Form,
    pub(crate) result: Result,
    /// Packed when the convolution runs first: with a scale and a bias, and with a CLR layer.
    forms: OnceLock<[Int8Conv; 2]>,
}

impl IntegerConv {
    /// Creates the convolution of an input on the grid `input`.
    pub(crate) fn new(input: Quantisation, form: Int8Form, result: Result) -> Self {
        Self {
            input,
            form,
            result,
            forms: OnceLock::new(),
        }
    }

    /// Returns parameters of the site in units of the sums and of the result. `weight` are the convolution's weights.
    ///
    /// With the scales `s` of the input, `w` of a channel's weights and `y` of the result (1 if it is real; that of the
    /// rounding before a shortcut, if there is one), weights become `weight · ((s · w) / y)`, and a bias `bias / y`. Every
    /// operation is rounded to f32.
    ///
    /// # Errors
    /// The first channel whose results could leave the range of f32. The rounding to a byte would hide that.
    pub(crate) fn scaled(
        &self,
        weight: &QuantisedTensor,
        parameters: &SiteParameters,
    ) -> std::result::Result<SiteParameters, usize> {
        let unit = match self.result {
            Result::Real { .. } => None,
            Result::Bytes { grid, inner, .. } => Some(inner.unwrap_or(grid).scale),
        };
        let mut blocks = parameters.blocks.to_vec();
        let count = parameters.epilogue.parameters();
        for (channel, (integers, scale)) in weight.rows().enumerate() {
            let block = &mut blocks[channel / LANES * count..][..count];
            let sums = self.input.scale * scale;
            let factor = unit.map_or(sums, |unit| sums / unit);
            let (weights, bias) = block.split_at_mut(count - LANES);
            let mut taps = 0.0_f64;
            for tap in weights.chunks_exact_mut(LANES) {
                let tap = &mut tap[channel % LANES];
                *tap *= factor;
                taps += f64::from(tap.abs());
            }
            let bias = &mut bias[channel % LANES];
            if let Some(unit) = unit {
                *bias /= unit;
            }
            let most = taps * largest_sum(integers) as f64 + f64::from(bias.abs());
            if most.is_nan() || most > f64::from(f32::MAX) {
                return Err(channel);
            }
        }
        Ok(SiteParameters {
            blocks: blocks.into(),
            ..parameters.clone()
        })
    }

    /// Computes the step. `real` is a shortcut to add to real values.
    pub(crate) fn run(
        &self,
        forms: &[Int8Conv; 2],
        parameters: &SiteParameters,
        inputs: &[&[f32]],
        real: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let conv = &forms[usize::from(parameters.epilogue == Epilogue::Kernel)];
        let output = match self.result {
            Result::Real { bounds } => Int8Output::Real {
                out,
                bounds,
                shortcut: real,
            },
            Result::Bytes {
                grid,
                bounds,
                shortcut,
                inner,
            } => Int8Output::Bytes {
                out: bytes_mut(out),
                rounding: rounding(grid, bounds),
                shortcut: shortcut.map(|shortcut| {
                    let sum = Int8Sum {
                        zero_point: shortcut.zero_point,
                        scale: shortcut.scale / grid.scale,
                        inner: inner.map(|inner| InnerRounding {
                            zero_point: inner.zero_point,
                            scale: inner.scale / grid.scale,
                        }),
                    };
                    (bytes(inputs[1]), sum)
                }),
            },
        };
        conv.run(bytes(inputs[0]), self.input.zero_point, &parameters.blocks, output);
    }

    /// Returns the packed forms, which `pack` makes if there are none yet.
    pub(crate) fn forms(&self, pack: impl FnOnce() -> [Int8Conv; 2]) -> &[Int8Conv; 2] {
        self.forms.get_or_init(pack)
    }

    /// Returns the bytes of the packed weights, if they are packed.
    pub(crate) fn packed_bytes(&self) -> usize {
        self.forms
            .get()
            .map_or(0, |forms| Arc::as_ref(&forms[0].weights).bytes())
    }
}

/// Returns whether the sums of a convolution with these weights fit in an i32 for every image.
pub(crate) fn sums_fit(weight: &QuantisedTensor) -> bool {
    weight
        .rows()
        .all(|(integers, _)| i32::try_from(largest_sum(integers)).is_ok())
}
