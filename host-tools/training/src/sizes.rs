//! Sizes of maps and windows.

/// The sizes of an NCHW map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) n: usize,
    pub(crate) c: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
}

#[cfg(any(feature = "cuda", all(test, target_os = "linux")))]
impl Map {
    /// Returns the number of pixels of a plane.
    pub(crate) fn plane(self) -> usize {
        self.h * self.w
    }

    /// Returns the number of values.
    pub(crate) fn len(self) -> usize {
        self.n * self.c * self.plane()
    }
}

/// A convolution's window: kernel, stride, dilation and the resolved padding (top, left, bottom, right).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Window {
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    pub(crate) pads: [usize; 4],
}

impl Window {
    /// Returns rows and columns of the output for an input of `size`; `None` if the window does not fit.
    pub(crate) fn output(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        let mut out = [0; 2];
        for axis in 0..2 {
            let reach = (self.kernel[axis].checked_sub(1)?) * self.dilation[axis] + 1;
            let padded = size[axis] + self.pads[axis] + self.pads[axis + 2];
            out[axis] = padded.checked_sub(reach)? / self.stride[axis] + 1;
        }
        Some(out)
    }
}

/// A pooling window with resolved padding (top, left, bottom, right).
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolWindow {
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) pads: [usize; 4],
    pub(crate) ceil: bool,
    pub(crate) count_pad: bool,
}

impl PoolWindow {
    /// Returns rows and columns of the output; `None` if the window does not fit. With `ceil`, the last window must
    /// start inside the input or its leading padding.
    pub(crate) fn output(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        let mut out = [0; 2];
        for axis in 0..2 {
            let padded = size[axis] + self.pads[axis] + self.pads[axis + 2];
            let room = padded.checked_sub(self.kernel[axis])?;
            out[axis] = if self.ceil {
                room.div_ceil(self.stride[axis])
            } else {
                room / self.stride[axis]
            } + 1;
            if self.ceil && (out[axis] - 1) * self.stride[axis] >= size[axis] + self.pads[axis] {
                out[axis] -= 1;
            }
        }
        Some(out)
    }
}
