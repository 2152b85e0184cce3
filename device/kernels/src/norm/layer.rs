//! Layer normalisation over the channels of each pixel (ONNX `LayerNormalization`).

use crate::simd::{Isa, Kernel, LANES, Simd, Vector, dispatch, vectors, vectors_mut};

/// Number of pixels that are normalised together. Their values within a block are contiguous and stay in the L1 cache.
const PIXELS: usize = 8;

/// `(x − mean) / √(variance + epsilon) · scale + bias` over the channels of each pixel.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm<'a> {
    /// Number of channels, without the lanes beyond them.
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

/// Computes `out` from `x`, both `[⌈C / 16⌉, P, 16]`. A vector `[C]` has one pixel.
pub fn layer_norm(isa: Isa, norm: &LayerNorm<'_>, x: &[f32], out: &mut [f32]) {
    norm.check(x.len());
    assert_eq!(x.len(), out.len());
    dispatch(isa, Forward { norm, x, out });
}

/// Replaces `dy`, the gradient of [`layer_norm`]'s result, by the gradient of its input `x`.
pub fn layer_norm_gradient(isa: Isa, norm: &LayerNorm<'_>, x: &[f32], dy: &mut [f32]) {
    norm.check(x.len());
    assert_eq!(x.len(), dy.len());
    dispatch(isa, Gradient { norm, x, dy });
}

/// Some pixels of a value. Block `b` of pixel `p` is at index `b · pixels + first + p`.
#[derive(Clone, Copy)]
struct Part {
    pixels: usize,
    first: usize,
    /// Number of lanes of the last block that are channels.
    last: usize,
    blocks: usize,
}

impl Part {
    /// Returns the index of a pixel of this part in `block`.
    #[inline(always)]
    fn at(self, block: usize, pixel: usize) -> usize {
        block * self.pixels + self.first + pixel
    }

    /// Returns whether only the first `last` lanes of a block are channels.
    #[inline(always)]
    fn is_cut(self, block: usize) -> bool {
        block + 1 == self.blocks && self.last < LANES
    }

    /// Returns the sixteen lanes at a pixel of this part, with `beyond` in the lanes beyond the channels.
    #[inline(always)]
    fn load<S: Simd>(self, s: S, x: &[[f32; LANES]], block: usize, pixel: usize, beyond: f32) -> S::Vector {
        let x = &x[self.at(block, pixel)];
        if !self.is_cut(block) {
            return s.load(x);
        }
        let mut lanes = [beyond; LANES];
        lanes[..self.last].copy_from_slice(&x[..self.last]);
        s.load(&lanes)
    }

    /// Returns mean and 1 / √(variance + epsilon) of every pixel.
    #[inline(always)]
    fn statistics<S: Simd, const P: usize>(
        self,
        s: S,
        norm: &LayerNorm<'_>,
        x: &[[f32; LANES]],
    ) -> ([f32; P], [f32; P]) {
        let channels = norm.channels as f32;
        let (mut mean, mut share) = ([0.0; P], [0.0; P]);
        let mut sums = [s.zero(); P];
        for block in 0..self.blocks {
            for pixel in 0..P {
                sums[pixel] = sums[pixel].add(self.load(s, x, block, pixel, 0.0));
            }
        }
        for pixel in 0..P {
            mean[pixel] = total(sums[pixel].lanes()) / channels;
        }
        let mut squares = [s.zero(); P];
        for block in 0..self.blocks {
            for pixel in 0..P {
                let apart = self.load(s, x, block, pixel, mean[pixel]).sub(s.splat(mean[pixel]));
                squares[pixel] = squares[pixel].fma(apart, apart);
            }
        }
        for pixel in 0..P {
            let variance = total(squares[pixel].lanes()) / channels;
            share[pixel] = 1.0 / (variance + norm.epsilon).sqrt();
        }
        (mean, share)
    }
}

