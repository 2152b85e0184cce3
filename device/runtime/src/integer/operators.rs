//! Operators on bytes other than convolutions. They have no backward pass.

use clr_kernels::{
    Bounds, Int8Mean, LANES, PoolShape, Summand, add_bytes, dequantize, global_average_bytes, lookup, pool_bytes,
    quantize,
};
use clr_onnx::{Quantisation, Shape};
use rayon::prelude::*;

use super::{bytes, bytes_mut, rounding};
use crate::operators::{Backward, Context, Operator};

/// Number of bytes above which blocks are distributed over threads.
const PARALLEL: usize = 1 << 18;

/// Declares that an operator has no backward pass.
macro_rules! inference_only {
    () => {
        fn is_differentiable(&self) -> bool {
            false
        }

        fn backward(&self, _step: Backward<'_>) {
            unreachable!("a step on bytes is never part of a backward pass")
        }
    };
}

/// Real values to bytes, both in blocks (ONNX `QuantizeLinear`, opset 13).
#[derive(Debug)]
pub(crate) struct Quantise {
    pub(crate) grid: Quantisation,
    pub(crate) context: Context,
}

impl Operator for Quantise {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        let rounding = rounding(self.grid, Bounds::NONE);
        quantize(self.context.isa, inputs[0], self.grid.scale, rounding, bytes_mut(out));
    }

    inference_only!();
}

/// Bytes to real values, both in blocks (ONNX `DequantizeLinear`, opset 13).
#[derive(Debug)]
pub(crate) struct Dequantise {
    pub(crate) grid: Quantisation,
    pub(crate) context: Context,
}

impl Operator for Dequantise {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        let Quantisation { scale, zero_point } = self.grid;
        dequantize(self.context.isa, bytes(inputs[0]), scale, zero_point, out);
    }

    inference_only!();
}

/// The sum of two values of bytes.
#[derive(Debug)]
pub(crate) struct AddBytes {
    pub(crate) inputs: [Quantisation; 2],
    pub(crate) grid: Quantisation,
    pub(crate) bounds: Bounds,
    pub(crate) context: Context,
}

impl Operator for AddBytes {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        let summand = |index: usize| Summand {
            x: bytes(inputs[index]),
            zero_point: self.inputs[index].zero_point,
            scale: self.inputs[index].scale / self.grid.scale,
        };
        let rounding = rounding(self.grid, self.bounds);
        add_bytes(self.context.isa, summand(0), summand(1), rounding, bytes_mut(out));
    }

    inference_only!();
}

/// Maximum or mean over windows of bytes.
#[derive(Debug)]
pub(crate) struct PoolBytes {
    pub(crate) shape: PoolShape,
    pub(crate) input: Quantisation,
    pub(crate) grid: Quantisation,
    pub(crate) context: Context,
}

impl Operator for PoolBytes {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        let plane = |[height, width]: [usize; 2]| height * width * LANES;
        let (from, to) = (plane(self.shape.input), plane(self.shape.output));
        let (x, out) = (bytes(inputs[0]), bytes_mut(out));
        let mean = Int8Mean {
            zero_point: self.input.zero_point,
            scale: self.input.scale / self.grid.scale,
        };
        let rounding = rounding(self.grid, Bounds::NONE);
        let one = |(x, out): (&[u8], &mut [u8])| pool_bytes(self.context.isa, &self.shape, x, mean, rounding, out);
        if self.context.threads > 1 && x.len() > PARALLEL {
            x.par_chunks_exact(from).zip(out.par_chunks_exact_mut(to)).for_each(one);
        } else {
            x.chunks_exact(from).zip(out.chunks_exact_mut(to)).for_each(one);
        }
    }

    inference_only!();
}

/// The mean of bytes over the map, as real values.
#[derive(Debug)]
pub(crate) struct MeanOfBytes {
    /// Bytes of a block's plane.
    pub(crate) plane: usize,
    pub(crate) input: Quantisation,
    pub(crate) context: Context,
}

