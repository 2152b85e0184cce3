//! Gradients of sums, products and `PReLU`.

use crate::{
    elementwise::{Binary, Broadcast, check},
    simd::{Isa, Kernel, LANES, Simd, Vector, dispatch, vectors, vectors_mut},
};

/// Computes the gradients of `left` and `right`, each if it is needed, from `dy`, the gradient of
/// [`broadcast_binary`](crate::broadcast_binary)'s result before its clamp. The previous content is overwritten. The
/// gradient of a broadcast operand is summed over the elements to which it was broadcast. For [`Broadcast::Pixels`] it
/// is in lane 0, the other lanes are zero, and only the first `channels` channels of `left` contribute.
pub fn binary_gradient(
    isa: Isa,
    op: Binary,
    broadcast: Broadcast,
    [left, right]: [&[f32]; 2],
    channels: usize,
    plane: usize,
    dy: &[f32],
    [d_left, d_right]: [Option<&mut [f32]>; 2],
) {
    assert_eq!(left.len(), dy.len());
    assert_eq!(left.len(), channels.div_ceil(LANES) * plane);
    check(broadcast, left, right, plane);
    if let Some(out) = d_left {
        assert_eq!(left.len(), out.len());
        match op {
            Binary::Add => out.copy_from_slice(dy),
            Binary::Mul => {
                let bounds = crate::Bounds::NONE;
                crate::broadcast_binary(isa, Binary::Mul, broadcast, dy, right, plane, out, bounds);
            }
        }
    }
    if let Some(out) = d_right {
        assert_eq!(right.len(), out.len());
        let work = RightGradient {
            op,
            broadcast,
            left,
            channels,
            plane,
            dy,
            out,
        };
        dispatch(isa, work);
    }
}

struct RightGradient<'a> {
    op: Binary,
    broadcast: Broadcast,
    left: &'a [f32],
    channels: usize,
    plane: usize,
    dy: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for RightGradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let pixels = self.plane / LANES;
        let (left, dy, out) = (vectors(self.left), vectors(self.dy), vectors_mut(self.out));
        let share = |left: &[f32; LANES], dy: &[f32; LANES]| match self.op {
            Binary::Add => s.load(dy),
            Binary::Mul => s.load(dy).mul(s.load(left)),
        };
        match self.broadcast {
            Broadcast::None => {
                for ((left, dy), out) in left.iter().zip(dy).zip(out) {
                    share(left, dy).store(out);
                }
            }
            Broadcast::Channels => {
                let blocks = left.chunks_exact(pixels).zip(dy.chunks_exact(pixels));
                for ((left, dy), out) in blocks.zip(out) {
                    // Four sums, so that consecutive additions are independent and rounding errors stay small.
                    let mut sums = [s.zero(); 4];
                    for (at, (left, dy)) in left.iter().zip(dy).enumerate() {
                        sums[at % 4] = sums[at % 4].add(share(left, dy));
                    }
                    sums[0].add(sums[1]).add(sums[2].add(sums[3])).store(out);
                }
            }
            Broadcast::Pixels => {
                for (at, out) in out.iter_mut().enumerate() {
                    let mut sum = 0.0;
                    for (block, first) in (0..self.channels).step_by(LANES).enumerate() {
                        let place = block * pixels + at;
                        let count = LANES.min(self.channels - first);
                        sum += share(&left[place], &dy[place]).lanes()[..count].iter().sum::<f32>();
                    }
                    *out = [0.0; LANES];
                    out[0] = sum;
                }
            }
        }
    }
}

/// Replaces `dy`, the gradient of [`prelu`](crate::prelu)'s result, by the gradient of its input `x`.
pub fn prelu_gradient(isa: Isa, x: &[f32], slope: &[f32], plane: usize, dy: &mut [f32]) {
    assert!(x.len() == dy.len() && x.len() / plane * LANES == slope.len());
    dispatch(isa, PReluGradient { x, slope, plane, dy });
}

struct PReluGradient<'a> {
    x: &'a [f32],
    slope: &'a [f32],
    plane: usize,
    dy: &'a mut [f32],
}

impl Kernel for PReluGradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let blocks = self
            .x
            .chunks_exact(self.plane)
            .zip(self.dy.chunks_exact_mut(self.plane));
        for ((x, dy), slope) in blocks.zip(vectors(self.slope)) {
            let slope = s.load(slope);
            for (x, dy) in vectors(x).iter().zip(vectors_mut(dy)) {
                let g = s.load(dy);
                s.zero().select_below(s.load(x), g, g.mul(slope)).store(dy);
            }
        }
    }
}

/// Adds `more` to `sum`, for the gradient of a value that several steps read.
pub fn accumulate(isa: Isa, sum: &mut [f32], more: &[f32]) {
    assert_eq!(sum.len(), more.len());
    dispatch(isa, Accumulate { sum, more });
}

struct Accumulate<'a> {
    sum: &'a mut [f32],
    more: &'a [f32],
}

impl Kernel for Accumulate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        // A plain loop, which the compiler vectorises separately for each instruction set.
        self.sum.iter_mut().zip(self.more).for_each(|(sum, more)| *sum += more);
    }
}
