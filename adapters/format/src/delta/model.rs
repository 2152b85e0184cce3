//! Adaptive model of the differences of codes in a delta.
//!
//! The typical size of a difference varies between sites and groups. The model adapts to the sizes of the latest
//! differences, so the delta needs no table of probabilities.

use alloc::boxed::Box;

use crate::codec::range::{Coder, Decoder, Encoder};

/// Bits of a probability.
const BITS: u32 = 12;
/// Adaptation rate of probabilities.
const RATE: u32 = 4;
/// Bits needed to code the length of a difference in bits, 0–32.
const LENGTH_BITS: u32 = 6;
/// Number of contexts, by the size of the latest differences: two per bit of length.
const CONTEXTS: usize = 65;
/// Number of modelled bits after the highest one. The remaining bits are nearly uniform.
const MODELLED: u32 = 2;

/// A probability of a 0, in 4,096ths.
#[derive(Clone, Copy)]
struct Probability(u16);

impl Probability {
    const EVEN: Self = Self(1 << (BITS - 1));

    /// Returns the part of `range` assigned to a 0 bit.
    fn bound(self, range: u32) -> u32 {
        (range >> BITS) * u32::from(self.0)
    }

    fn code(&mut self, coder: &mut impl Coder, bit: bool) -> Option<bool> {
        let before = *self;
        let bit = coder.bit(|range| before.bound(range), bit)?;
        self.follow(bit);
        Some(bit)
    }

    fn follow(&mut self, bit: bool) {
        if bit {
            self.0 -= self.0 >> RATE;
        } else {
            self.0 += ((1 << BITS) - self.0) >> RATE;
        }
    }
}

/// Model of differences of one kind.
pub(super) struct Model {
    /// Probabilities of the length in bits, by the size of the latest differences.
    lengths: Box<[[Probability; 1 << LENGTH_BITS]; CONTEXTS]>,
    /// Probabilities of the bits after the highest one, by length.
    below: Box<[[Probability; 1 << MODELLED]; 33]>,
    /// Running mean of lengths, in 32nds of a bit.
    size: u32,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            lengths: Box::new([[Probability::EVEN; 1 << LENGTH_BITS]; CONTEXTS]),
            below: Box::new([[Probability::EVEN; 1 << MODELLED]; 33]),
            size: 0,
        }
    }
}

impl Model {
    /// Codes one difference. An encoder passes its value; a decoder may pass any number and uses the result.
    fn code(&mut self, coder: &mut impl Coder, value: u32) -> Option<u32> {
        let context = ((self.size + 8) / 16) as usize;
        let tree = &mut self.lengths[context.min(CONTEXTS - 1)];
        let length = u32::BITS - value.leading_zeros();
        let mut node = 1_usize;
        for place in (0..LENGTH_BITS).rev() {
            let bit = tree[node].code(coder, (length >> place) & 1 == 1)?;
            node = 2 * node + usize::from(bit);
        }
        let length = node as u32 - (1 << LENGTH_BITS);
        if length > u32::BITS {
            return None;
        }
        self.size = (7 * self.size + 32 * length) / 8;
        if length < 2 {
            return Some(length);
        }
        let mut out = 1_u32;
        let mut node = 1_usize;
        for place in (0..length - 1).rev() {
            let bit = (value >> place) & 1 == 1;
            let bit = if length - 2 - place < MODELLED {
                let bit = self.below[length as usize][node].code(coder, bit)?;
                node = 2 * node + usize::from(bit);
                bit
            } else {
                coder.even(bit)?
            };
            out = 2 * out + u32::from(bit);
        }
        Some(out)
    }

    /// Writes one difference.
    pub(super) fn push(&mut self, encoder: &mut Encoder, value: u32) {
        // Only decoders return `None`.
        let _ = self.code(encoder, value);
    }

    /// Reads one difference.
    pub(super) fn pop(&mut self, decoder: &mut Decoder<'_>) -> Option<u32> {
        self.code(decoder, 0)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// Divisor for the number of tested values: larger under Miri, which would take minutes.
    const FEWER: usize = if cfg!(miri) { 50 } else { 1 };

    #[test]
    fn coded_numbers_survive_a_round_trip_and_small_ones_take_few_bytes() {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let mut values = [0_u32; 3_000 / FEWER].to_vec();
        values.extend((0..3_000 / FEWER).map(|_| next() % 4));
        values.extend((0..1_000 / FEWER).map(|_| next().wrapping_mul(257)));
        values.extend([u32::MAX, 0, 1, u32::MAX - 1, 1 << 31]);
        values.extend([u32::MAX; 500 / FEWER]);
        let (mut encoder, mut model) = (Encoder::default(), Model::default());
        for &value in &values {
            model.push(&mut encoder, value);
        }
        let bytes = encoder.finish();
        let (mut decoder, mut model) = (Decoder::new(&bytes), Model::default());
        for &value in &values {
            assert_eq!(model.pop(&mut decoder), Some(value));
        }
        assert!(decoder.is_canonical());

        let (mut encoder, mut model) = (Encoder::default(), Model::default());
        (0..10_000 / FEWER).for_each(|_| model.push(&mut encoder, 0));
        assert!(encoder.finish().len() < 300);
        assert_eq!(Encoder::default().finish(), []);
    }

    #[test]
    fn decoding_garbage_terminates() {
        for seed in (0..200_u8).step_by(FEWER) {
            let bytes: Vec<u8> = (0..50_u8).map(|at| at.wrapping_mul(seed).wrapping_add(seed)).collect();
            let (mut decoder, mut model) = (Decoder::new(&bytes), Model::default());
            let mut count = 0;
            while model.pop(&mut decoder).is_some() && count < 1_000_000 {
                count += 1;
            }
            assert!(count < 1_000_000);
        }
    }
}
