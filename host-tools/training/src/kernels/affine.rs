//! Per-channel scale and shift with an activation, element-wise activations, `PRelu` and the residual sum.

use super::act::{Act, with_act};
use super::buffer::{Map, Output, Shared};
use super::simd::{Kernel, Simd, dispatch};
use clr_onnx::Activation;
use rayon::prelude::*;

/// Values that one task of an element-wise kernel takes.
const CHUNK: usize = 1 << 14;

/// `act(x · scale + shift)` over a slice.
struct Forward<'a, A> {
    x: &'a [f32],
    scale: f32,
    shift: f32,
    act: A,
    y: Shared<f32>,
}

impl<A: Act> Kernel for Forward<'_, A> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self {
            x,
            scale,
            shift,
            act,
            y,
        } = self;
        // SAFETY: `y` has room for as many values as `x` has.
        unsafe {
            let (scale, shift) = (S::splat(scale), S::splat(shift));
            let mut i = 0;
            while i < x.len() {
                let n = S::LANES.min(x.len() - i);
                let (x, y) = (x.as_ptr().add(i), y.0.add(i));
                if n == S::LANES {
                    S::store(y, act.value::<S>(S::fma(S::load(x), scale, shift)));
                } else {
                    S::store_n(y, act.value::<S>(S::fma(S::load_n(x, n), scale, shift)), n);
                }
                i += S::LANES;
            }
        }
    }
}

/// `dx = dy · slope(x · scale + shift) · scale` over a slice; returns `Σ g · x` and `Σ g`, `g` before the scale.
struct Backward<'a, A> {
    x: &'a [f32],
    dy: &'a [f32],
    scale: f32,
    shift: f32,
    act: A,
    dx: Option<Shared<f32>>,
}

impl<A: Act> Kernel for Backward<'_, A> {
    type Output = [f64; 2];

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> [f64; 2] {
        let Self {
            x,
            dy,
            scale,
            shift,
            act,
            dx,
        } = self;
        // SAFETY: the three slices have the same length.
        unsafe {
            let (scale, shift) = (S::splat(scale), S::splat(shift));
            let (mut sum_gx, mut sum_g) = (S::splat(0.0), S::splat(0.0));
            let mut i = 0;
            while i < x.len() {
                let n = S::LANES.min(x.len() - i);
                let (x, dy) = if n == S::LANES {
                    (S::load(x.as_ptr().add(i)), S::load(dy.as_ptr().add(i)))
                } else {
                    (S::load_n(x.as_ptr().add(i), n), S::load_n(dy.as_ptr().add(i), n))
                };
                let g = S::mul(dy, act.slope::<S>(S::fma(x, scale, shift)));
                sum_gx = S::fma(g, x, sum_gx);
                sum_g = S::add(sum_g, g);
                if let Some(dx) = dx {
                    let (dx, value) = (dx.0.add(i), S::mul(g, scale));
                    if n == S::LANES {
                        S::store(dx, value);
                    } else {
                        S::store_n(dx, value, n);
                    }
                }
                i += S::LANES;
            }
            [f64::from(S::sum(sum_gx)), f64::from(S::sum(sum_g))]
        }
    }
}

/// `act(x · scale + shift)` per channel.
pub(crate) fn forward<A: Act>(x: &[f32], scale: &[f32], shift: &[f32], act: A, map: Map) -> Vec<f32> {
    let mut output = Output::new(map.len());
    let target = output.shared();
    (0..map.n * map.c).into_par_iter().with_min_len(4).for_each(|plane| {
        let (c, at) = (plane % map.c, plane * map.plane());
        // SAFETY: the plane lies within the buffer, and is this task's own.
        let y = Shared(unsafe { target.at(at) });
        dispatch(Forward {
            x: &x[at..][..map.plane()],
            scale: scale[c],
            shift: shift[c],
            act,
            y,
        });
    });
    // SAFETY: every plane has been written.
    unsafe { output.finish() }
}

/// Gradients of [`forward`]: input (if `want_x`), scale and shift.
pub(crate) fn backward<A: Act>(
    x: &[f32],
    dy: &[f32],
    scale: &[f32],
    shift: &[f32],
    act: A,
    map: Map,
    want_x: bool,
) -> (Option<Vec<f32>>, Vec<f32>, Vec<f32>) {
    let mut output = Output::new(if want_x { map.len() } else { 0 });
    let target = want_x.then(|| output.shared());
    let sums = (0..map.c).into_par_iter().map(|c| {
        let mut total = [0f64; 2];
        for n in 0..map.n {
            let at = (n * map.c + c) * map.plane();
            let sums = dispatch(Backward {
                x: &x[at..][..map.plane()],
                dy: &dy[at..][..map.plane()],
                scale: scale[c],
                shift: shift[c],
                act,
                // SAFETY: the plane lies within the buffer, and is this task's own.
                dx: target.map(|target| Shared(unsafe { target.at(at) })),
            });
            total[0] += sums[0];
            total[1] += sums[1];
        }
        (total[0] as f32, total[1] as f32)
    });
    let (ds, db) = sums.unzip();
    // SAFETY: every plane has been written, or the buffer is empty.
    let dx = unsafe { output.finish() };
    (want_x.then_some(dx), ds, db)
}

