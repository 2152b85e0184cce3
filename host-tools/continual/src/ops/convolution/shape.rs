//! Sizes of a convolution.

use candle_core::Result;
use clr_training::ops::ConvOptions;

/// All sizes of a convolution, with the padding resolved.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConvShape {
    pub(super) images: usize,
    pub(super) groups: usize,
    /// Input channels of all groups.
    pub(super) inputs: usize,
    /// Output channels of all groups.
    pub(super) outputs: usize,
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    /// Top, left, bottom, right.
    pub(super) pads: [usize; 4],
    /// Rows and columns of the input.
    pub(super) from: [usize; 2],
    /// Rows and columns of the output.
    pub(super) to: [usize; 2],
}

impl ConvShape {
    pub(super) fn new(
        (images, inputs, height, width): (usize, usize, usize, usize),
        (outputs, per_group, kh, kw): (usize, usize, usize, usize),
        options: ConvOptions,
    ) -> Result<Self> {
        let ConvOptions {
            stride,
            dilation,
            groups,
            padding,
        } = options;
        let (kernel, from) = ([kh, kw], [height, width]);
        if groups == 0 || per_group * groups != inputs || !outputs.is_multiple_of(groups) {
            candle_core::bail!(
                "convolution: a weight of {outputs} × {per_group} channels in {groups} groups does not fit {inputs} input channels"
            );
        }
        if kernel.iter().chain(&stride).chain(&dilation).any(|&size| size == 0) {
            candle_core::bail!(
                "convolution: kernel {kernel:?}, stride {stride:?} and dilation {dilation:?} must be above zero"
            );
        }
        if [images, inputs, outputs, height, width].contains(&0) {
            candle_core::bail!("convolution: an input of {images} × {inputs} × {height} × {width} has no values");
        }
        let pads = padding.resolve(from, kernel, stride, dilation);
        let mut to = [0; 2];
        for axis in 0..2 {
            let reach = (kernel[axis] - 1) * dilation[axis] + 1;
            let Some(room) = (from[axis] + pads[axis] + pads[axis + 2]).checked_sub(reach) else {
                candle_core::bail!(
                    "convolution: kernel {kernel:?} does not fit an input of {from:?} padded by {pads:?}"
                );
            };
            to[axis] = room / stride[axis] + 1;
        }
        Ok(Self {
            images,
            groups,
            inputs,
            outputs,
            kernel,
            stride,
            dilation,
            pads,
            from,
            to,
        })
    }

    pub(super) fn output_dims(&self) -> [usize; 4] {
        [self.images, self.outputs, self.to[0], self.to[1]]
    }

    pub(super) fn input_plane(&self) -> usize {
        self.from[0] * self.from[1]
    }

    pub(super) fn output_plane(&self) -> usize {
        self.to[0] * self.to[1]
    }

    /// Returns the number of positions of the kernel.
    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Whether each output pixel reads one input pixel, at the same place.
    pub(super) fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.pads == [0; 4]
    }

    /// Returns, for position `tap` of the kernel along `axis`, the outputs `start..end` that read inside of the input,
    /// and the input index that output 0 would read (which may be negative).
    pub(super) fn reach(&self, axis: usize, tap: usize) -> (usize, usize, isize) {
        let (stride, from, to) = (self.stride[axis], self.from[axis], self.to[axis]);
        let first = (tap * self.dilation[axis]) as isize - self.pads[axis] as isize;
        let start = if first < 0 {
            first.unsigned_abs().div_ceil(stride)
        } else {
            0
        };
        // The last output reads `first + output · stride ≤ from − 1`.
        let last = from as isize - 1 - first;
        let end = if last < 0 {
            0
        } else {
            (last as usize / stride + 1).min(to)
        };
        (start.min(end), end, first)
    }
}
