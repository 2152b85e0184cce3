//! Filter weights along one axis.

use std::ops::Range;

use clr_adapters::Filter;

use super::FRACTION_BITS;

/// One axis of a resampling. A region of the source is resized to `target` pixels, of which `count` pixels from `first`
/// on are computed.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::preprocess) struct Axis {
    /// Pixels of the source.
    pub(in crate::preprocess) source: u32,
    /// Start and length of the region, in pixels of the source.
    pub(in crate::preprocess) region: [f64; 2],
    /// Number of pixels to which the region is resized.
    pub(in crate::preprocess) target: f64,
    /// The first pixel to compute.
    pub(in crate::preprocess) first: f64,
    /// Number of pixels to compute.
    pub(in crate::preprocess) count: u32,
    /// The filter.
    pub(in crate::preprocess) filter: Filter,
}

/// Weights of several outputs in sequence.
#[derive(Default)]
pub(super) struct Weights {
    exact: Vec<f64>,
    pub(super) fixed: Vec<i32>,
}

impl Axis {
    /// Returns the number of source pixels per target pixel.
    fn scale(&self) -> f64 {
        self.region[1] / self.target
    }

    /// Returns the width of the filter in source pixels per unit of its argument. The filter is stretched if the image
    /// becomes smaller.
    fn stretch(&self) -> f64 {
        self.scale().max(1.0)
    }

    /// Returns the position of an output's centre in the source.
    fn center(&self, output: u32) -> f64 {
        self.region[0] + (self.first + f64::from(output) + 0.5) * self.scale()
    }

    /// Returns the source pixels that an output may depend on; at least one.
    pub(super) fn window(&self, output: u32) -> Range<u32> {
        let (center, support) = (self.center(output), support(self.filter) * self.stretch());
        let start = ((center - support + 0.5) as u32).min(self.source - 1);
        let end = ((center + support + 0.5) as u32).min(self.source);
        start..end.max(start + 1)
    }

    /// Returns the source pixels that all outputs together may depend on.
    pub(super) fn span(&self) -> Range<u32> {
        match self.count.checked_sub(1) {
            Some(last) => self.window(0).start..self.window(last).end,
            None => 0..0,
        }
    }

    /// Appends an output's weights to `weights.fixed`, without outer zeros. Returns the pixel of the first weight.
    #[inline(always)]
    pub(super) fn append(&self, output: u32, weights: &mut Weights) -> u32 {
        let Weights { exact, fixed } = weights;
        let (window, center, narrow) = (self.window(output), self.center(output), 1.0 / self.stretch());
        let mut sum = 0.0;
        exact.clear();
        exact.extend(window.clone().map(|pixel| {
            let weight = weight(self.filter, (f64::from(pixel) - center + 0.5) * narrow);
            sum += weight;
            weight
        }));
        let one = f64::from(1 << FRACTION_BITS);
        let rounded = |weight: &f64| {
            let weight = if sum == 0.0 { *weight } else { weight / sum } * one;
            (weight + 0.5_f64.copysign(weight)) as i32
        };
        let zeros = exact.iter().take_while(|weight| rounded(weight) == 0).count();
        let start = fixed.len();
        fixed.extend(exact[zeros..].iter().map(rounded));
        while fixed.len() > start && fixed.last() == Some(&0) {
            fixed.pop();
        }
        window.start + zeros as u32
    }
}

/// Returns half of the filter's width.
fn support(filter: Filter) -> f64 {
    match filter {
        Filter::Bicubic => 2.0,
        _ => 1.0,
    }
}

/// Returns the filter's value: a triangle, or the cubic convolution of Keys (1981) with a = −1/2.
fn weight(filter: Filter, at: f64) -> f64 {
    let x = at.abs();
    match filter {
        Filter::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        Filter::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
        Filter::Bicubic => 0.0,
        _ => (1.0 - x).max(0.0),
    }
}