/// An activation, element by element.
pub(crate) fn activate<A: Act>(x: &[f32], act: A) -> Vec<f32> {
    let mut output = Output::new(x.len());
    let target = output.shared();
    x.par_chunks(CHUNK).enumerate().for_each(|(i, x)| {
        // SAFETY: the chunk lies within the buffer, and is this task's own.
        let y = Shared(unsafe { target.at(i * CHUNK) });
        dispatch(Forward {
            x,
            scale: 1.0,
            shift: 0.0,
            act,
            y,
        });
    });
    // SAFETY: every chunk has been written.
    unsafe { output.finish() }
}

/// `dy · slope(x)`.
pub(crate) fn activate_backward<A: Act>(x: &[f32], dy: &[f32], act: A) -> Vec<f32> {
    let mut output = Output::new(x.len());
    let target = output.shared();
    x.par_chunks(CHUNK)
        .zip(dy.par_chunks(CHUNK))
        .enumerate()
        .for_each(|(i, (x, dy))| {
            // SAFETY: the chunk lies within the buffer, and is this task's own.
            let dx = Some(Shared(unsafe { target.at(i * CHUNK) }));
            dispatch(Backward {
                x,
                dy,
                scale: 1.0,
                shift: 0.0,
                act,
                dx,
            });
        });
    // SAFETY: every chunk has been written.
    unsafe { output.finish() }
}

/// `x if x ≥ 0 else slope · x`, slope per channel.
pub(crate) fn prelu(x: &[f32], slope: &[f32], map: Map) -> Vec<f32> {
    let mut output = Output::new(map.len());
    let target = output.shared();
    (0..map.n * map.c).into_par_iter().for_each(|plane| {
        let at = plane * map.plane();
        // SAFETY: the plane lies within the buffer, and is this task's own.
        let y = Shared(unsafe { target.at(at) });
        let alpha = slope[plane % map.c];
        with_act!(Some(Activation::LeakyRelu { alpha }), act => {
            dispatch(Forward { x: &x[at..][..map.plane()], scale: 1.0, shift: 0.0, act, y });
        });
    });
    // SAFETY: every plane has been written.
    unsafe { output.finish() }
}

/// Gradients of [`prelu`] for input and slope.
pub(crate) fn prelu_backward(x: &[f32], slope: &[f32], dy: &[f32], map: Map) -> (Vec<f32>, Vec<f32>) {
    let mut output = Output::new(map.len());
    let target = output.shared();
    let slopes = (0..map.c).into_par_iter().map(|c| {
        let mut sum = 0f64;
        for n in 0..map.n {
            let at = (n * map.c + c) * map.plane();
            let (x, dy) = (&x[at..][..map.plane()], &dy[at..][..map.plane()]);
            // SAFETY: the plane lies within the buffer, and is this task's own.
            let dx = Some(Shared(unsafe { target.at(at) }));
            with_act!(Some(Activation::LeakyRelu { alpha: slope[c] }), act => {
                dispatch(Backward { x, dy, scale: 1.0, shift: 0.0, act, dx });
            });
            sum += x
                .iter()
                .zip(dy)
                .map(|(&x, &dy)| if x < 0.0 { f64::from(x * dy) } else { 0.0 })
                .sum::<f64>();
        }
        sum as f32
    });
    let slopes = slopes.collect();
    // SAFETY: every plane has been written.
    (unsafe { output.finish() }, slopes)
}

/// `act(a + b)` over a slice, or with `dy`: `dy · slope(a + b)`.
struct Sum<'a, A> {
    a: &'a [f32],
    b: &'a [f32],
    dy: Option<&'a [f32]>,
    act: A,
    y: Shared<f32>,
}

impl<A: Act> Kernel for Sum<'_, A> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { a, b, dy, act, y } = self;
        let mut i = 0;
        // SAFETY: all slices have the same length.
        unsafe {
            while i < a.len() {
                let n = S::LANES.min(a.len() - i);
                let z = S::add(S::load_n(a.as_ptr().add(i), n), S::load_n(b.as_ptr().add(i), n));
                let value = match dy {
                    None => act.value::<S>(z),
                    Some(dy) => S::mul(S::load_n(dy.as_ptr().add(i), n), act.slope::<S>(z)),
                };
                S::store_n(y.0.add(i), value, n);
                i += S::LANES;
            }
        }
    }
}

/// `act(a + b)`, or with `dy` its gradient, which is the same for both.
pub(crate) fn sum<A: Act>(a: &[f32], b: &[f32], dy: Option<&[f32]>, act: A) -> Vec<f32> {
    let mut output = Output::new(a.len());
    let target = output.shared();
    a.par_chunks(CHUNK)
        .zip(b.par_chunks(CHUNK))
        .enumerate()
        .for_each(|(i, (a, b))| {
            let at = i * CHUNK;
            // SAFETY: the chunk lies within the buffer, and is this task's own.
            let y = Shared(unsafe { target.at(at) });
            dispatch(Sum {
                a,
                b,
                dy: dy.map(|dy| &dy[at..][..a.len()]),
                act,
                y,
            });
        });
    // SAFETY: every chunk has been written.
    unsafe { output.finish() }
}
