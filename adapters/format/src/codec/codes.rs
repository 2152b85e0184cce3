//! Adaptive model of integer codes in rows.
//!
//! Most codes are 0, and large ones have large neighbours: in the same row, in the row before, and among the latest
//! ones. The model's probabilities depend on these three, so a file needs no tables, and values that are zero together
//! cost hundredths of a bit each.

use alloc::{boxed::Box, vec::Vec};

use super::range::{Coder, Decoder, Encoder};

/// Largest absolute value of a code: its product with a step keeps the code's bits in f32.
pub(crate) const LARGEST_CODE: i32 = 1 << 22;

/// A probability of a 0 bit, as the mean of a fast and a slow average.
#[derive(Clone, Copy)]
struct Probability([u16; 2]);

/// Right shifts of the two averages.
const RATES: [u32; 2] = [5, 7];
/// Least probability, in 65,536ths.
const LEAST: u32 = 24;

impl Probability {
    const EVEN: Self = Self([1 << 15; 2]);

    #[inline]
    fn code(&mut self, coder: &mut impl Coder, bit: bool) -> Option<bool> {
        let mean = self.0.iter().map(|&average| u32::from(average)).sum::<u32>() / 2;
        let zero = mean.clamp(LEAST, (1 << 16) - LEAST);
        let bit = coder.bit(|range| (range >> 16) * zero, bit)?;
        for (average, rate) in self.0.iter_mut().zip(RATES) {
            if bit {
                *average -= *average >> rate;
            } else {
                *average += (u16::MAX - *average) >> rate;
            }
        }
        Some(bit)
    }
}

/// An adaptive yes or no.
pub(crate) struct Flag(Probability);

impl Default for Flag {
    fn default() -> Self {
        Self(Probability::EVEN)
    }
}

impl Flag {
    /// Codes the flag: writes it, or reads one.
    pub(crate) fn code(&mut self, coder: &mut impl Coder, flag: bool) -> Option<bool> {
        self.0.code(coder, flag)
    }
}

/// Kinds of places in a row of nine (a 3×3 kernel): corner, edge, centre. Longer rows have one kind.
const PLACES: usize = 3;
/// Classes of a neighbour's magnitude: 0, 1, 2, more.
const NEAR: usize = 4;
/// Classes of the running mean of magnitudes.
const RECENT: usize = 8;
const CONTEXTS: usize = PLACES * NEAR * NEAR * RECENT;
/// Magnitudes above this one are coded as a number of bits and these bits.
const LADDER: usize = 12;

/// Returns the kind of place of a column.
fn place(width: usize, column: usize) -> usize {
    match (width, column) {
        (9, 4) => 2,
        (9, 1 | 3 | 5 | 7) => 1,
        _ => 0,
    }
}

/// Returns for how many more of `count` codes to reserve memory after `known` ones: not for all at once, because a
/// damaged file of `left` more bytes may not contain them, and for all as soon as an eighth was read, because the old
/// memory is held while the codes move.
fn room(known: usize, count: usize, left: usize) -> usize {
    let more = count - known;
    if known >= count / 8 {
        more
    } else {
        more.min(known.max(64 * left + 1_024))
    }
}

/// Model of the codes of one kind.
pub(crate) struct CodeModel {
    zero: Box<[Probability; CONTEXTS]>,
    /// By the signs of the neighbours in the row and in the row before.
    sign: [Probability; 9],
    /// Whether the magnitude is above 1, 2, …, by the running mean.
    above: Box<[[Probability; LADDER]; RECENT]>,
    /// Number of bits of the rest, in unary.
    bits: [Probability; 32],
    /// Running mean of magnitudes, in 256ths.
    recent: u32,
}

impl Default for CodeModel {
    fn default() -> Self {
        Self {
            zero: Box::new([Probability::EVEN; CONTEXTS]),
            sign: [Probability::EVEN; 9],
            above: Box::new([[Probability::EVEN; LADDER]; RECENT]),
            bits: [Probability::EVEN; 32],
            recent: 0,
        }
    }
}

impl CodeModel {
    /// Appends codes in rows of `width` to the encoder. Magnitudes are at most 2²².
    pub(crate) fn write(&mut self, encoder: &mut Encoder, codes: &[i32], width: usize) {
        let mut above: &[i32] = &[];
        for row in codes.chunks(width) {
            let mut left = 0;
            for (column, &code) in row.iter().enumerate() {
                let above = above.get(column).copied().unwrap_or(0);
                // Only decoders return `None`.
                let _ = self.code(encoder, place(width, column), [left, above], code);
                left = code;
            }
            above = row;
        }
    }

