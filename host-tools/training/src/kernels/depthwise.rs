//! The CLR layer: depthwise 3×3, stride 1, padding 1, with bias and activation fused in; gradients of input, kernel and bias.
//!
//! Each plane is copied into a scratch plane whose rows have one zero column behind them and a zero row above and below. In it a
//! tap is a constant offset, so that the nine taps run along the whole plane in full vectors, whatever its width.

use super::act::Act;
use super::buffer::{Map, Output, Shared};
use super::simd::{Kernel, Simd, copy, dispatch};
use rayon::prelude::*;

/// Slack behind a scratch plane: a vector may run over its end.
const SLACK: usize = 16;

/// A scratch plane with a zero border.
pub(super) struct Padded {
    values: Vec<f32>,
    pub(super) h: usize,
    pub(super) w: usize,
}

impl Padded {
    pub(super) fn new(h: usize, w: usize) -> Self {
        Self {
            values: vec![0.0; (h + 2) * (w + 1) + 2 * SLACK],
            h,
            w,
        }
    }

    /// Distance of rows.
    #[inline(always)]
    pub(super) fn stride(&self) -> usize {
        self.w + 1
    }

    /// Positions from the first pixel to the end of the last row, border column included.
    #[inline(always)]
    pub(super) fn span(&self) -> usize {
        self.h * self.stride()
    }

    /// The address of pixel (0, 0).
    #[inline(always)]
    pub(super) fn origin(&mut self) -> *mut f32 {
        // SAFETY: the buffer has a row and one value more in front.
        unsafe { self.values.as_mut_ptr().add(self.stride() + 1) }
    }

    /// Copies a plane in.
    #[inline(always)]
    pub(super) unsafe fn fill<S: Simd>(&mut self, plane: *const f32) {
        let (w, stride, origin) = (self.w, self.stride(), self.origin());
        for y in 0..self.h {
            // SAFETY: the plane has h × w values, the scratch rows w and a border.
            unsafe { copy::<S>(plane.add(y * w), origin.add(y * stride), w) }
        }
    }

    /// Copies the plane out.
    #[inline(always)]
    pub(super) unsafe fn extract<S: Simd>(&mut self, plane: *mut f32) {
        let (w, stride, origin) = (self.w, self.stride(), self.origin());
        for y in 0..self.h {
            // SAFETY: as `fill`.
            unsafe { copy::<S>(origin.add(y * stride), plane.add(y * w), w) }
        }
    }
}

/// The nine offsets of the taps in a scratch plane of row distance `stride`.
#[inline(always)]
pub(super) fn offsets(stride: usize) -> [isize; 9] {
    let s = stride as isize;
    [-s - 1, -s, -s + 1, -1, 0, 1, s - 1, s, s + 1]
}

/// The nine values under the taps.
#[inline(always)]
pub(super) unsafe fn window<S: Simd>(x: *const f32, offsets: &[isize; 9]) -> [S::V; 9] {
    // SAFETY: the caller stands within a scratch plane.
    unsafe {
        let mut values = [S::splat(0.0); 9];
        for (value, &offset) in values.iter_mut().zip(offsets) {
            *value = S::load(x.offset(offset));
        }
        values
    }
}

/// `bias + Σ kernel · window`, in a fixed order with two chains.
#[inline(always)]
pub(super) unsafe fn taps<S: Simd>(window: &[S::V; 9], kernel: &[S::V; 9], bias: S::V) -> S::V {
    // SAFETY: register arithmetic at the level of S.
    unsafe {
        let mut even = S::fma(window[0], kernel[0], bias);
        let mut odd = S::mul(window[1], kernel[1]);
        even = S::fma(window[2], kernel[2], even);
        odd = S::fma(window[3], kernel[3], odd);
        even = S::fma(window[4], kernel[4], even);
        odd = S::fma(window[5], kernel[5], odd);
        even = S::fma(window[6], kernel[6], even);
        odd = S::fma(window[7], kernel[7], odd);
        even = S::fma(window[8], kernel[8], even);
        S::add(even, odd)
    }
}

#[inline(always)]
pub(super) unsafe fn splat_kernel<S: Simd>(kernel: &[f32], flip: bool) -> [S::V; 9] {
    // SAFETY: register arithmetic at the level of S.
    unsafe {
        let mut values = [S::splat(0.0); 9];
        for (i, value) in values.iter_mut().enumerate() {
            *value = S::splat(kernel[if flip { 8 - i } else { i }]);
        }
        values
    }
}

/// `act(depthwise(x, kernel) + bias)`: x `[N, C, H, W]`, kernel `[C, 9]`, bias `[C]`.
pub(crate) fn forward<A: Act>(x: &[f32], kernel: &[f32], bias: Option<&[f32]>, act: A, map: Map) -> Vec<f32> {
    let mut output = Output::new(map.len());
    let target = output.shared();
    let scratch = || (Padded::new(map.h, map.w), Padded::new(map.h, map.w));
    (0..map.n * map.c)
        .into_par_iter()
        .with_min_len(4)
        .for_each_init(scratch, |(source, result), plane| {
            let c = plane % map.c;
            dispatch(Forward {
                x: &x[plane * map.plane()..][..map.plane()],
                kernel: &kernel[c * 9..][..9],
                bias: bias.map_or(0.0, |bias| bias[c]),
                act,
                source,
                result,
                // SAFETY: the plane lies within the buffer, and is this task's own.
                target: Shared(unsafe { target.at(plane * map.plane()) }),
            });
        });
    // SAFETY: every plane has been written.
    unsafe { output.finish() }
}

