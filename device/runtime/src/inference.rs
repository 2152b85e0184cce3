//! Inference: the forward pass of one image.

use std::ops::Range;

use clr_kernels::{interleave, quantize_image};
use clr_onnx::{Quantisation, ValueId};

use crate::{
    Executable, SiteParameters,
    executable::{Step, Work},
    integer::{Stored, bytes_mut},
    memory::{Buffer, Lent, Memory},
};

/// A value of [`Executable::trace`].
#[derive(Debug)]
pub enum Traced<'a> {
    /// Real values in blocks of sixteen channels, `[⌈C / 16⌉, H, W, 16]`.
    Real(&'a mut [f32]),
    /// Bytes on a grid, in the same blocks.
    Bytes(Quantisation, &'a mut [u8]),
    /// Bytes of the image on a grid, `[H, W, 4]`.
    PixelBytes(Quantisation, &'a mut [u8]),
}

/// Values of a pass that are still needed, by [`ValueId`].
pub(crate) type Values<B> = Vec<Option<B>>;

impl Executable {
    /// Returns the features `[F]` of a preprocessed image `[C, H, W]`. `sites` has one entry per site.
    pub fn features(&self, image: &[f32], sites: &[SiteParameters]) -> Vec<f32> {
        let memory = &*self.arena;
        let mut values = self.enter(image, memory);
        self.infer(0..self.steps.len(), &mut values, sites, memory);
        self.take_features(&mut values, memory)
    }

    /// Runs a preprocessed image `[C, H, W]`, and calls `observe` with every value that a step computes, in blocks of sixteen
    /// channels.
    ///
    /// Values that an executable stores as bytes are left out.
    pub fn observe(&self, image: &[f32], sites: &[SiteParameters], mut observe: impl FnMut(ValueId, &[f32])) {
        self.trace(image, sites, |value, traced| {
            if let Traced::Real(values) = traced {
                observe(value, values);
            }
        });
    }

    /// Runs a preprocessed image `[C, H, W]`, and calls `visit` with every value that a step computes. Later steps read what
    /// `visit` leaves there.
    pub fn trace(&self, image: &[f32], sites: &[SiteParameters], mut visit: impl FnMut(ValueId, Traced<'_>)) {
        let memory = &*self.arena;
        let mut values = self.enter(image, memory);
        let mut visit = |id: ValueId, values: &mut Values<Lent>| {
            let Some(value) = &mut values[id.0] else {
                return;
            };
            // Conversions are values that the program does not have.
            match self.stored.get(id.0) {
                Some(Stored::Real) => visit(id, Traced::Real(value.values_mut())),
                Some(Stored::Bytes(grid)) => visit(id, Traced::Bytes(*grid, bytes_mut(value.values_mut()))),
                Some(Stored::PixelBytes(grid)) => {
                    visit(id, Traced::PixelBytes(*grid, bytes_mut(value.values_mut())));
                }
                Some(Stored::Pixels) | None => {}
            }
        };
        visit(self.entry, &mut values);
        for (index, step) in self.steps.iter().enumerate() {
            self.infer(index..index + 1, &mut values, sites, memory);
            visit(step.output, &mut values);
        }
        values.into_iter().flatten().for_each(|buffer| memory.give(buffer));
    }

    /// Runs `steps` with fused kernels.
    pub(crate) fn infer<M: Memory>(
        &self,
        steps: Range<usize>,
        values: &mut Values<M::Buffer>,
        sites: &[SiteParameters],
        memory: &M,
    ) {
        for step in &self.steps[steps] {
            let mut out = memory.take(self.lengths[step.output.0]);
            if M::COMPUTES {
                let inputs = operands(step, values);
                match &step.work {
                    Work::Convolution(conv) => conv.forward(&sites[conv.site], &inputs, out.values_mut()),
                    Work::Operator(operator) => operator.forward(&inputs, out.values_mut()),
                }
            }
            values[step.output.0] = Some(out);
            for &last in &step.last_uses {
                release(values, last, memory);
            }
        }
    }

    pub(crate) fn no_values<B>(&self) -> Values<B> {
        self.lengths.iter().map(|_| None).collect()
    }

    /// Returns the values before the first step: the image in the layout that the first convolution reads, `[H, W, C]`, or
    /// `[H, W, 4]` in bytes.
    pub(crate) fn enter<M: Memory>(&self, image: &[f32], memory: &M) -> Values<M::Buffer> {
        let mut pixels = memory.take(self.lengths[self.entry.0]);
        if M::COMPUTES {
            let (channels, out) = (self.image[0], pixels.values_mut());
            match self.stored[self.entry.0] {
                Stored::PixelBytes(Quantisation { scale, zero_point }) => {
                    quantize_image(self.isa, image, channels, scale, zero_point, bytes_mut(out));
                }
                _ => interleave(image, channels, out),
            }
        }
        let mut values = self.no_values();
        values[self.entry.0] = Some(pixels);
        values
    }

    /// Converts the features from blocks and releases their buffer.
    pub(crate) fn take_features<M: Memory>(&self, values: &mut Values<M::Buffer>, memory: &M) -> Vec<f32> {
        let features = if M::COMPUTES {
            self.copy_features(values)
        } else {
            Vec::new()
        };
        release(values, self.features, memory);
        features
    }

    /// Converts the features from blocks and keeps their buffer, because the backward pass of an activation at the end
    /// of the network reads it.
    pub(crate) fn copy_features<B: Buffer>(&self, values: &Values<B>) -> Vec<f32> {
        value(values, self.features)[..self.feature_count].to_vec()
    }
}

/// The inputs of a step.
pub(crate) fn operands<'a, B: Buffer>(step: &Step, values: &'a Values<B>) -> Vec<&'a [f32]> {
    step.inputs.iter().map(|input| value(values, *input)).collect()
}

/// Returns a value that an earlier step has computed.
pub(crate) fn value<B: Buffer>(values: &Values<B>, id: ValueId) -> &[f32] {
    values[id.0]
        .as_ref()
        .expect("steps are in order, and values are released after their last use")
        .values()
}

/// Returns a value that the backward pass reads; empty if it was not kept.
pub(crate) fn kept<B: Buffer>(values: &Values<B>, id: ValueId) -> &[f32] {
    values[id.0].as_ref().map_or(&[], Buffer::values)
}

pub(crate) fn release<M: Memory>(values: &mut Values<M::Buffer>, id: ValueId, memory: &M) {
    if let Some(buffer) = values[id.0].take() {
        memory.give(buffer);
    }
}
