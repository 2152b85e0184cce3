//! Layer normalisation over the channels of each pixel (ONNX `LayerNormalization`).

use crate::simd::{Kernel, LANES, Level, Simd, Vector, dispatch, vectors, vectors_mut};

/// Pixels that are normalised together: their values in a block are consecutive, and stay in the first cache.
const PIXELS: usize = 8;

/// `(x − mean) / √(variance + epsilon) · scale + bias` over the channels of each pixel.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm<'a> {
    /// Channels that count.
    pub channels: usize,
    /// `[⌈C / 16⌉, 16]`, zero beyond the channels.
    pub scale: &'a [f32],
    /// `[⌈C / 16⌉, 16]`, zero beyond the channels.
    pub bias: &'a [f32],
    /// Added to the variance.
    pub epsilon: f32,
}

impl LayerNorm<'_> {
    fn check(&self, x: usize) {
        let lanes = self.channels.div_ceil(LANES) * LANES;
        assert!(self.channels > 0 && x.is_multiple_of(lanes));
        assert!(self.scale.len() == lanes && self.bias.len() == lanes);
    }
}

/// `out` from `x`, both `[⌈C / 16⌉, P, 16]`; a vector `[C]` has one pixel.
pub fn layer_norm(level: Level, norm: &LayerNorm<'_>, x: &[f32], out: &mut [f32]) {
    norm.check(x.len());
    assert_eq!(x.len(), out.len());
    dispatch(level, Forward { norm, x, out });
}

/// Turns `dy`, the gradient of [`layer_norm`]'s result, into that of its input `x`, in place.
pub fn layer_norm_gradient(level: Level, norm: &LayerNorm<'_>, x: &[f32], dy: &mut [f32]) {
    norm.check(x.len());
    assert_eq!(x.len(), dy.len());
    dispatch(level, Gradient { norm, x, dy });
}

/// Some pixels of a value: block `b` of pixel `p` is at `b · pixels + first + p`.
#[derive(Clone, Copy)]
struct Part {
    pixels: usize,
    first: usize,
    count: usize,
    /// Lanes of the last block that count.
    last: usize,
    blocks: usize,
}

impl Part {
    /// Calls `each` with every block, pixel of the part and place, and whether it is the last block.
    #[inline(always)]
    fn walk(self, mut each: impl FnMut(usize, usize, usize)) {
        for block in 0..self.blocks {
            for pixel in 0..self.count {
                each(block, pixel, block * self.pixels + self.first + pixel);
            }
        }
    }

    /// The sixteen channels at a place of `block`, zero where they do not count.
    #[inline(always)]
    fn load<S: Simd>(self, s: S, x: &[[f32; LANES]], block: usize, at: usize) -> S::Vector {
        if block + 1 == self.blocks && self.last < LANES {
            let mut lanes = [0.0; LANES];
            lanes[..self.last].copy_from_slice(&x[at][..self.last]);
            s.load(&lanes)
        } else {
            s.load(&x[at])
        }
    }

    /// One where a channel counts, else zero.
    #[inline(always)]
    fn mask<S: Simd>(self, s: S, block: usize) -> S::Vector {
        let count = if block + 1 == self.blocks { self.last } else { LANES };
        s.load(&std::array::from_fn(|lane| if lane < count { 1.0 } else { 0.0 }))
    }

    /// Mean and 1 / √(variance + epsilon) of every pixel.
    #[inline(always)]
    fn statistics<S: Simd>(self, s: S, norm: &LayerNorm<'_>, x: &[[f32; LANES]]) -> ([f32; PIXELS], [f32; PIXELS]) {
        let channels = norm.channels as f32;
        let mut sums = [s.zero(); PIXELS];
        self.walk(|block, pixel, at| sums[pixel] = sums[pixel].add(self.load(s, x, block, at)));
        let mean = sums.map(|sum| sum.lanes().iter().sum::<f32>() / channels);
        let mut squares = [s.zero(); PIXELS];
        self.walk(|block, pixel, at| {
            let apart = self.load(s, x, block, at).sub(s.splat(mean[pixel]));
            let apart = apart.mul(self.mask(s, block));
            squares[pixel] = squares[pixel].fma(apart, apart);
        });
        let variance = squares.map(|sum| sum.lanes().iter().sum::<f32>() / channels);
        (mean, variance.map(|variance| 1.0 / (variance + norm.epsilon).sqrt()))
    }
}

/// The parts of a value of `length` vectors.
fn parts(norm: &LayerNorm<'_>, length: usize) -> impl Iterator<Item = Part> + use<> {
    let blocks = norm.channels.div_ceil(LANES);
    let pixels = length / blocks;
    let last = norm.channels - (blocks - 1) * LANES;
    (0..pixels).step_by(PIXELS).map(move |first| Part {
        pixels,
        first,
        count: PIXELS.min(pixels - first),
        last,
        blocks,
    })
}

struct Forward<'a> {
    norm: &'a LayerNorm<'a>,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, out) = (vectors(self.x), vectors_mut(self.out));
        let (scale, bias) = (vectors(self.norm.scale), vectors(self.norm.bias));
        for part in parts(self.norm, x.len()) {
            let (mean, share) = part.statistics(s, self.norm, x);
            part.walk(|block, pixel, at| {
                let apart = part.load(s, x, block, at).sub(s.splat(mean[pixel]));
                let normal = apart.mul(s.splat(share[pixel]));
                s.load(&bias[block])
                    .fma(normal, s.load(&scale[block]))
                    .store(&mut out[at]);
            });
        }
    }
}

struct Gradient<'a> {
    norm: &'a LayerNorm<'a>,
    x: &'a [f32],
    dy: &'a mut [f32],
}

impl Kernel for Gradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, dy) = (vectors(self.x), vectors_mut(self.dy));
        let scale = vectors(self.norm.scale);
        let channels = self.norm.channels as f32;
        for part in parts(self.norm, x.len()) {
            let (mean, share) = part.statistics(s, self.norm, x);
            let normal = |block, pixel: usize, at| {
                let apart = part.load(s, x, block, at).sub(s.splat(mean[pixel]));
                apart.mul(s.splat(share[pixel]))
            };
            // With g = dy · scale: dx = (g − mean(g) − x̂ · mean(g · x̂)) / √(variance + epsilon).
            let mut sums = [[s.zero(); 2]; PIXELS];
            part.walk(|block, pixel, at| {
                let g = part.load(s, dy, block, at).mul(s.load(&scale[block]));
                let [of_g, of_product] = sums[pixel];
                sums[pixel] = [of_g.add(g), of_product.fma(g, normal(block, pixel, at))];
            });
            let means = sums.map(|sums| sums.map(|sum| sum.lanes().iter().sum::<f32>() / channels));
            part.walk(|block, pixel, at| {
                let g = part.load(s, dy, block, at).mul(s.load(&scale[block]));
                let [of_g, of_product] = means[pixel].map(|mean| s.splat(-mean));
                let dx = g
                    .add(of_g)
                    .fma(normal(block, pixel, at), of_product)
                    .mul(s.splat(share[pixel]));
                dx.mul(part.mask(s, block)).store(&mut dy[at]);
            });
        }
    }
}
