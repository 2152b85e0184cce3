//! Bound of a convolution's results. Small results can be rounded without saturation, which saves an operation per result.

use super::target::Post;
use crate::simd::{
    LANES, Simd, Vector,
    int8::{Int8Kernel, Int8Simd, Level, Real, dispatch},
};

/// Results below this bound need no saturation, with a margin for the rounding of the bound itself.
const SMALL: f32 = (1 << 29) as f32;

/// Returns whether all results are small, whatever the input. `magnitudes` are bounds of the sums, and `parameters` weights
/// and biases, as many vectors for each vector of sums.
pub(super) fn results_are_small(level: Level, magnitudes: &[[f32; LANES]], parameters: &[f32], post: Post) -> bool {
    let shortcut = match post {
        Post::Nothing | Post::Clamp(_) => return true,
        Post::Round(_) => 0.0,
        Post::Sum(_, sum) => 255.0 * (sum.scale.abs() + sum.inner.map_or(0.0, |inner| inner.scale.abs())),
    };
    let reach = Reach {
        magnitudes,
        parameters: parameters.as_chunks().0,
    };
    // Not small either if it is NaN.
    dispatch(level, reach) + shortcut < SMALL
}

/// Adds the bounds of all results, so that NaN and infinities are never lost.
struct Reach<'a> {
    magnitudes: &'a [[f32; LANES]],
    parameters: &'a [[f32; LANES]],
}

impl Int8Kernel for Reach<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Int8Simd>(self, s: S) -> f32 {
        let f = s.float();
        let mut all = f.zero();
        let count = self.parameters.len() / self.magnitudes.len();
        for (magnitude, parameters) in self.magnitudes.iter().zip(self.parameters.chunks_exact(count)) {
            let magnitude = f.load(magnitude);
            for weight in &parameters[..count - 1] {
                all = all.fma(absolute(s, weight), magnitude);
            }
            all = all.add(absolute(s, &parameters[count - 1]));
        }
        all.lanes().iter().sum()
    }
}

#[inline(always)]
fn absolute<S: Int8Simd>(s: S, values: &[f32; LANES]) -> Real<S> {
    let values = s.float().load(values);
    values.max(s.float().zero().sub(values))
}
