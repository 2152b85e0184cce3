//! Per-channel sums over the pixels of a plane, and a pass that applies a linear function per channel.

use crate::simd::{Isa, Kernel, LANES, Simd, Vector, dispatch, vectors, vectors_mut};

/// Number of pixels per partial sum. Short partial sums keep rounding errors small.
const RUN: usize = 64;

/// Zeroes the lanes of the last block beyond the channels.
pub(super) fn clear(values: &mut [f32], channels: usize, plane: usize) {
    let used = channels % LANES;
    if used > 0 {
        let last = values.len() - plane;
        for pixel in values[last..].chunks_exact_mut(LANES) {
            pixel[used..].fill(0.0);
        }
    }
}

/// A value of `blocks` planes.
#[derive(Clone, Copy)]
pub(super) struct Planes<'a> {
    pub values: &'a [f32],
    /// Values per plane.
    pub plane: usize,
}

impl Planes<'_> {
    pub(super) fn blocks(&self) -> usize {
        self.values.len() / self.plane
    }

    /// `Σ x` per channel.
    pub(super) fn sum(self, isa: Isa) -> Vec<f32> {
        dispatch(isa, Sum { a: self, b: None })
    }

    /// Returns `Σ a · (b − centre)` per channel, with one value of `centre` per channel.
    pub(super) fn products(self, isa: Isa, b: Planes<'_>, centre: &[f32]) -> Vec<f32> {
        dispatch(
            isa,
            Sum {
                a: self,
                b: Some((b, centre, false)),
            },
        )
    }

    /// `Σ (x − centre)²` per channel.
    pub(super) fn squares(self, isa: Isa, centre: &[f32]) -> Vec<f32> {
        dispatch(
            isa,
            Sum {
                a: self,
                b: Some((self, centre, true)),
            },
        )
    }
}

struct Sum<'a> {
    a: Planes<'a>,
    /// The other factor `b`, its centre, and whether `(b − centre)²` is summed; otherwise `a · (b − centre)`.
    b: Option<(Planes<'a>, &'a [f32], bool)>,
}

impl Kernel for Sum<'_> {
    type Output = Vec<f32>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<f32> {
        let mut out = vec![0.0; self.a.blocks() * LANES];
        let planes = self.a.values.chunks_exact(self.a.plane).enumerate();
        for ((block, a), out) in planes.zip(vectors_mut(&mut out)) {
            let a = vectors(a);
            let mut total = s.zero();
            match self.b {
                None => {
                    for run in a.chunks(RUN) {
                        let sum = run.iter().fold(s.zero(), |sum, a| sum.add(s.load(a)));
                        total = total.add(sum);
                    }
                }
                Some((b, centre, squared)) => {
                    let b = vectors(&b.values[block * b.plane..][..b.plane]);
                    let centre = s.load(&vectors(centre)[block]);
                    for (a, b) in a.chunks(RUN).zip(b.chunks(RUN)) {
                        let sum = a.iter().zip(b).fold(s.zero(), |sum, (a, b)| {
                            let apart = s.load(b).sub(centre);
                            sum.fma(if squared { apart } else { s.load(a) }, apart)
                        });
                        total = total.add(sum);
                    }
                }
            }
            total.store(out);
        }
        out
    }
}

/// A linear function of two values per channel: `to = to · own + (x − centre) · other + offset`.
pub(super) struct Linear<'a> {
    pub x: Planes<'a>,
    pub centre: &'a [f32],
    /// `None` if the previous content of `to` is not used.
    pub own: Option<&'a [f32]>,
    pub other: &'a [f32],
    pub offset: &'a [f32],
    pub to: &'a mut [f32],
}

impl Linear<'_> {
    pub(super) fn apply(self, isa: Isa) {
        assert_eq!(self.x.values.len(), self.to.len());
        dispatch(isa, self);
    }
}

impl Kernel for Linear<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let plane = self.x.plane;
        let planes = self.x.values.chunks_exact(plane).zip(self.to.chunks_exact_mut(plane));
        for (block, (x, to)) in planes.enumerate() {
            let at = |values: &[f32]| s.load(&vectors(values)[block]);
            let (centre, other, offset) = (at(self.centre), at(self.other), at(self.offset));
            let own = self.own.map(at);
            for (x, to) in vectors(x).iter().zip(vectors_mut(to)) {
                let value = offset.fma(s.load(x).sub(centre), other);
                match own {
                    Some(own) => value.fma(s.load(to), own),
                    None => value,
                }
                .store(to);
            }
        }
    }
}
