//! Adaptive range coder for differences of codes.
//!
//! The typical size of a difference varies between sites and groups. The model adapts to the sizes of the latest
//! differences, so the delta needs no table of probabilities. The coder is LZMA's, with 12-bit probabilities.

use alloc::{boxed::Box, vec::Vec};

/// Bits of a probability.
const BITS: u32 = 12;
/// Adaptation rate of probabilities.
const RATE: u32 = 4;
/// Below this range, the coder shifts out one byte and widens the range.
const NARROW: u32 = 1 << 24;
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

/// Coder of bits. An encoder writes the given bit; a decoder ignores it and returns the one it read.
trait Coder {
    fn modelled(&mut self, probability: &mut Probability, bit: bool) -> Option<bool>;
    fn even(&mut self, bit: bool) -> Option<bool>;
}

impl Model {
    /// Codes one difference. An encoder passes its value; a decoder may pass any number and uses the result.
    fn code(&mut self, coder: &mut impl Coder, value: u32) -> Option<u32> {
        let context = ((self.size + 8) / 16) as usize;
        let tree = &mut self.lengths[context.min(CONTEXTS - 1)];
        let length = u32::BITS - value.leading_zeros();
        let mut node = 1_usize;
        for place in (0..LENGTH_BITS).rev() {
            let bit = coder.modelled(&mut tree[node], (length >> place) & 1 == 1)?;
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
                let bit = coder.modelled(&mut self.below[length as usize][node], bit)?;
                node = 2 * node + usize::from(bit);
                bit
            } else {
                coder.even(bit)?
            };
            out = 2 * out + u32::from(bit);
        }
        Some(out)
    }
}

/// Range encoder.
pub(super) struct Encoder {
    low: u64,
    range: u32,
    /// The last byte, and the number of 0xff bytes after it. A carry may still change both.
    last: u8,
    waiting: u64,
    out: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            low: 0,
            range: u32::MAX,
            last: 0,
            waiting: 1,
            out: Vec::new(),
        }
    }
}

impl Encoder {
    pub(super) fn push(&mut self, model: &mut Model, value: u32) {
        // Only decoders return `None`.
        let _ = model.code(self, value);
    }

    /// Returns the bytes; empty if nothing was coded.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.range == u32::MAX && self.low == 0 {
            return Vec::new();
        }
        for _ in 0..5 {
            self.shift();
        }
        self.out
    }

    fn shift(&mut self) {
        let (carry, low) = ((self.low >> 32) as u8, self.low as u32);
        if low < 0xff00_0000 || carry != 0 {
            self.out.push(self.last.wrapping_add(carry));
            for _ in 1..self.waiting {
                self.out.push(0xff_u8.wrapping_add(carry));
            }
            self.waiting = 0;
            self.last = (low >> 24) as u8;
        }
        self.waiting += 1;
        self.low = u64::from(low & 0x00ff_ffff) << 8;
    }

    fn widen(&mut self) {
        while self.range < NARROW {
            self.range <<= 8;
            self.shift();
        }
    }
}

impl Coder for Encoder {
    fn modelled(&mut self, probability: &mut Probability, bit: bool) -> Option<bool> {
        let bound = probability.bound(self.range);
        if bit {
            self.low += u64::from(bound);
            self.range -= bound;
        } else {
            self.range = bound;
        }
        probability.follow(bit);
        self.widen();
        Some(bit)
    }

    fn even(&mut self, bit: bool) -> Option<bool> {
        self.range >>= 1;
        if bit {
            self.low += u64::from(self.range);
        }
        self.widen();
        Some(bit)
    }
}

/// Range decoder; returns `None` after the end of its bytes.
pub(super) struct Decoder {
    code: u32,
    range: u32,
    bytes: Vec<u8>,
    at: usize,
}

impl Decoder {
    /// Creates a decoder of the bytes of [`Encoder::finish`].
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut decoder = Self {
            code: 0,
            range: u32::MAX,
            bytes: bytes.to_vec(),
            at: 0,
        };
        for _ in 0..5 {
            decoder.code = (decoder.code << 8) | u32::from(decoder.byte().unwrap_or(0));
        }
        decoder
    }

    pub(super) fn pop(&mut self, model: &mut Model) -> Option<u32> {
        model.code(self, 0)
    }

    /// Returns whether every byte was consumed.
    pub(super) fn is_at_end(&self) -> bool {
        self.bytes.is_empty() || self.at == self.bytes.len()
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied();
        self.at += 1;
        byte
    }

    fn widen(&mut self) -> Option<()> {
        while self.range < NARROW {
            self.range <<= 8;
            self.code = (self.code << 8) | u32::from(self.byte()?);
        }
        Some(())
    }
}

impl Coder for Decoder {
    fn modelled(&mut self, probability: &mut Probability, _: bool) -> Option<bool> {
        let bound = probability.bound(self.range);
        let bit = self.code >= bound;
        if bit {
            self.code -= bound;
            self.range -= bound;
        } else {
            self.range = bound;
        }
        probability.follow(bit);
        self.widen()?;
        Some(bit)
    }

    fn even(&mut self, _: bool) -> Option<bool> {
        self.range >>= 1;
        let bit = self.code >= self.range;
        if bit {
            self.code -= self.range;
        }
        self.widen()?;
        Some(bit)
    }
}

#[cfg(test)]
mod tests {
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
            encoder.push(&mut model, value);
        }
        let bytes = encoder.finish();
        let (mut decoder, mut model) = (Decoder::new(&bytes), Model::default());
        for &value in &values {
            assert_eq!(decoder.pop(&mut model), Some(value));
        }
        assert!(decoder.is_at_end());

        let (mut encoder, mut model) = (Encoder::default(), Model::default());
        (0..10_000 / FEWER).for_each(|_| encoder.push(&mut model, 0));
        assert!(encoder.finish().len() < 300);
        assert_eq!(Encoder::default().finish(), []);
    }

    #[test]
    fn decoding_garbage_terminates() {
        for seed in (0..200_u8).step_by(FEWER) {
            let bytes: Vec<u8> = (0..50_u8).map(|at| at.wrapping_mul(seed).wrapping_add(seed)).collect();
            let (mut decoder, mut model) = (Decoder::new(&bytes), Model::default());
            let mut count = 0;
            while decoder.pop(&mut model).is_some() && count < 1_000_000 {
                count += 1;
            }
            assert!(count < 1_000_000);
        }
    }
}
