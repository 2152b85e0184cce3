//! Gradients of the smooth activations.

use crate::{
    activation::{Apply, Chosen, Function, Smooth},
    simd::{Isa, LANES, Simd, Vector, dispatch},
};

/// Multiplies `dy`, the gradient of an activation's result, by the activation's derivative at its input `x`, in place.
/// For clamps use [`clamp_gradient`](crate::clamp_gradient).
pub fn activation_gradient(isa: Isa, smooth: Smooth, x: &[f32], dy: &mut [f32]) {
    assert_eq!(x.len(), dy.len());
    dispatch(isa, Chosen(smooth, Gradient { x, dy }));
}

struct Gradient<'a> {
    x: &'a [f32],
    dy: &'a mut [f32],
}

impl Apply for Gradient<'_> {
    #[inline(always)]
    fn apply<S: Simd, F: Function>(self, simd: S, function: F) {
        let (xs, x_rest) = self.x.as_chunks::<LANES>();
        let (dys, dy_rest) = self.dy.as_chunks_mut::<LANES>();
        for (x, dy) in xs.iter().zip(dys) {
            function.derivative(simd, simd.load(x)).mul(simd.load(dy)).store(dy);
        }
        if !x_rest.is_empty() {
            let mut x = [0.0; LANES];
            x[..x_rest.len()].copy_from_slice(x_rest);
            let slope = function.derivative(simd, simd.load(&x)).lanes();
            dy_rest.iter_mut().zip(slope).for_each(|(dy, slope)| *dy *= slope);
        }
    }
}
