//! Element-wise operations that could not be fused into a convolution: sums, products, per-channel scale and bias.

use super::{
    rows::{AFFINE_PARAMETERS, Bounds},
    simd::{Isa, Kernel, LANES, Simd, Vector, dispatch, vectors, vectors_mut},
};

/// A binary operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// A sum.
    Add,
    /// A product.
    Mul,
}

impl Binary {
    #[inline(always)]
    pub(crate) fn of<V: Vector>(self, a: V, b: V) -> V {
        match self {
            Self::Add => a.add(b),
            Self::Mul => a.mul(b),
        }
    }
}

/// Shape of the right operand of a [`Binary`], relative to the left one, `[⌈C / 16⌉, H, W, 16]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// Value by value: the same shape.
    None,
    /// One value per channel: `[⌈C / 16⌉, 1, 1, 16]` (ONNX `[N, C, 1, 1]`).
    Channels,
    /// One value per pixel: `[1, H, W, 16]`, of which only lane 0 is used (ONNX `[N, 1, H, W]`).
    Pixels,
}

/// Computes `out = left ∘ right`, clamped. `right` has either the shape of `left` or one value per channel, depending
/// on its length. `plane` is the number of values per block of `left`.
pub fn binary(isa: Isa, op: Binary, left: &[f32], right: &[f32], plane: usize, out: &mut [f32], bounds: Bounds) {
    let broadcast = if left.len() == right.len() {
        Broadcast::None
    } else {
        Broadcast::Channels
    };
    broadcast_binary(isa, op, broadcast, left, right, plane, out, bounds);
}

/// Does the same as [`binary`], with any [`Broadcast`] of `right`.
pub fn broadcast_binary(
    isa: Isa,
    op: Binary,
    broadcast: Broadcast,
    left: &[f32],
    right: &[f32],
    plane: usize,
    out: &mut [f32],
    bounds: Bounds,
) {
    assert_eq!(left.len(), out.len());
    check(broadcast, left, right, plane);
    dispatch(
        isa,
        Combine {
            op,
            broadcast,
            left,
            right,
            plane,
            out,
            bounds,
        },
    );
}

/// Asserts that the operands' lengths match.
pub(crate) fn check(broadcast: Broadcast, left: &[f32], right: &[f32], plane: usize) {
    assert!(left.len().is_multiple_of(plane) && plane.is_multiple_of(LANES));
    let expected = match broadcast {
        Broadcast::None => left.len(),
        Broadcast::Channels => left.len() / plane * LANES,
        Broadcast::Pixels => plane,
    };
    assert_eq!(right.len(), expected, "{broadcast:?} of {} values", left.len());
}

struct Combine<'a> {
    op: Binary,
    broadcast: Broadcast,
    left: &'a [f32],
    right: &'a [f32],
    plane: usize,
    out: &'a mut [f32],
    bounds: Bounds,
}

impl Kernel for Combine<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (low, high) = (s.splat(self.bounds.low), s.splat(self.bounds.high));
        let pixels = self.plane / LANES;
        let (left, right, out) = (vectors(self.left), vectors(self.right), vectors_mut(self.out));
        match self.broadcast {
            Broadcast::None => {
                for ((left, right), out) in left.iter().zip(right).zip(out) {
                    let value = self.op.of(s.load(left), s.load(right));
                    value.clamp(low, high).store(out);
                }
            }
            Broadcast::Channels => {
                let blocks = left.chunks_exact(pixels).zip(out.chunks_exact_mut(pixels));
                for ((left, out), right) in blocks.zip(right) {
                    let right = s.load(right);
                    for (left, out) in left.iter().zip(out) {
                        self.op.of(s.load(left), right).clamp(low, high).store(out);
                    }
                }
            }
            Broadcast::Pixels => {
                for (left, out) in left.chunks_exact(pixels).zip(out.chunks_exact_mut(pixels)) {
                    for ((left, right), out) in left.iter().zip(right).zip(out) {
                        let value = self.op.of(s.load(left), s.splat(right[0]));
                        value.clamp(low, high).store(out);
                    }
                }
            }
        }
    }
}

/// Computes `out = x · scale + bias`, clamped. `parameters` are `[scale 16, bias 16]` per block of `plane` values.
pub fn affine(isa: Isa, x: &[f32], parameters: &[f32], plane: usize, out: &mut [f32], bounds: Bounds) {
    assert!(x.len() == out.len() && x.len() / plane * AFFINE_PARAMETERS == parameters.len());
    dispatch(
        isa,
        Affine {
            x,
            parameters,
            plane,
            out,
            bounds,
        },
    );
}

struct Affine<'a> {
    x: &'a [f32],
    parameters: &'a [f32],
    plane: usize,
    out: &'a mut [f32],
    bounds: Bounds,
}

impl Kernel for Affine<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (low, high) = (s.splat(self.bounds.low), s.splat(self.bounds.high));
        let blocks = self
            .x
            .chunks_exact(self.plane)
            .zip(self.out.chunks_exact_mut(self.plane));
        for ((x, out), parameters) in blocks.zip(vectors(self.parameters).as_chunks::<2>().0) {
            let [scale, bias] = parameters.each_ref().map(|values| s.load(values));
            for (x, out) in vectors(x).iter().zip(vectors_mut(out)) {
                bias.fma(s.load(x), scale).clamp(low, high).store(out);
            }
        }
    }
}

/// Computes `out = x if x ≥ 0 else slope · x`, with slope `[16]` per block of `plane` values (ONNX `PRelu`).
pub fn prelu(isa: Isa, x: &[f32], slope: &[f32], plane: usize, out: &mut [f32]) {
    assert!(x.len() == out.len() && x.len() / plane * LANES == slope.len());
    dispatch(isa, PRelu { x, slope, plane, out });
}

struct PRelu<'a> {
    x: &'a [f32],
    slope: &'a [f32],
    plane: usize,
    out: &'a mut [f32],
}

impl Kernel for PRelu<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let blocks = self
            .x
            .chunks_exact(self.plane)
            .zip(self.out.chunks_exact_mut(self.plane));
        for ((x, out), slope) in blocks.zip(vectors(self.slope)) {
            let slope = s.load(slope);
            for (x, out) in vectors(x).iter().zip(vectors_mut(out)) {
                let x = s.load(x);
                x.select_below(s.zero(), slope.mul(x), x).store(out);
            }
        }
    }
}
