//! Vector loops, dispatched to AVX2 at run time.
//!
//! Results are bit-identical on every CPU: partial sums are the same, and multiply-add is never fused.

/// Parts of a sum, and values of a vector.
pub(super) const LANES: usize = 16;
/// Vectors of a sum that are kept in registers.
const BLOCK: usize = 4;

/// Defines functions that are compiled twice: for AVX2, and for every CPU.
macro_rules! vectorised {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $kind:ty),*) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$doc])*
        pub(super) fn $name($($argument: $kind),*) $(-> $result)? {
            #[inline(always)]
            fn loops($($argument: $kind),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn wide($($argument: $kind),*) $(-> $result)? {
                    loops($($argument),*)
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the CPU has AVX2.
                    #[expect(unsafe_code, reason = "with SSE2 alone, a training step of Lite0 took 1.1 times as long")]
                    return unsafe { wide($($argument),*) };
                }
            }
            loops($($argument),*)
        }
    )*};
}

/// Returns `Σ term(a[i], b[i])` in [`LANES`] parts.
#[inline(always)]
fn sum_of(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let b = &b[..a.len()];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| term(*a, *b)).sum();
    total(sums) + rest
}

/// Returns the sum of the parts of a sum.
#[inline(always)]
pub(super) fn total(mut sums: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

/// Returns values `from..from + N` of a [`weighted_sum`].
#[inline(always)]
fn weighted<const N: usize>(from: usize, starts: &[usize], weights: &[f32], x: &[f32]) -> [f32; N] {
    debug_assert!(starts.iter().all(|start| start + from + N <= x.len()));
    let mut sum = [0.0; N];
    for (start, weight) in starts.iter().zip(weights) {
        if let Some(x) = x[start + from..].first_chunk::<N>() {
            for lane in 0..N {
                sum[lane] += weight * x[lane];
            }
        }
    }
    sum
}

/// [`add_products`] of `N` starts.
#[inline(always)]
fn products<const N: usize>(
    sums: &mut [[f32; LANES]; N],
    starts: &[usize; N],
    x: &[f32],
    y: &[f32],
    lengths: [usize; 2],
) {
    debug_assert!(starts.iter().all(|start| start + lengths[1] <= lengths[0]));
    let mut local = *sums;
    for (x, y) in x.chunks_exact(lengths[0]).zip(y.chunks_exact(lengths[1])) {
        for (index, y) in y.as_chunks::<LANES>().0.iter().enumerate() {
            for (sum, start) in local.iter_mut().zip(starts) {
                if let Some(x) = x[start + index * LANES..].first_chunk::<LANES>() {
                    for lane in 0..LANES {
                        sum[lane] += x[lane] * y[lane];
                    }
                }
            }
        }
    }
    *sums = local;
}

vectorised! {
    /// Computes `sum[i] = Σ weight · x[start + i]` over starts and their weights. The length of `sum` is a multiple of
    /// [`LANES`].
    fn weighted_sum(sum: &mut [f32], starts: &[usize], weights: &[f32], x: &[f32]) {
        let (blocks, rest) = sum.as_chunks_mut::<{ BLOCK * LANES }>();
        let after = blocks.len() * BLOCK * LANES;
        for (index, block) in blocks.iter_mut().enumerate() {
            *block = weighted(index * BLOCK * LANES, starts, weights, x);
        }
        for (index, vector) in rest.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            *vector = weighted(after + index * LANES, starts, weights, x);
        }
    }

    /// Adds `Σ x[start + i] · y[i]` to the sum of each start, in [`LANES`] parts, for pairs of slices of these lengths. The
    /// second one is a multiple of [`LANES`].
    fn add_products(sums: &mut [[f32; LANES]], starts: &[usize], x: &[f32], y: &[f32], lengths: [usize; 2]) {
        let (blocks, rest) = sums.as_chunks_mut::<BLOCK>();
        let (starts, starts_of_rest) = starts.as_chunks::<BLOCK>();
        for (sums, starts) in blocks.iter_mut().zip(starts) {
            products(sums, starts, x, y, lengths);
        }
        for (sum, start) in rest.iter_mut().zip(starts_of_rest) {
            products(std::array::from_mut(sum), &[*start], x, y, lengths);
        }
    }

    /// Returns `Σ x · y` over the length of `x`.
    fn dot(x: &[f32], y: &[f32]) -> f32 {
        sum_of(x, y, |x, y| x * y)
    }

    /// Computes `x = x + bias`.
    fn shift(x: &mut [f32], bias: f32) {
        for x in x.iter_mut() {
            *x += bias;
        }
    }

    /// Computes `x = x · factor`.
    fn scale(x: &mut [f32], factor: f32) {
        for x in x.iter_mut() {
            *x *= factor;
        }
    }

    /// Returns `Σ x`.
    fn sum(x: &[f32]) -> f32 {
        sum_of(x, x, |x, _| x)
    }

    /// Returns `Σ (x − centre)²`.
    fn sum_of_squares(x: &[f32], centre: f32) -> f32 {
        sum_of(x, x, |x, _| (x - centre) * (x - centre))
    }

    /// Returns `Σ (x − centre) · y`.
    fn centred_dot(x: &[f32], centre: f32, y: &[f32]) -> f32 {
        sum_of(x, y, |x, y| (x - centre) * y)
    }

    /// Computes `y = (x − mean) · scale + bias`.
    fn normalise(y: &mut [f32], x: &[f32], mean: f32, scale: f32, bias: f32) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = (x - mean) * scale + bias;
        }
    }

    /// Computes `dx = scale · (dy − offset − slope · (x − mean))`.
    fn norm_gradient(dx: &mut [f32], x: &[f32], dy: &[f32], mean: f32, scale: f32, offset: f32, slope: f32) {
        for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
            *dx = scale * (dy - offset - slope * (x - mean));
        }
    }

    /// Computes `y = min(max(x, low), high)`.
    fn clamp(y: &mut [f32], x: &[f32], low: f32, high: f32) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = x.max(low).min(high);
        }
    }

    /// Computes `dx = dy` where x is between the bounds, and 0 elsewhere.
    fn clamp_gradient(dx: &mut [f32], x: &[f32], dy: &[f32], low: f32, high: f32) {
        for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
            *dx = if *x > low && *x < high { *dy } else { 0.0 };
        }
    }
}
