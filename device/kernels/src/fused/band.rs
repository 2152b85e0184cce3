//! A convolution followed by a CLR layer, with a sliding band of rows between them.

use super::{FusedConv, MAX_BLOCKS, Source, Task};
use crate::{
    band::bands,
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
            for step in bands(task.rows.clone(), height, band) {
                for plane in buffer.chunks_exact_mut(plane) {
                    step.advance(plane, row);
                }
                if !step.sums.is_empty() {
                    let inside = step.inside(row);
                    let mut parts: [&mut [f32]; MAX_BLOCKS] = Default::default();
                    for (slot, plane) in parts.iter_mut().zip(buffer.chunks_exact_mut(plane)) {
                        *slot = &mut plane[inside.clone()];
                    }
                    self.convolve(source, task.block, step.sums, width, parts, row, None, None);
                }
                let [start, end] = [step.outputs.start, step.outputs.end].map(|y| y - task.rows.start);
                for (index, (plane, out)) in buffer.chunks_exact(plane).zip(&mut task.outs).enumerate() {
                    let parameters = &parameters[index * CLR_PARAMETERS..(index + 1) * CLR_PARAMETERS];
                    let (taps, bias) = parameters.split_at(9 * LANES);
                    let part = start * width * LANES..end * width * LANES;
                    let size = [end - start, width];
                    let layer = Depthwise {
                        residual: residuals.map(|all| &all[index][part.clone()]),
                        ..Depthwise::bordered(plane, taps, Some(bias), size, &mut out[part.clone()], self.bounds)
                    };
                    depthwise(self.isa, layer);
                    self.activate(&mut out[part]);
                }
            }
        });
    }
}