    /// Appends `count` codes in rows of `width` to `codes`, which is empty; `None` if the bytes end or contain an
    /// impossible code.
    pub(crate) fn read(
        &mut self,
        decoder: &mut Decoder<'_>,
        count: usize,
        width: usize,
        codes: &mut Vec<i32>,
    ) -> Option<()> {
        for row in (0..count).step_by(width) {
            let mut left = 0;
            for column in 0..width.min(count - row) {
                let above = (row + column).checked_sub(width).map_or(0, |at| codes[at]);
                left = self.code(decoder, place(width, column), [left, above], 0)?;
                if codes.len() == codes.capacity() {
                    codes.reserve_exact(room(codes.len(), count, decoder.left()));
                }
                codes.push(left);
            }
        }
        Some(())
    }

    /// Codes one value with these neighbours: the code before it in its row, and the one in the row before.
    #[inline]
    fn code(&mut self, coder: &mut impl Coder, place: usize, [left, above]: [i32; 2], value: i32) -> Option<i32> {
        let near = |code: i32| (code.unsigned_abs() as usize).min(NEAR - 1);
        let recent = (u32::BITS - (self.recent / 12).leading_zeros()).min(RECENT as u32 - 1) as usize;
        let context = ((place * NEAR + near(left)) * NEAR + near(above)) * RECENT + recent;
        let magnitude = value.unsigned_abs();
        let nonzero = self.zero[context].code(coder, magnitude != 0)?;
        let code = if nonzero {
            let sign = (left.signum() + 1) * 3 + above.signum() + 1;
            let negative = self.sign[sign as usize].code(coder, value < 0)?;
            let magnitude = self.magnitude(coder, recent, magnitude)? as i32;
            if negative { -magnitude } else { magnitude }
        } else {
            0
        };
        let capped = code.unsigned_abs().min(255) << 8;
        self.recent = self.recent - self.recent / 16 + capped / 16;
        Some(code)
    }

    /// Codes a magnitude of at least 1.
    fn magnitude(&mut self, coder: &mut impl Coder, recent: usize, value: u32) -> Option<u32> {
        for (reached, probability) in (1..).zip(&mut self.above[recent]) {
            if !probability.code(coder, value > reached)? {
                return Some(reached);
            }
        }
        // Exponential Golomb code of what is beyond the ladder.
        let rest = value.wrapping_sub(LADDER as u32 + 1).wrapping_add(1);
        let wanted = rest.max(1).ilog2();
        let mut bits = 0;
        while self.bits[bits].code(coder, (bits as u32) < wanted)? {
            bits += 1;
            if bits == self.bits.len() {
                return None;
            }
        }
        let mut got = 1_u32;
        for place in (0..bits).rev() {
            got = 2 * got + u32::from(coder.even((rest >> place) & 1 == 1)?);
        }
        let magnitude = u64::from(got) + LADDER as u64;
        (magnitude <= LARGEST_CODE as u64).then_some(magnitude as u32)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn bytes_of(codes: &[i32], width: usize) -> Vec<u8> {
        let mut encoder = Encoder::default();
        CodeModel::default().write(&mut encoder, codes, width);
        encoder.finish()
    }

    fn codes_of(bytes: &[u8], count: usize, width: usize) -> Option<Vec<i32>> {
        let mut decoder = Decoder::new(bytes);
        let mut codes = Vec::new();
        CodeModel::default().read(&mut decoder, count, width, &mut codes)?;
        decoder.is_canonical().then_some(codes)
    }

    fn noise(count: usize, spread: u32) -> Vec<i32> {
        let mut state = 7_u32;
        let draw = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % (2 * spread + 1)
        };
        (0..count).map(draw).map(|drawn| drawn as i32 - spread as i32).collect()
    }

    #[test]
    fn codes_survive_a_round_trip() {
        let extremes = [
            0,
            1,
            -1,
            12,
            13,
            14,
            -13,
            255,
            256,
            -70_000,
            LARGEST_CODE,
            -LARGEST_CODE,
        ];
        for (codes, width) in [
            (extremes.to_vec(), 5),
            (noise(900, 1), 9),
            (noise(1_000, 40), 100),
            (noise(300, 100_000), 1),
            (Vec::new(), 4),
        ] {
            assert_eq!(codes_of(&bytes_of(&codes, width), codes.len(), width), Some(codes));
        }
    }

    #[test]
    fn zeros_cost_next_to_nothing_and_noise_costs_its_entropy() {
        let zeros = bytes_of(&vec![0; 80_000], 9).len();
        assert!(zeros < 100, "{zeros} bytes");
        let uniform = bytes_of(&noise(8_000, 3), 100).len() as f64;
        let entropy = 8_000.0 * 7_f64.log2() / 8.0;
        assert!(uniform < 1.04 * entropy, "{uniform} bytes, entropy {entropy}");
    }

    #[test]
    fn decoding_garbage_ends_with_codes_in_range_or_nothing() {
        for seed in 0..200_u8 {
            let bytes: Vec<u8> = (0..60_u8).map(|at| at.wrapping_mul(seed).wrapping_add(seed)).collect();
            let mut codes = Vec::new();
            let _ = CodeModel::default().read(&mut Decoder::new(&bytes), 10_000, 9, &mut codes);
            assert!(codes.iter().all(|code| code.abs() <= LARGEST_CODE));
        }
    }
}
