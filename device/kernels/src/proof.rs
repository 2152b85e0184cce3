//! Common test of most kernels, for every instruction set of this machine. The forward kernel must equal a definition
//! in double precision, and the backward kernel the derivative by differences. Lanes beyond the channels must have no
//! effect, and must be written.

use crate::{
    Isa, LANES, block_planes,
    tests::{Random, close, largest},
    unblock,
};

/// `[C, H, W]`.
pub(crate) type Shape = [usize; 3];

/// Returns `[C, H, W]` in blocks, with NaN in the lanes beyond the channels.
pub(crate) fn poisoned(planes: &[f32], [channels, height, width]: Shape) -> Vec<f32> {
    let pixels = height * width;
    let mut blocks = vec![0.0; channels.div_ceil(LANES) * pixels * LANES];
    block_planes(planes, channels, &mut blocks);
    if channels % LANES > 0 {
        let last = blocks.len() - pixels * LANES;
        for pixel in blocks[last..].chunks_exact_mut(LANES) {
            pixel[channels % LANES..].fill(f32::NAN);
        }
    }
    blocks
}

/// Converts back to `[C, H, W]`, and asserts that the lanes beyond the channels are zero.
pub(crate) fn planes(blocks: &[f32], [channels, height, width]: Shape, what: &str) -> Vec<f32> {
    let pixels = height * width;
    assert_eq!(blocks.len(), channels.div_ceil(LANES) * pixels * LANES, "{what}");
    for (at, value) in blocks.iter().enumerate() {
        let channel = at / (pixels * LANES) * LANES + at % LANES;
        assert!(
            channel < channels || *value == 0.0,
            "{what}: {value} beyond the channels"
        );
    }
    let mut planes = vec![0.0; channels * pixels];
    unblock(blocks, channels, &mut planes);
    planes
}

/// Returns the derivative of `Σ f(x) · dy` by differences.
pub(crate) fn slopes(f: &dyn Fn(&[f64]) -> Vec<f64>, x: &[f32], dy: &[f32]) -> Vec<f32> {
    const STEP: f64 = 1e-5;
    let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    let total = |x: &[f64]| f(x).iter().zip(dy).map(|(y, dy)| y * f64::from(*dy)).sum::<f64>();
    (0..x.len())
        .map(|at| {
            let moved = |by: f64| {
                let mut x = x.clone();
                x[at] += by;
                total(&x)
            };
            ((moved(STEP) - moved(-STEP)) / (2.0 * STEP)) as f32
        })
        .collect()
}

/// Forward function from `x` to the result, both in blocks.
pub(crate) type Forward<'a> = dyn Fn(Isa, &[f32]) -> Vec<f32> + 'a;

/// Computes the gradient of `x` from `x` and the result's gradient, all in blocks.
pub(crate) type Backward<'a> = dyn Fn(Isa, &[f32], &[f32]) -> Vec<f32> + 'a;

/// Tests a kernel that maps shape `from` to shape `to`.
pub(crate) fn prove(
    what: &str,
    [from, to]: [Shape; 2],
    definition: &dyn Fn(&[f64]) -> Vec<f64>,
    forward: &Forward<'_>,
    backward: &Backward<'_>,
) {
    if cfg!(miri) {
        // These kernels are safe code, so Miri has nothing to find, and the differences would take it minutes.
        return;
    }
    let mut random = Random(from.iter().chain(&to).fold(7, |seed, side| seed * 31 + *side as u64));
    let (x, dy) = (random.vector(from.iter().product()), random.vector(to.iter().product()));
    let exact: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    let y: Vec<f32> = definition(&exact).into_iter().map(|y| y as f32).collect();
    let dx = slopes(definition, &x, &dy);
    for isa in Isa::available() {
        let what = format!("{what}, {from:?} to {to:?}, {isa:?}");
        let got = planes(&forward(isa, &poisoned(&x, from)), to, &what);
        close(&got, &y, largest(&y), &what);
        let got = planes(&backward(isa, &poisoned(&x, from), &poisoned(&dy, to)), from, &what);
        close(&got, &dx, largest(&dx), &format!("gradient of {what}"));
    }
}
