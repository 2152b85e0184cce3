//! Tests of element-wise kernels with NaN.

use super::*;

#[test]
fn nan_and_infinity_reach_the_output() {
    let mut values = [f32::NAN; 32];
    for isa in Isa::available() {
        let x = vec![f32::NAN; 32];
        let parameters = vec![1.0; AFFINE_PARAMETERS];
        affine(isa, &x, &parameters, 32, &mut values, Bounds { low: 0.0, high: 6.0 });
        assert!(values.iter().all(|value| value.is_nan()), "{isa:?}");
    }
}
