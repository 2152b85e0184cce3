//! A convolution followed by a CLR layer, with a sliding band of rows between them.

use super::{FusedConv, MAX_BLOCKS, Source, Task};
use crate::{
    depthwise::{Depthwise, depthwise},
    rows::CLR_PARAMETERS,
    simd::LANES,
};

impl FusedConv {
    /// Computes the convolution's rows into a sliding band, and applies the CLR layer to the band to get the output.
    pub(super) fn clr(
        &self,
        source: Source<'_>,
        parameters: &[f32],
        residuals: Option<[&[f32]; MAX_BLOCKS]>,
        task: &mut Task<'_>,
    ) {
        let [height, width] = self.output;
        let count = task.outs.len();
        let band = self.band(width, count).min(task.rows.len());
        let row = (width + 2) * LANES;
        let plane = (band + 2) * row;
        self.arena.lend(count * plane, |buffer| {
            buffer.fill(0.0);
            // Row r of the buffer contains row `start + r − 1` of the convolution's output.
            let mut ready = 0;
            let mut start = task.rows.start;
            while start < task.rows.end {
                let end = (start + band).min(task.rows.end);
                if ready > 0 {
                    for plane in buffer.chunks_exact_mut(plane) {
                        plane.copy_within((ready - 2) * row..ready * row, 0);
                    }
                    ready = 2;
                }
                let wanted = end - start + 2;
                let mut from = start + ready;
                if from == 0 {
                    ready = 1;
                    from = 1;
                }
                // Rows are counted from 1: row y of the convolution has index y + 1, and index 0 is the row above the
                // image.
                let to = (start + wanted).min(height + 1);
                if from < to {
                    let mut parts: [&mut [f32]; MAX_BLOCKS] = Default::default();
                    for (slot, plane) in parts.iter_mut().zip(buffer.chunks_exact_mut(plane)) {
                        *slot = &mut plane[ready * row + LANES..(ready + to - from) * row - LANES];
                    }
                    self.convolve(source, task.block, from - 1..to - 1, width, parts, row, None, None);
                }
                if to < start + wanted {
                    for plane in buffer.chunks_exact_mut(plane) {
                        plane[(wanted - 1) * row..wanted * row].fill(0.0);
                    }
                }
                ready = wanted;
                for (index, (plane, out)) in buffer.chunks_exact(plane).zip(&mut task.outs).enumerate() {
                    let parameters = &parameters[index * CLR_PARAMETERS..(index + 1) * CLR_PARAMETERS];
                    let (taps, bias) = parameters.split_at(9 * LANES);
                    let part = (start - task.rows.start) * width * LANES..(end - task.rows.start) * width * LANES;
                    let size = [end - start, width];
                    let layer = Depthwise {
                        residual: residuals.map(|all| &all[index][part.clone()]),
                        ..Depthwise::bordered(plane, taps, Some(bias), size, &mut out[part.clone()], self.bounds)
                    };
                    depthwise(self.isa, layer);
                    self.activate(&mut out[part]);
                }
                start = end;
            }
        });
    }
}
