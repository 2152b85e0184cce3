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
    /// Lanes of the last block that count.
    last: usize,
    blocks: usize,
}

/// A vector of a value.
#[derive(Clone, Copy)]
struct Place {
    block: usize,
    /// Counted from the part's first.
    pixel: usize,
    at: usize,
    /// Whether only the first `last` lanes count.
    cut: bool,
}

impl Part {
    /// Calls `each` with every place of the part's `P` pixels, block by block. The compiler knows all but the block.
    #[inline(always)]
    fn walk<const P: usize>(self, mut each: impl FnMut(Place)) {
        let full = self.blocks - usize::from(self.last < LANES);
        let mut block = |block: usize, cut: bool| {
            for pixel in 0..P {
                let at = block * self.pixels + self.first + pixel;
                each(Place { block, pixel, at, cut });
            }
        };
        for index in 0..full {
            block(index, false);
        }
        if full < self.blocks {
            block(full, true);
        }
    }

    /// The sixteen channels at a place, `beyond` where they do not count.
    #[inline(always)]
    fn load<S: Simd>(self, s: S, x: &[[f32; LANES]], place: Place, beyond: f32) -> S::Vector {
        if !place.cut {
            return s.load(&x[place.at]);
        }
        let mut lanes = [beyond; LANES];
        lanes[..self.last].copy_from_slice(&x[place.at][..self.last]);
        s.load(&lanes)
    }

    /// Mean and 1 / √(variance + epsilon) of every pixel.
    #[inline(always)]
    fn statistics<S: Simd, const P: usize>(
        self,
        s: S,
        norm: &LayerNorm<'_>,
        x: &[[f32; LANES]],
    ) -> ([f32; P], [f32; P]) {
        let channels = norm.channels as f32;
        let mut sums = [s.zero(); P];
        self.walk::<P>(|place| sums[place.pixel] = sums[place.pixel].add(self.load(s, x, place, 0.0)));
        let mean = sums.map(|sum| total(sum) / channels);
        let mut squares = [s.zero(); P];
        self.walk::<P>(|place| {
            let mean = mean[place.pixel];
            let apart = self.load(s, x, place, mean).sub(s.splat(mean));
            squares[place.pixel] = squares[place.pixel].fma(apart, apart);
        });
        let variance = squares.map(|sum| total(sum) / channels);
        (mean, variance.map(|variance| 1.0 / (variance + norm.epsilon).sqrt()))
    }
}

/// The sum of the lanes.
#[inline(always)]
fn total(vector: impl Vector) -> f32 {
    let lanes = vector.lanes();
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
        part.walk::<P>(|place| {
            let apart = part.load(s, x, place, 0.0).sub(s.splat(mean[place.pixel]));
            let normal = apart.mul(s.splat(share[place.pixel]));
            s.load(&bias[place.block])
                .fma(normal, s.load(&scale[place.block]))
                .store(&mut out[place.at]);
        });
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
        // Zero where a channel does not count.
        let normal = |place: Place| {
            let mean = mean[place.pixel];
            let apart = part.load(s, x, place, mean).sub(s.splat(mean));
            apart.mul(s.splat(share[place.pixel]))
        };
        // With g = dy · scale: dx = (g − mean(g) − x̂ · mean(g · x̂)) / √(variance + epsilon).
        let mut sums = [[s.zero(); 2]; P];
        part.walk::<P>(|place| {
            let g = part.load(s, dy, place, 0.0).mul(s.load(&scale[place.block]));
            let [of_g, of_product] = sums[place.pixel];
            sums[place.pixel] = [of_g.add(g), of_product.fma(g, normal(place))];
        });
        let means = sums.map(|sums| sums.map(|sum| total(sum) / channels));
        part.walk::<P>(|place| {
            let g = part.load(s, dy, place, 0.0).mul(s.load(&scale[place.block]));
            let [of_g, of_product] = means[place.pixel].map(|mean| s.splat(-mean));
            let dx = g
                .add(of_g)
                .fma(normal(place), of_product)
                .mul(s.splat(share[place.pixel]));
            dx.store(&mut dy[place.at]);
            if place.cut {
                dy[place.at][part.last..].fill(0.0);
            }
        });
    }
}
