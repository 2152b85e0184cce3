//! Folded 3×3 kernels `[C, 3, 3]`: a large centre and eight small neighbours.
//!
//! The values of a channel share one step; the centre has 12 bits, each neighbour 6. If a neighbour is as large as the
//! centre, the neighbour determines the step and all nine values are 6-bit codes.

use alloc::vec::Vec;

use super::{
    CodeFault,
    bits::{Fields, pack, packed_bytes},
    blocks::take_exponent,
    steps::{DISTANCE_BITS, LOWEST, distances, exponent, nearest, step, to_f32},
};

/// Number of values of a kernel.
const TAPS: usize = 9;
/// Index of the centre.
const CENTRE: usize = 4;
const NEIGHBOUR_BITS: u32 = 6;
const CENTRE_BITS: u32 = 12;
const NEIGHBOUR_LARGEST: u32 = 31;
const CENTRE_LARGEST: u32 = 2047;
const NEIGHBOUR_REACH: f64 = 31.517;
const CENTRE_REACH: f64 = 2047.5;

pub(super) fn run_bytes(elements: u64) -> u64 {
    let channels = elements / TAPS as u64;
    2 + packed_bytes(DISTANCE_BITS, channels)
        + packed_bytes(CENTRE_BITS, channels)
        + packed_bytes(NEIGHBOUR_BITS, 8 * channels)
}

fn code(value: f32, step: f64, largest: u32) -> u32 {
    let magnitude = nearest(f64::from(value.abs()), step, largest);
    if value < 0.0 {
        largest - magnitude
    } else {
        largest + magnitude
    }
}

fn neighbours(kernel: &[f32; TAPS]) -> impl Iterator<Item = f32> {
    let (before, after) = (&kernel[..CENTRE], &kernel[CENTRE + 1..]);
    before.iter().chain(after).copied()
}

fn kernel_exponent(kernel: &[f32; TAPS]) -> Option<i16> {
    let largest = neighbours(kernel).fold(0.0_f32, |most, value| most.max(value.abs()));
    exponent(f64::from(largest), NEIGHBOUR_REACH).max(exponent(f64::from(kernel[CENTRE].abs()), CENTRE_REACH))
}

pub(super) fn encode(values: &[f32], out: &mut Vec<u8>) {
    let kernels = values.as_chunks::<TAPS>().0;
    let exponents: Vec<_> = kernels.iter().map(kernel_exponent).collect();
    let (top, distances) = distances(&exponents);
    let distances: Vec<_> = distances.map(|distance| distance.min(top - LOWEST)).collect();
    let steps = || distances.iter().map(|&distance| step(top - distance));
    out.extend(top.to_le_bytes());
    pack(DISTANCE_BITS, distances.iter().map(|&distance| distance as u32), out);
    pack(
        CENTRE_BITS,
        kernels
            .iter()
            .zip(steps())
            .map(|(k, step)| code(k[CENTRE], step, CENTRE_LARGEST)),
        out,
    );
    let codes = kernels
        .iter()
        .zip(steps())
        .flat_map(|(k, step)| neighbours(k).map(move |value| code(value, step, NEIGHBOUR_LARGEST)));
    pack(NEIGHBOUR_BITS, codes, out);
}

pub(super) fn decode(mut bytes: &[u8], elements: usize, out: &mut Vec<f32>) -> Result<(), CodeFault> {
    let channels = (elements / TAPS) as u64;
    let top = take_exponent(&mut bytes)?;
    let mut distances = Fields::take(DISTANCE_BITS, channels, &mut bytes);
    let mut centres = Fields::take(CENTRE_BITS, channels, &mut bytes);
    let mut neighbours = Fields::take(NEIGHBOUR_BITS, 8 * channels, &mut bytes);
    let value = |code: u32, step: f64, largest: u32| {
        if code > 2 * largest {
            return Err(CodeFault::Code(code));
        }
        Ok(to_f32((f64::from(code) - f64::from(largest)) * step))
    };
    for _ in 0..channels {
        let step = step(top - distances.next() as i16);
        for tap in 0..TAPS {
            out.push(if tap == CENTRE {
                value(centres.next(), step, CENTRE_LARGEST)?
            } else {
                value(neighbours.next(), step, NEIGHBOUR_LARGEST)?
            });
        }
    }
    distances.finish()?;
    centres.finish()?;
    neighbours.finish()
}
