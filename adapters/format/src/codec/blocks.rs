//! Block coding of vectors (scales, biases, class weights): signed codes, one step per block of values.

use alloc::vec::Vec;

use super::{
    CodeFault,
    bits::{Fields, pack, packed_bytes},
    steps::{DISTANCE_BITS, HIGHEST, LOWEST, distances, exponent, nearest, step, to_f32},
};

/// Mapping from a code `q` to a value, given its block's step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Curve {
    /// `q · step`.
    Linear,
    /// `q · |q| · step`: finer near zero, for values whose relative error matters.
    Square,
}

/// Parameters of a coding of vectors.
pub(super) struct Blocks {
    /// Number of bits of a code.
    width: u32,
    /// Number of values that share a step.
    block: usize,
    curve: Curve,
    /// Largest magnitude divided by the step; see [`exponent`].
    reach: f64,
}

pub(super) const LINEAR_8: Blocks = Blocks {
    width: 8,
    block: 32,
    curve: Curve::Linear,
    reach: 127.2,
};
pub(super) const LINEAR_10: Blocks = Blocks {
    width: 10,
    block: 16,
    curve: Curve::Linear,
    reach: 511.3,
};
pub(super) const SQUARE_10: Blocks = Blocks {
    width: 10,
    block: 16,
    curve: Curve::Square,
    reach: 261_576.0,
};

impl Blocks {
    const fn largest(&self) -> u32 {
        (1 << (self.width - 1)) - 1
    }

    pub(super) fn run_bytes(&self, elements: u64) -> u64 {
        2 + packed_bytes(DISTANCE_BITS, elements.div_ceil(self.block as u64)) + packed_bytes(self.width, elements)
    }

    fn code(&self, value: f32, step: f64) -> u32 {
        let (magnitude, largest) = (f64::from(value.abs()), self.largest());
        let code = match self.curve {
            Curve::Linear => nearest(magnitude, step, largest),
            Curve::Square => {
                let square = magnitude / step;
                let below = (square as u64).isqrt();
                let up = square - (below * below) as f64 > below as f64 + 0.5;
                (below as u32 + u32::from(up)).min(largest)
            }
        };
        if value < 0.0 { largest - code } else { largest + code }
    }

    fn value(&self, code: u32, step: f64) -> f32 {
        let signed = f64::from(code) - f64::from(self.largest());
        to_f32(
            step * if self.curve == Curve::Square {
                signed * signed.abs()
            } else {
                signed
            },
        )
    }

    pub(super) fn encode(&self, values: &[f32], out: &mut Vec<u8>) {
        let blocks = values.chunks(self.block);
        let magnitude = |block: &[f32]| f64::from(block.iter().fold(0.0_f32, |most, value| most.max(value.abs())));
        let exponents: Vec<_> = blocks
            .clone()
            .map(|block| exponent(magnitude(block), self.reach))
            .collect();
        let (top, distances) = distances(&exponents);
        let distances: Vec<_> = distances.map(|distance| distance.min(top - LOWEST)).collect();
        out.extend(top.to_le_bytes());
        pack(DISTANCE_BITS, distances.iter().map(|&distance| distance as u32), out);
        let steps = distances.iter().map(|&distance| step(top - distance));
        let codes = blocks
            .zip(steps)
            .flat_map(|(block, step)| block.iter().map(move |&value| self.code(value, step)));
        pack(self.width, codes, out);
    }

    pub(super) fn decode(&self, mut bytes: &[u8], elements: usize, out: &mut Vec<f32>) -> Result<(), CodeFault> {
        let top = take_exponent(&mut bytes)?;
        let mut distances = Fields::take(DISTANCE_BITS, elements.div_ceil(self.block) as u64, &mut bytes);
        let mut codes = Fields::take(self.width, elements as u64, &mut bytes);
        let mut step_now = 0.0;
        for index in 0..elements {
            if index % self.block == 0 {
                step_now = step(top - distances.next() as i16);
            }
            let code = codes.next();
            if code > 2 * self.largest() {
                return Err(CodeFault::Code(code));
            }
            out.push(self.value(code, step_now));
        }
        distances.finish()?;
        codes.finish()
    }
}

/// Splits the largest exponent of a run off the front of the run's bytes.
pub(super) fn take_exponent(bytes: &mut &[u8]) -> Result<i16, CodeFault> {
    let (own, rest) = bytes.split_at(2);
    *bytes = rest;
    let top = i16::from_le_bytes([own[0], own[1]]);
    if (LOWEST..=HIGHEST).contains(&top) {
        Ok(top)
    } else {
        Err(CodeFault::Exponent(top))
    }
}