impl Operator for MeanOfBytes {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        let Quantisation { scale, zero_point } = self.input;
        let mean = Int8Mean { zero_point, scale };
        global_average_bytes(self.context.isa, bytes(inputs[0]), self.plane, mean, out);
    }

    inference_only!();
}

/// An operator on single values, such as a smooth activation, as a table of its 256 results.
#[derive(Debug)]
pub(crate) struct Lookup {
    table: Box<[u8; 256]>,
}

impl Lookup {
    /// Makes the table with the operator on real values, so that both compute the same function.
    pub(crate) fn new(real: &dyn Operator, input: Quantisation, grid: Quantisation) -> Self {
        let inputs: Vec<f32> = (0..=255).map(|byte| input.real(byte)).collect();
        let mut results = vec![0.0; inputs.len()];
        real.forward(&[&inputs], &mut results);
        let mut table = Box::new([0; 256]);
        for (byte, result) in table.iter_mut().zip(results) {
            *byte = grid.byte(result);
        }
        Self { table }
    }
}

impl Operator for Lookup {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        lookup(&self.table, bytes(inputs[0]), bytes_mut(out));
    }

    inference_only!();
}

/// A selection of the inputs' channels, each rounded to the grid of the result.
#[derive(Debug)]
pub(crate) struct GatherBytes {
    /// For each channel of the result: the input, and the channel in it.
    channels: Vec<(usize, usize)>,
    /// The byte in the result for each byte of an input; `None` if they are equal.
    tables: Vec<Option<Box<[u8; 256]>>>,
    pixels: usize,
}

impl GatherBytes {
    /// Creates the selection `index` of the concatenated inputs' channels, for maps of `pixels`.
    pub(crate) fn new(index: &[u32], inputs: &[(Shape, Quantisation)], grid: Quantisation, pixels: usize) -> Self {
        let all: Vec<(usize, usize)> = (inputs.iter().enumerate())
            .flat_map(|(input, (shape, _))| (0..shape.channels()).map(move |channel| (input, channel)))
            .collect();
        let table = |own: Quantisation| {
            let mut table = Box::new([0; 256]);
            for (byte, to) in (0..=255).zip(table.iter_mut()) {
                *to = grid.byte(own.real(byte));
            }
            table
        };
        Self {
            channels: index.iter().map(|&channel| all[channel as usize]).collect(),
            tables: inputs
                .iter()
                .map(|&(_, own)| (own != grid).then(|| table(own)))
                .collect(),
            pixels,
        }
    }

    /// Returns whether sixteen channels of the result are a block of an input.
    fn is_block(channels: &[(usize, usize)]) -> bool {
        let (input, first) = channels[0];
        let expected = (first..).map(|channel| (input, channel));
        first.is_multiple_of(LANES) && channels.iter().copied().eq(expected.take(channels.len()))
    }
}

impl Operator for GatherBytes {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        let plane = self.pixels * LANES;
        let blocks = bytes_mut(out).chunks_exact_mut(plane);
        for (channels, out) in self.channels.chunks(LANES).zip(blocks) {
            let block = |(input, channel): (usize, usize)| &bytes(inputs[input])[channel / LANES * plane..][..plane];
            if Self::is_block(channels) {
                let x = block(channels[0]);
                match &self.tables[channels[0].0] {
                    Some(table) => lookup(table, x, out),
                    None => out.copy_from_slice(x),
                }
                continue;
            }
            out.fill(0);
            for (lane, &(input, channel)) in channels.iter().enumerate() {
                let x = block((input, channel)).iter().skip(channel % LANES).step_by(LANES);
                let out = out.iter_mut().skip(lane).step_by(LANES);
                match &self.tables[input] {
                    Some(table) => out.zip(x).for_each(|(out, x)| *out = table[usize::from(*x)]),
                    None => out.zip(x).for_each(|(out, x)| *out = *x),
                }
            }
        }
    }

    inference_only!();
}
