//! Vector loops, dispatched to AVX2 at run time.
//!
//! Results are bit-identical on every CPU: partial sums are the same, and multiply-add is never fused.

/// Parts of a sum.
const LANES: usize = 16;

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
    sums.iter().sum::<f32>() + rest
}

vectorised! {
    /// Computes `sum += factor · x`, for the shorter of both.
    fn add_scaled(sum: &mut [f32], factor: f32, x: &[f32]) {
        for (sum, x) in sum.iter_mut().zip(x) {
            *sum += factor * x;
        }
    }

    /// Returns `Σ a · b` over the length of `a`.
    fn dot(a: &[f32], b: &[f32]) -> f32 {
        sum_of(a, b, |a, b| a * b)
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
