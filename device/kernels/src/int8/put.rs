//! What is done to results in registers before they are written, in one implementation per [`Post`]. A kernel selects it
//! once for many results. Results that are rounded are small ([`super::reach`]).

use super::target::{Int8Sum, Post, Target, part};
use crate::{
    rows::Bounds,
    simd::{
        LANES, Simd, Vector,
        int8::{Int8Kernel, Int8Simd, Real, Rounding},
    },
};

/// Four pixels' results of one block.
pub(crate) type Results<S> = [Real<S>; 4];

/// Returns the starts of runs of four pixels that cover a row of `width` pixels. The last run may overlap the one before
/// it, and computes the same values again.
#[inline(always)]
pub(crate) fn fours(width: usize) -> impl Iterator<Item = usize> {
    (0..width.div_ceil(4)).map(move |index| (index * 4).min(width.saturating_sub(4)))
}

/// Writes results.
pub(crate) trait Put<S: Int8Simd>: Copy {
    /// Whether results are sums with scale and bias, or plain sums.
    const AFFINE: bool;
    /// Writes the first `count` of four pixels to the pixels from `at` on.
    fn put(self, s: S, results: Results<S>, count: usize, at: usize, to: &mut Target<'_>);
}

/// A kernel that produces results.
pub(crate) trait Producer<S: Int8Simd> {
    /// Runs the kernel with the writer of its results. Implementations are `#[inline(always)]`.
    fn produce<P: Put<S>>(self, s: S, put: P);
}

/// Runs `producer` with the writer that `post` needs.
#[inline(always)]
pub(crate) fn produce<S: Int8Simd>(s: S, post: Post, producer: impl Producer<S>) {
    match post {
        Post::Nothing => producer.produce(s, Store),
        Post::Round(rounding) if rounding == Rounding::new(0) => {
            producer.produce(s, Round::<_, true>(s.range(rounding)));
        }
        Post::Round(rounding) => producer.produce(s, Round::<_, false>(s.range(rounding))),
        Post::Sum(rounding, sum) => producer.produce(s, Sum(s.range(rounding), sum)),
        Post::Clamp(bounds) => producer.produce(s, Clamp(bounds)),
    }
}

/// Writes the first `count` of four pixels' rounded results. Without a range, the zero point is 0, and all bytes occur.
#[inline(always)]
fn write<S: Int8Simd>(s: S, rounded: [S::Sums; 4], range: Option<S::Range>, count: usize, out: &mut [u8]) {
    let mut last = [0; 4 * LANES];
    let four = if count == 4 {
        let Some(four) = out.first_chunk_mut() else {
            unreachable!("a target has all pixels that are written")
        };
        four
    } else {
        &mut last
    };
    match range {
        Some(range) => s.bytes(rounded, range, four),
        None => s.plain_bytes(rounded, four),
    }
    if count < 4 {
        for p in 0..count {
            out[p * LANES..(p + 1) * LANES].copy_from_slice(&last[p * LANES..(p + 1) * LANES]);
        }
    }
}

/// [`Post::Nothing`].
#[derive(Clone, Copy)]
struct Store;

impl<S: Int8Simd> Put<S> for Store {
    const AFFINE: bool = false;
    #[inline(always)]
    fn put(self, _: S, results: Results<S>, count: usize, at: usize, to: &mut Target<'_>) {
        let Target::Real(out, _) = to else {
            unreachable!("plain sums are real")
        };
        let out = &mut out[at * LANES..(at + count) * LANES].as_chunks_mut::<LANES>().0;
        // Comparisons with a constant, because a loop to `count` would keep the results in memory.
        for p in 0..4 {
            if p < count {
                results[p].store(&mut out[p]);
            }
        }
    }
}

/// [`Post::Round`]; `PLAIN` with zero point 0 and all bytes, as after a rectifier.
#[derive(Clone, Copy)]
struct Round<R, const PLAIN: bool>(R);

impl<S: Int8Simd, const PLAIN: bool> Put<S> for Round<S::Range, PLAIN> {
    const AFFINE: bool = true;
    #[inline(always)]
    fn put(self, s: S, results: Results<S>, count: usize, at: usize, to: &mut Target<'_>) {
        let Target::Bytes(out, _) = to else {
            unreachable!("quantised results are bytes")
        };
        // Loops in place of `map`, because closures over vectors are not always inlined.
        let mut rounded = [s.splat(0); 4];
        for p in 0..4 {
            rounded[p] = s.round_small(results[p]);
        }
        write(s, rounded, (!PLAIN).then_some(self.0), count, &mut out[at * LANES..]);
    }
}

/// [`Post::Sum`].
#[derive(Clone, Copy)]
struct Sum<R>(R, Int8Sum);

impl<S: Int8Simd> Put<S> for Sum<S::Range> {
    const AFFINE: bool = true;
    #[inline(always)]
    fn put(self, s: S, results: Results<S>, count: usize, at: usize, to: &mut Target<'_>) {
        let Target::Bytes(out, shortcut) = to else {
            unreachable!("quantised results are bytes")
        };
        let shortcut = &shortcut[at * LANES..(at + count) * LANES].as_chunks::<LANES>().0;
        let mut rounded = [s.splat(0); 4];
        for p in 0..4 {
            if p < count {
                rounded[p] = s.round_small(self.1.add(s, results[p], s.widen(&shortcut[p])));
            }
        }
        write(s, rounded, Some(self.0), count, &mut out[at * LANES..]);
    }
}

impl Int8Sum {
    /// Returns the real sum, before it is rounded. `result` is small, or is not rounded before.
    #[inline(always)]
    pub(crate) fn add<S: Int8Simd>(&self, s: S, result: Real<S>, shortcut: S::Sums) -> Real<S> {
        let f = s.float();
        let first = match self.inner {
            Some(inner) => {
                let zero_point = i32::from(inner.zero_point);
                let rounded = s.clamp(s.round_small(result), s.splat(-zero_point), s.splat(255 - zero_point));
                s.real(rounded).mul(f.splat(inner.scale))
            }
            None => result,
        };
        let shortcut = s.sub(shortcut, s.splat(i32::from(self.zero_point)));
        first.fma(s.real(shortcut), f.splat(self.scale))
    }
}

/// [`Post::Clamp`], which is rare, and therefore not part of every tile.
#[derive(Clone, Copy)]
struct Clamp(Bounds);

impl<S: Int8Simd> Put<S> for Clamp {
    const AFFINE: bool = true;
    #[inline(always)]
    fn put(self, s: S, results: Results<S>, count: usize, at: usize, to: &mut Target<'_>) {
        let Target::Real(out, shortcut) = to else {
            unreachable!("clamped results are real")
        };
        let range = at * LANES..(at + count) * LANES;
        let mut lanes = [[0.0; LANES]; 4];
        for p in 0..4 {
            results[p].store(&mut lanes[p]);
        }
        s.call(ClampFour {
            results: &lanes,
            bounds: self.0,
            shortcut: part(shortcut, range.clone()),
            out: &mut out[range],
        });
    }
}

struct ClampFour<'a> {
    results: &'a [[f32; LANES]; 4],
    bounds: Bounds,
    shortcut: &'a [f32],
    out: &'a mut [f32],
}

