//! Quantisation steps of integer codes: a lattice of four steps per octave.
//!
//! `step(e) = m[e mod 4] · 2^⌊e / 4⌋` with `m ≈ 2^(i / 4)`, as a table, so that every platform computes the same bits.
//! A run stores its largest `e` once. For each group of values it stores how far the group's `e` is below the largest
//! one (6 bits: 16 octaves).

/// 2^0, 2^¼, 2^½, 2^¾ in 65,536ths.
const MANTISSAS: [f64; 4] = [65_536.0, 77_936.0, 92_682.0, 110_218.0];

/// The smallest exponent: every multiple of its step is exact in f32, down to the subnormal ones.
pub(super) const LOWEST: i16 = -504;
/// The largest exponent that a file may contain.
pub(super) const HIGHEST: i16 = 511;
/// Bits of a group's distance, which is the run's largest exponent minus the group's.
pub(super) const DISTANCE_BITS: u32 = 6;
/// The largest distance, used for groups of zeros too.
pub(super) const FARTHEST: i16 = (1 << DISTANCE_BITS) - 1;

/// Returns the step of an exponent.
pub(crate) fn step(exponent: i16) -> f64 {
    let octave = i64::from(exponent.div_euclid(4)) + 1023 - 16;
    MANTISSAS[exponent.rem_euclid(4) as usize] * f64::from_bits((octave as u64) << 52)
}

/// Returns the smallest exponent with `largest < reach · step`; `None` for zero.
///
/// `reach` is the largest code plus about one half. Its value is chosen (see `tests.rs`) so that the decoded values
/// have the same exponent. Decoding and encoding again therefore gives the same bytes.
pub(super) fn exponent(largest: f64, reach: f64) -> Option<i16> {
    if largest == 0.0 {
        return None;
    }
    let octave = (((largest / reach).to_bits() >> 52) & 0x7ff) as i16 - 1023;
    let found = (4 * octave..4 * octave + 5).find(|&e| largest < reach * step(e));
    Some(found.unwrap_or(HIGHEST).clamp(LOWEST, HIGHEST))
}

/// Returns the largest exponent of a run, and for every group how far its exponent is below that.
pub(super) fn distances(exponents: &[Option<i16>]) -> (i16, impl Iterator<Item = i16>) {
    let top = exponents.iter().flatten().copied().max().unwrap_or(LOWEST);
    (
        top,
        exponents
            .iter()
            .map(move |e| e.map_or(FARTHEST, |e| (top - e).min(FARTHEST))),
    )
}

/// Returns `magnitude / step` rounded to the nearest integer (halves upwards), at most `largest`.
pub(super) fn nearest(magnitude: f64, step: f64, largest: u32) -> u32 {
    ((magnitude / step + 0.5) as u32).min(largest)
}

/// Rounds to f32, within its finite range.
pub(super) fn to_f32(value: f64) -> f32 {
    (value as f32).clamp(f32::MIN, f32::MAX)
}
