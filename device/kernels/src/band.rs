//! Rows between a convolution and its CLR layer, in a band that slides over the map.

use std::ops::Range;

use crate::simd::LANES;

/// A position of the band. Row r of the buffer contains row `outputs.start + r − 1` of the convolution's output, so there
/// is one row more above and below the outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BandStep {
    /// Rows of the buffer that move to its start: the last two of the position before.
    pub kept: Option<Range<usize>>,
    /// Rows of the convolution's output to compute.
    pub sums: Range<usize>,
    /// The row of the buffer in which the first of `sums` belongs.
    pub place: usize,
    /// The row of the buffer below the map, to be filled with zeros.
    pub below: Option<usize>,
    /// Rows of the output that the buffer then suffices for.
    pub outputs: Range<usize>,
}

impl BandStep {
    /// Moves the kept rows of a plane of the buffer, and clears the row below the map. Rows have `row` values.
    pub(crate) fn advance(&self, plane: &mut [f32], row: usize) {
        if let Some(kept) = &self.kept {
            plane.copy_within(kept.start * row..kept.end * row, 0);
        }
        if let Some(below) = self.below {
            plane[below * row..(below + 1) * row].fill(0.0);
        }
    }

    /// Returns the values of a plane of the buffer that the sums fill, from the first inner pixel to the last one.
    pub(crate) fn inside(&self, row: usize) -> Range<usize> {
        self.place * row + LANES..(self.place + self.sums.len()) * row - LANES
    }
}

/// Returns the positions of a band of `band` output rows over the rows `rows` of a map of `height`. The row of the buffer
/// above the map is never computed, so it must be zero from the start.
pub(crate) fn bands(rows: Range<usize>, height: usize, band: usize) -> impl Iterator<Item = BandStep> {
    let end = rows.end;
    let mut ready = 0;
    rows.step_by(band).map(move |start| {
        let outputs = start..(start + band).min(end);
        let kept = (ready > 0).then(|| ready - 2..ready);
        let wanted = outputs.len() + 2;
        // Rows are counted from 1: row y of the convolution has index y + 1, and index 0 is the row above the map.
        let place = if kept.is_some() { 2 } else { usize::from(start == 0) };
        let (from, until) = (start + place, (start + wanted).min(height + 1));
        ready = wanted;
        BandStep {
            kept,
            sums: from - 1..until.max(from) - 1,
            place,
            below: (until < start + wanted).then_some(wanted - 1),
            outputs,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_output_row_finds_its_three_rows_and_zeros_outside_the_map() {
        for (height, rows, band) in [
            (1, 0..1, 2),
            (7, 0..7, 2),
            (7, 0..7, 7),
            (9, 3..8, 2),
            (9, 4..9, 3),
            (5, 0..2, 2),
        ] {
            // The row of the map that each row of the buffer contains; `None` for zeros.
            let mut buffer: Vec<Option<usize>> = vec![None; band + 2];
            let mut outputs = Vec::new();
            for step in bands(rows.clone(), height, band) {
                if let Some(kept) = step.kept {
                    buffer.copy_within(kept, 0);
                }
                for (place, row) in (step.place..).zip(step.sums) {
                    buffer[place] = Some(row);
                }
                if let Some(below) = step.below {
                    buffer[below] = None;
                }
                for (at, y) in step.outputs.clone().enumerate() {
                    let expected = [y.checked_sub(1), Some(y), Some(y + 1).filter(|&y| y < height)];
                    assert_eq!(buffer[at..at + 3], expected, "{height}, {rows:?}, {band}: row {y}");
                    outputs.push(y);
                }
            }
            assert_eq!(outputs, rows.collect::<Vec<_>>());
        }
    }
}