impl Int8Kernel for ClampFour<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Int8Simd>(self, s: S) {
        let f = s.float();
        let (low, high) = (f.splat(self.bounds.low), f.splat(self.bounds.high));
        let mut shortcut = self.shortcut.as_chunks().0.iter();
        for (result, out) in self.results.iter().zip(self.out.as_chunks_mut().0) {
            let mut result = f.load(result);
            if let Some(shortcut) = shortcut.next() {
                result = result.add(f.load(shortcut));
            }
            result.clamp(low, high).store(out);
        }
    }
}

/// `[scale 16, bias 16]` in registers; not used for plain sums.
#[derive(Clone, Copy)]
pub(crate) struct Affine<S: Int8Simd>([Real<S>; 2]);

impl<S: Int8Simd> Affine<S> {
    /// Reads the parameters from position `at` on.
    #[inline(always)]
    pub(crate) fn new<P: Put<S>>(s: S, parameters: &[f32], at: usize) -> Self {
        let f = s.float();
        if !P::AFFINE {
            return Self([f.zero(); 2]);
        }
        let parameters = parameters[at..at + 2 * LANES].as_chunks().0;
        Self([f.load(&parameters[0]), f.load(&parameters[1])])
    }

    /// Converts sums to results.
    #[inline(always)]
    pub(crate) fn apply<P: Put<S>>(&self, s: S, dots: S::Dots) -> Real<S> {
        let sums = s.real(s.finish(dots));
        if P::AFFINE {
            self.0[1].fma(sums, self.0[0])
        } else {
            sums
        }
    }
}