/// The sum of the lanes.
#[inline(always)]
fn total(lanes: [f32; LANES]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|lane| lanes[lane] + lanes[lane + 8]);
    let four: [f32; 4] = std::array::from_fn(|lane| eight[lane] + eight[lane + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// A computation on some pixels.
trait OnPart {
    fn run<S: Simd, const P: usize>(&mut self, s: S, part: Part);
}

/// Runs `work` on all parts of a value of `length` vectors.
#[inline(always)]
fn parts<S: Simd>(s: S, norm: &LayerNorm<'_>, length: usize, mut work: impl OnPart) {
    let blocks = norm.channels.div_ceil(LANES);
    let pixels = length / blocks;
    let last = norm.channels - (blocks - 1) * LANES;
    let part = |first| Part {
        pixels,
        first,
        last,
        blocks,
    };
    let together = pixels - pixels % PIXELS;
    for first in (0..together).step_by(PIXELS) {
        work.run::<S, PIXELS>(s, part(first));
    }
    for first in together..pixels {
        work.run::<S, 1>(s, part(first));
    }
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
        parts(s, self.norm, self.x.len() / LANES, self);
    }
}

impl OnPart for Forward<'_> {
    #[inline(always)]
    fn run<S: Simd, const P: usize>(&mut self, s: S, part: Part) {
        let (x, out) = (vectors(self.x), vectors_mut(self.out));
        let (scale, bias) = (vectors(self.norm.scale), vectors(self.norm.bias));
        let (mean, share) = part.statistics::<S, P>(s, self.norm, x);
        for block in 0..part.blocks {
            let (scale, bias) = (s.load(&scale[block]), s.load(&bias[block]));
            for pixel in 0..P {
                let apart = part.load(s, x, block, pixel, 0.0).sub(s.splat(mean[pixel]));
                let normal = apart.mul(s.splat(share[pixel]));
                bias.fma(normal, scale).store(&mut out[part.at(block, pixel)]);
            }
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
        parts(s, self.norm, self.x.len() / LANES, self);
    }
}

impl OnPart for Gradient<'_> {
    #[inline(always)]
    fn run<S: Simd, const P: usize>(&mut self, s: S, part: Part) {
        let (x, dy) = (vectors(self.x), vectors_mut(self.dy));
        let scale = vectors(self.norm.scale);
        let channels = self.norm.channels as f32;
        let (mean, share) = part.statistics::<S, P>(s, self.norm, x);
        // With g = dy · scale: dx = (g − mean(g) − x̂ · mean(g · x̂)) / √(variance + epsilon). x̂ is zero beyond the
        // channels.
        let mut sums = [[s.zero(); 2]; P];
        for block in 0..part.blocks {
            let scale = s.load(&scale[block]);
            for pixel in 0..P {
                let g = part.load(s, dy, block, pixel, 0.0).mul(scale);
                let apart = part.load(s, x, block, pixel, mean[pixel]).sub(s.splat(mean[pixel]));
                let [of_g, of_product] = sums[pixel];
                sums[pixel] = [of_g.add(g), of_product.fma(g, apart.mul(s.splat(share[pixel])))];
            }
        }
        let mut means = [[0.0; 2]; P];
        for pixel in 0..P {
            for of in 0..2 {
                means[pixel][of] = -total(sums[pixel][of].lanes()) / channels;
            }
        }
        for block in 0..part.blocks {
            let scale = s.load(&scale[block]);
            for pixel in 0..P {
                let share = s.splat(share[pixel]);
                let g = part.load(s, dy, block, pixel, 0.0).mul(scale);
                let apart = part.load(s, x, block, pixel, mean[pixel]).sub(s.splat(mean[pixel]));
                let [of_g, of_product] = means[pixel];
                let sum = g.add(s.splat(of_g)).fma(apart.mul(share), s.splat(of_product));
                let dx = &mut dy[part.at(block, pixel)];
                sum.mul(share).store(dx);
                if part.is_cut(block) {
                    dx[part.last..].fill(0.0);
                }
            }
        }
    }
}
