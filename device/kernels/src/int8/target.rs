//! Destinations of the kernels' results, and the operations before a result is written: quantisation, shortcut, clamp.

use std::ops::Range;

use crate::{
    rows::Bounds,
    simd::{LANES, int8::Rounding},
};

/// A u8 shortcut that is added to a result before it is quantised, `r2 = (x − zero_point) · scale + r1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Int8Sum {
    /// The shortcut's zero point.
    pub zero_point: u8,
    /// The shortcut's scale, divided by the output's.
    pub scale: f32,
    /// The quantisation of the other summand, where the network quantises it before the sum; otherwise `r1 = r`.
    pub inner: Option<InnerRounding>,
}

/// A quantisation whose result is used in registers: `r1 = (clamp(round(r) + zero_point, 0, 255) − zero_point) · scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InnerRounding {
    /// The zero point.
    pub zero_point: u8,
    /// The scale, divided by the output's.
    pub scale: f32,
}

/// The output of a convolution, in blocks `[⌈O / 16⌉, H, W, 16]`, and what is done to its results first.
#[derive(Debug)]
pub enum Int8Output<'a> {
    /// Quantised values.
    Bytes {
        /// Receives the output.
        out: &'a mut [u8],
        /// The output's quantisation.
        rounding: Rounding,
        /// A value to add, in the layout of `out`.
        shortcut: Option<(&'a [u8], Int8Sum)>,
    },
    /// Real values.
    Real {
        /// Receives the output.
        out: &'a mut [f32],
        /// The activation's bounds.
        bounds: Bounds,
        /// A value to add, in the layout of `out`.
        shortcut: Option<&'a [f32]>,
    },
}

/// What is done to a result before it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Post {
    /// Nothing; the result is real.
    Nothing,
    /// Quantisation.
    Round(Rounding),
    /// A sum with a u8 shortcut, then quantisation.
    Sum(Rounding, Int8Sum),
    /// A sum with a real shortcut, if there is one, and a clamp.
    Clamp(Bounds),
}

/// Pixels of one block that are to be written, and the corresponding ones of the shortcut (empty if there is none).
#[derive(Debug)]
pub(crate) enum Target<'a> {
    /// Quantised values.
    Bytes(&'a mut [u8], &'a [u8]),
    /// Real values.
    Real(&'a mut [f32], &'a [f32]),
}

/// The part of a slice that may be empty.
pub(super) fn part<T>(values: &[T], range: Range<usize>) -> &[T] {
    if values.is_empty() { values } else { &values[range] }
}

impl Target<'_> {
    /// The number of pixels.
    pub(crate) fn pixels(&self) -> usize {
        match self {
            Self::Bytes(out, _) => out.len() / LANES,
            Self::Real(out, _) => out.len() / LANES,
        }
    }

    /// Returns some of the pixels.
    pub(crate) fn part(&mut self, pixels: Range<usize>) -> Target<'_> {
        let range = pixels.start * LANES..pixels.end * LANES;
        match self {
            Self::Bytes(out, shortcut) => Target::Bytes(&mut out[range.clone()], part(shortcut, range)),
            Self::Real(out, shortcut) => Target::Real(&mut out[range.clone()], part(shortcut, range)),
        }
    }
}

impl<'a> Target<'a> {
    /// Returns a target without pixels.
    pub(crate) fn empty() -> Self {
        Self::Real(&mut [], &[])
    }

    /// Divides the pixels into runs of `pixels` each; the last one may be shorter.
    pub(crate) fn chunks(self, pixels: usize) -> Chunks<'a> {
        Chunks { rest: self, pixels }
    }

    /// Divides the pixels into the first ones and the others.
    fn split(self, pixels: usize) -> (Self, Self) {
        let length = pixels * LANES;
        match self {
            Self::Bytes(out, shortcut) => {
                let (out, others) = out.split_at_mut(length);
                let (shortcut, rest) = shortcut.split_at(length.min(shortcut.len()));
                (Self::Bytes(out, shortcut), Self::Bytes(others, rest))
            }
            Self::Real(out, shortcut) => {
                let (out, others) = out.split_at_mut(length);
                let (shortcut, rest) = shortcut.split_at(length.min(shortcut.len()));
                (Self::Real(out, shortcut), Self::Real(others, rest))
            }
        }
    }
}

/// The runs of [`Target::chunks`].
#[derive(Debug)]
pub(crate) struct Chunks<'a> {
    rest: Target<'a>,
    pixels: usize,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Target<'a>;

    fn next(&mut self) -> Option<Target<'a>> {
        let pixels = self.pixels.min(self.rest.pixels());
        let (next, rest) = std::mem::replace(&mut self.rest, Target::empty()).split(pixels);
        self.rest = rest;
        (pixels > 0).then_some(next)
    }
}

impl<'a> Int8Output<'a> {
    /// Asserts that the operands have `length` values, and returns them as the target of all pixels.
    pub(crate) fn target(self, length: usize) -> (Target<'a>, Post) {
        match self {
            Self::Bytes {
                out,
                rounding,
                shortcut,
            } => {
                assert_eq!(out.len(), length);
                let post = shortcut.map_or(Post::Round(rounding), |(_, sum)| Post::Sum(rounding, sum));
                let shortcut = shortcut.map_or(&[][..], |(shortcut, _)| {
                    assert_eq!(shortcut.len(), length);
                    shortcut
                });
                (Target::Bytes(out, shortcut), post)
            }
            Self::Real { out, bounds, shortcut } => {
                assert_eq!(out.len(), length);
                assert!(shortcut.is_none_or(|shortcut| shortcut.len() == length));
                (Target::Real(out, shortcut.unwrap_or_default()), Post::Clamp(bounds))
            }
        }
    }
}
