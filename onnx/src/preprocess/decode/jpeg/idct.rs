//! Inverse cosine transform of 8 × 8 coefficients to 8, 4, 2 or 1 samples per side.
//!
//! For fewer samples, only the lowest coefficients are used, as in libjpeg's scaled decoding: this low-pass filters and
//! samples the image in one step. The arithmetic uses integers with 13 fractional bits, so the result is the same on
//! every CPU.

use std::sync::LazyLock;

const FRACTION: u32 = 13;

/// `[sample][coefficient]` for one number of samples; zero beyond it.
type Basis = [[i32; 8]; 8];

/// Bases for 2, 4 and 8 samples.
static BASES: LazyLock<[Basis; 3]> = LazyLock::new(|| [2, 4, 8].map(basis));

fn basis(side: usize) -> Basis {
    let mut basis = [[0; 8]; 8];
    for (sample, row) in basis.iter_mut().enumerate().take(side) {
        for (order, value) in row.iter_mut().enumerate().take(side) {
            let angle = (2 * sample + 1) as f64 * order as f64 * std::f64::consts::PI / (2 * side) as f64;
            let scale = if order == 0 { 0.125_f64.sqrt() } else { 0.5 };
            *value = (scale * angle.cos() * f64::from(1 << FRACTION)).round() as i32;
        }
    }
    basis
}

/// Writes `side` × `side` samples to rows of `out` that are `stride` apart. Coefficients and quantisation steps are in
/// natural order.
pub(super) fn block(side: usize, coefficients: &[i16; 64], steps: &[u16; 64], out: &mut [u8], stride: usize) {
    // A coefficient of 8-bit samples cannot exceed this range.
    let value = |index: usize| (i32::from(coefficients[index]) * i32::from(steps[index])).clamp(-32_768, 32_767);
    match side {
        1 => out[0] = sample((value(0) + 4) >> 3),
        2 => transform::<2>(&BASES[0], value, out, stride),
        4 => transform::<4>(&BASES[1], value, out, stride),
        _ => transform::<8>(&BASES[2], value, out, stride),
    }
}

fn transform<const N: usize>(basis: &Basis, value: impl Fn(usize) -> i32, out: &mut [u8], stride: usize) {
    let mut columns = [[0; N]; N];
    for column in 0..N {
        let input: [i32; N] = std::array::from_fn(|row| value(8 * row + column));
        for (to, weights) in columns.iter_mut().zip(basis) {
            let sum = product(weights, &input);
            // Three fractional bits stay.
            to[column] = ((sum + (1 << (FRACTION - 4))) >> (FRACTION - 3)) as i32;
        }
    }
    for (row, input) in columns.iter().enumerate() {
        let out = &mut out[row * stride..row * stride + N];
        for (out, weights) in out.iter_mut().zip(basis) {
            let sum = product(weights, input);
            *out = sample(((sum + (1 << (FRACTION + 2))) >> (FRACTION + 3)) as i32);
        }
    }
}

fn product(weights: &[i32; 8], values: &[i32]) -> i64 {
    let terms = weights.iter().zip(values);
    terms
        .map(|(&weight, &value)| i64::from(weight) * i64::from(value))
        .sum()
}

fn sample(value: i32) -> u8 {
    (value + 128).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the transform of T.81, A.3.3.
    fn exact(coefficients: &[i16; 64]) -> [f64; 64] {
        std::array::from_fn(|place| {
            let (y, x) = (place / 8, place % 8);
            let mut sum = 0.0;
            for (index, &value) in coefficients.iter().enumerate() {
                let (v, u) = (index / 8, index % 8);
                let scale = |order: usize| if order == 0 { 0.5_f64.sqrt() } else { 1.0 };
                let angle = |at: usize, order: usize| ((2 * at + 1) * order) as f64 * std::f64::consts::PI / 16.0;
                sum += scale(u) * scale(v) * f64::from(value) * angle(x, u).cos() * angle(y, v).cos() / 4.0;
            }
            (sum + 128.0).clamp(0.0, 255.0)
        })
    }

    fn some() -> [i16; 64] {
        std::array::from_fn(|index| match index {
            0 => 120,
            index => ((index * 37 % 23) as i16 - 11) * 3 / (1 + index as i16 / 8),
        })
    }

    #[test]
    fn eight_samples_are_the_standard_transform() {
        let mut out = [0; 64];
        block(8, &some(), &[1; 64], &mut out, 8);
        for (got, expected) in out.iter().zip(exact(&some())) {
            assert!((f64::from(*got) - expected).abs() < 0.6, "{got} {expected}");
        }
    }

    #[test]
    fn fewer_samples_approximate_the_means_of_the_full_ones() {
        // Only low frequencies, all of which the reduced transform keeps.
        let mut smooth = [0; 64];
        (smooth[0], smooth[1], smooth[8], smooth[9]) = (200, -90, 60, 25);
        let full = exact(&smooth);
        for side in [1, 2, 4] {
            let mut out = [0; 64];
            block(side, &smooth, &[1; 64], &mut out, side);
            let each = 8 / side;
            for (place, &got) in out.iter().enumerate().take(side * side) {
                let (y, x) = (place / side * each, place % side * each);
                let mean = (0..each * each)
                    .map(|at| full[8 * (y + at / each) + x + at % each])
                    .sum::<f64>();
                let mean = mean / (each * each) as f64;
                assert!((f64::from(got) - mean).abs() < 3.0, "{side}: {got} {mean}");
            }
        }
    }
}
