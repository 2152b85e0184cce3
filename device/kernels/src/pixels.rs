//! Output pixels that are copies or averages of input pixels, selected by row and by column: cropping, padding,
//! resizing.

use clr_onnx::{PadMode, Resize, Taps};

use crate::simd::{Isa, Kernel, LANES, Simd, Vector, dispatch, vectors, vectors_mut};

/// A mapping from input pixels to output pixels, the same for every channel, for one input size.
#[derive(Clone, Debug, PartialEq)]
pub struct PixelMap {
    pub(crate) input: [usize; 2],
    /// `None` if the output is the constant.
    pub(crate) rows: Vec<Option<Taps>>,
    pub(crate) columns: Vec<Option<Taps>>,
    pub(crate) constant: f32,
    /// Whether any weight is non-zero.
    pub(crate) weighted: bool,
}

fn copy(from: usize) -> Taps {
    Taps {
        low: from,
        high: from,
        weight: 0.0,
    }
}

impl PixelMap {
    /// Creates a mapping from its sources per row and per column.
    fn new(input: [usize; 2], axes: [Vec<Option<Taps>>; 2], constant: f32) -> Self {
        for (axis, taps) in axes.iter().enumerate() {
            let inside = |taps: &Taps| taps.low < input[axis] && taps.high < input[axis];
            assert!(
                taps.iter().flatten().all(inside),
                "expected sources below {}",
                input[axis]
            );
        }
        let [rows, columns] = axes;
        let weighted = rows.iter().chain(&columns).flatten().any(|taps| taps.weight != 0.0);
        Self {
            input,
            rows,
            columns,
            constant,
            weighted,
        }
    }

    /// Returns the mapping for a rectangle of `size` (rows, columns) that starts at `start` and takes every `step`-th
    /// pixel (ONNX `Slice`).
    pub fn crop(input: [usize; 2], start: [usize; 2], size: [usize; 2], step: [usize; 2]) -> Self {
        let axis = |axis: usize| {
            let places = (0..size[axis]).map(|at| start[axis] + at * step[axis]);
            places.map(|place| Some(copy(place))).collect()
        };
        Self::new(input, [axis(0), axis(1)], 0.0)
    }

    /// Returns the mapping that adds a border around the input. `pads` are top, left, bottom, right (ONNX `Pad`). If a
    /// border is wider than the input, reflection continues back and forth.
    pub fn pad(input: [usize; 2], pads: [usize; 4], mode: PadMode) -> Self {
        let axis = |axis: usize| {
            let size = input[axis];
            let source = |at: usize| {
                let (at, last) = (at as isize - pads[axis] as isize, size as isize - 1);
                let place = match mode {
                    _ if (0..=last).contains(&at) => at,
                    PadMode::Constant(_) => return None,
                    PadMode::Edge => at.clamp(0, last),
                    PadMode::Wrap => at.rem_euclid(last + 1),
                    PadMode::Reflect => {
                        let period = (2 * last).max(1);
                        let at = at.rem_euclid(period);
                        at.min(period - at).min(last)
                    }
                };
                Some(copy(place as usize))
            };
            (0..size + pads[axis] + pads[axis + 2]).map(source).collect()
        };
        let constant = if let PadMode::Constant(value) = mode {
            value
        } else {
            0.0
        };
        Self::new(input, [axis(0), axis(1)], constant)
    }

    /// Returns the mapping of an interpolation (ONNX `Resize`).
    pub fn resize(input: [usize; 2], resize: &Resize) -> Self {
        let axis = |axis: usize| resize.taps(axis, input[axis]).into_iter().map(Some).collect();
        Self::new(input, [axis(0), axis(1)], 0.0)
    }

    /// Returns the rows and columns of the output.
    pub fn output(&self) -> [usize; 2] {
        [self.rows.len(), self.columns.len()]
    }

    /// Computes `out [B, H', W', 16]` from `x [B, H, W, 16]`.
    pub fn run(&self, isa: Isa, x: &[f32], out: &mut [f32]) {
        self.check(x.len(), out.len());
        dispatch(isa, Forward { map: self, x, out });
    }

    /// Asserts that the lengths match.
    pub(crate) fn check(&self, x: usize, out: usize) {
        let plane = self.input[0] * self.input[1] * LANES;
        assert_eq!(x % plane, 0);
        assert_eq!(out, x / plane * self.rows.len() * self.columns.len() * LANES);
    }
}

struct Forward<'a> {
    map: &'a PixelMap,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let PixelMap {
            input, rows, columns, ..
        } = self.map;
        let planes = vectors(self.x).chunks_exact(input[0] * input[1]);
        let outs = vectors_mut(self.out).chunks_exact_mut(rows.len() * columns.len());
        let constant = [self.map.constant; LANES];
        for (plane, out) in planes.zip(outs) {
            for (out, row) in out.chunks_exact_mut(columns.len()).zip(rows) {
                let Some(row) = row else {
                    out.fill(constant);
                    continue;
                };
                let low = &plane[row.low * input[1]..][..input[1]];
                if !self.map.weighted {
                    for (out, column) in out.iter_mut().zip(columns) {
                        *out = column.map_or(constant, |column| low[column.low]);
                    }
                    continue;
                }
                let high = &plane[row.high * input[1]..][..input[1]];
                let [above, below] = [1.0 - row.weight, row.weight].map(|weight| s.splat(weight));
                for (out, column) in out.iter_mut().zip(columns) {
                    let Some(column) = column else {
                        *out = constant;
                        continue;
                    };
                    let [left, right] = [1.0 - column.weight, column.weight].map(|weight| s.splat(weight));
                    let across = |line: &[[f32; LANES]]| {
                        let value = s.load(&line[column.low]).mul(left);
                        value.fma(s.load(&line[column.high]), right)
                    };
                    across(low).mul(above).fma(across(high), below).store(out);
                }
            }
        }
    }
}