struct Forward<'a, A> {
    x: &'a [f32],
    kernel: &'a [f32],
    bias: f32,
    act: A,
    source: &'a mut Padded,
    result: &'a mut Padded,
    target: Shared<f32>,
}

impl<A: Act> Kernel for Forward<'_, A> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self {
            x,
            kernel,
            bias,
            act,
            source,
            result,
            target,
        } = self;
        // SAFETY: vectors start within the scratch planes and overrun into their slack only.
        unsafe {
            source.fill::<S>(x.as_ptr());
            let (kernel, bias) = (splat_kernel::<S>(kernel, false), S::splat(bias));
            let offsets = offsets(source.stride());
            let (from, to, span) = (source.origin(), result.origin(), source.span());
            let mut p = 0;
            while p < span {
                let z = taps::<S>(&window::<S>(from.add(p), &offsets), &kernel, bias);
                S::store(to.add(p), act.value::<S>(z));
                p += S::LANES;
            }
            result.extract::<S>(target.0);
        }
    }
}

/// Gradients of [`forward`].
pub(crate) struct Gradients {
    /// `[N, C, H, W]`, if asked for.
    pub(crate) x: Option<Vec<f32>>,
    /// `[C, 9]`.
    pub(crate) kernel: Vec<f32>,
    /// `[C]`.
    pub(crate) bias: Vec<f32>,
}

/// Gradients for input (if `want_x`), kernel and bias, given the gradient `dy` of the result. The pre-activation is computed again.
pub(crate) fn backward<A: Act>(
    x: &[f32],
    kernel: &[f32],
    bias: Option<&[f32]>,
    act: A,
    dy: &[f32],
    map: Map,
    want_x: bool,
) -> Gradients {
    let mut output = Output::new(if want_x { map.len() } else { 0 });
    let target = want_x.then(|| output.shared());
    let mut dk = vec![0f32; map.c * 9];
    let mut db = vec![0f32; map.c];
    let scratch = || {
        (
            Padded::new(map.h, map.w),
            Padded::new(map.h, map.w),
            Padded::new(map.h, map.w),
        )
    };
    let channels = dk.par_chunks_mut(9).zip(db.par_iter_mut()).enumerate();
    channels.for_each_init(scratch, |(source, gradient, result), (c, (dk, db))| {
        let sums = dispatch(Backward {
            x,
            kernel: &kernel[c * 9..][..9],
            bias: bias.map_or(0.0, |bias| bias[c]),
            act,
            dy,
            map,
            c,
            source,
            gradient,
            result,
            target,
        });
        dk.copy_from_slice(&sums[..9]);
        *db = sums[9];
    });
    // SAFETY: every plane has been written, or the buffer is empty.
    let dx = unsafe { output.finish() };
    Gradients {
        x: want_x.then_some(dx),
        kernel: dk,
        bias: db,
    }
}

struct Backward<'a, A> {
    x: &'a [f32],
    kernel: &'a [f32],
    bias: f32,
    act: A,
    dy: &'a [f32],
    map: Map,
    c: usize,
    source: &'a mut Padded,
    gradient: &'a mut Padded,
    result: &'a mut Padded,
    target: Option<Shared<f32>>,
}

impl<A: Act> Kernel for Backward<'_, A> {
    /// Kernel gradient, then bias gradient.
    type Output = [f32; 10];

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> [f32; 10] {
        let Self {
            x,
            kernel,
            bias,
            act,
            dy,
            map,
            c,
            source,
            gradient,
            result,
            target,
        } = self;
        let offsets = offsets(source.stride());
        let span = source.span();
        let mut total = [0f64; 10];
        // SAFETY: vectors start within the scratch planes and overrun into their slack only, planes lie within the maps.
        unsafe {
            let (forward, flipped, bias) = (
                splat_kernel::<S>(kernel, false),
                splat_kernel::<S>(kernel, true),
                S::splat(bias),
            );
            for n in 0..map.n {
                let plane = (n * map.c + c) * map.plane();
                source.fill::<S>(x.as_ptr().add(plane));
                gradient.fill::<S>(dy.as_ptr().add(plane));
                let (from, grad) = (source.origin(), gradient.origin());
                let mut sums = [S::splat(0.0); 10];
                let mut p = 0;
                while p < span {
                    let window = window::<S>(from.add(p), &offsets);
                    let z = taps::<S>(&window, &forward, bias);
                    // The border's gradient is zero, hence so is what it adds.
                    let g = S::mul(S::load(grad.add(p)), act.slope::<S>(z));
                    S::store(grad.add(p), g);
                    for (sum, &value) in sums.iter_mut().zip(&window) {
                        *sum = S::fma(g, value, *sum);
                    }
                    sums[9] = S::add(sums[9], g);
                    p += S::LANES;
                }
                for (total, &sum) in total.iter_mut().zip(&sums) {
                    *total += f64::from(S::sum(sum));
                }
                if let Some(target) = target {
                    let to = result.origin();
                    let mut p = 0;
                    while p < span {
                        S::store(
                            to.add(p),
                            taps::<S>(&window::<S>(grad.add(p), &offsets), &flipped, S::splat(0.0)),
                        );
                        p += S::LANES;
                    }
                    result.extract::<S>(target.at(plane));
                }
            }
        }
        total.map(|x| x as f32)
    }
}
