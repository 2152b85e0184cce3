//! Window operations as lists of taps.
//!
//! A convolution reads its input through taps: kernel element `(ky, kx)` sees the input at
//! `(oy · stride + ky · dilation − top, ox · stride + kx · dilation − left)`. Its input gradient is, for each residue of the input
//! position modulo the stride, again a stride-1 convolution of the output gradient with a subset of the taps. Both are [`Phase`]s.

/// One kernel element and where it reads relative to the window's origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tap {
    /// Row offset.
    pub(crate) dy: isize,
    /// Column offset.
    pub(crate) dx: isize,
    /// `ky · kw + kx`.
    pub(crate) index: usize,
}

/// The destination positions `origin + step · (y, x)` and the taps that reach them.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub(crate) origin: [usize; 2],
    pub(crate) taps: Vec<Tap>,
}

/// How a destination map is computed from a source map.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Distance in the source between the windows of neighbouring grid positions.
    pub(crate) read: [usize; 2],
    /// Distance in the destination between neighbouring grid positions.
    pub(crate) write: [usize; 2],
    pub(crate) phases: Vec<Phase>,
}

/// A window: kernel, stride, dilation and the resolved padding (top, left, bottom, right).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Window {
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    pub(crate) pads: [usize; 4],
}

impl Window {
    /// Rows and columns of the output for an input of `size`, or `None` where the window does not fit.
    pub(crate) fn output(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        let mut out = [0; 2];
        for axis in 0..2 {
            let reach = (self.kernel[axis].checked_sub(1)?) * self.dilation[axis] + 1;
            let padded = size[axis] + self.pads[axis] + self.pads[axis + 2];
            out[axis] = padded.checked_sub(reach)? / self.stride[axis] + 1;
        }
        Some(out)
    }

    /// From input to output.
    pub(crate) fn forward(&self) -> Plan {
        let mut taps = Vec::new();
        for ky in 0..self.kernel[0] {
            for kx in 0..self.kernel[1] {
                taps.push(Tap {
                    dy: (ky * self.dilation[0]) as isize - self.pads[0] as isize,
                    dx: (kx * self.dilation[1]) as isize - self.pads[1] as isize,
                    index: ky * self.kernel[1] + kx,
                });
            }
        }
        Plan {
            read: self.stride,
            write: [1, 1],
            phases: vec![Phase { origin: [0, 0], taps }],
        }
    }

    /// From output gradient to input gradient.
    pub(crate) fn backward(&self) -> Plan {
        // For input row `stride · q + r`: the output row that kernel row `k` carries it to is `q + (r + pad − k · dilation) / stride`.
        let reach = |axis: usize, r: usize, k: usize| {
            let distance = (r + self.pads[axis]) as isize - (k * self.dilation[axis]) as isize;
            let stride = self.stride[axis] as isize;
            (distance.rem_euclid(stride) == 0).then(|| distance.div_euclid(stride))
        };
        let mut phases = Vec::new();
        for ry in 0..self.stride[0] {
            for rx in 0..self.stride[1] {
                let mut taps = Vec::new();
                for ky in 0..self.kernel[0] {
                    for kx in 0..self.kernel[1] {
                        if let (Some(dy), Some(dx)) = (reach(0, ry, ky), reach(1, rx, kx)) {
                            taps.push(Tap {
                                dy,
                                dx,
                                index: ky * self.kernel[1] + kx,
                            });
                        }
                    }
                }
                phases.push(Phase { origin: [ry, rx], taps });
            }
        }
        Plan {
            read: [1, 1],
            write: self.stride,
            phases,
        }
    }
}

/// Grid positions of a phase within a destination axis of `size`.
pub(crate) fn grid(size: usize, origin: usize, step: usize) -> usize {
    size.saturating_sub(origin).div_ceil(step)
}

/// The grid positions `lo..hi` whose tap `d` falls inside a source axis of `size`, when neighbours are `read` apart.
pub(crate) fn inside(grid: usize, size: usize, d: isize, read: usize) -> (usize, usize) {
    let read = read as isize;
    let lo = if d >= 0 { 0 } else { (-d + read - 1) / read };
    let hi = (size as isize - d + read - 1).div_euclid(read).clamp(0, grid as isize);
    let lo = lo.min(hi);
    (lo as usize, hi as usize)
}
