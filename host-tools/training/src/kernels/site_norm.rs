//! A whole CLR site in one pass over memory: depthwise 3×3, batch-statistics normalisation and activation.
//!
//! The convolved channel lives in a scratch buffer that fits the second-level cache; the backward pass computes it again instead
//! of keeping it.

use super::act::Act;
use super::buffer::{Map, Output, Shared};
use super::depthwise::{Gradients, Padded, offsets, splat_kernel, taps, window};
use super::norm::{Channel, Normal, Statistics, apply, gradient, inverse, statistics};
use super::simd::{Kernel, Simd, dispatch};
use rayon::prelude::*;

/// Scratch of one task.
struct Scratch {
    source: Padded,
    result: Padded,
    channel: Vec<f32>,
}

impl Scratch {
    fn new(map: Map) -> Self {
        Self {
            source: Padded::new(map.h, map.w),
            result: Padded::new(map.h, map.w),
            channel: vec![0.0; map.n * map.plane()],
        }
    }
}

/// Convolves one channel of the batch into the scratch channel.
#[inline(always)]
unsafe fn convolve<S: Simd>(x: *const f32, kernel: &[f32], map: Map, scratch: &mut Scratch) {
    // SAFETY: `x` starts at the channel's first plane; vectors overrun into the slack of the scratch planes only.
    unsafe {
        let kernel = splat_kernel::<S>(kernel, false);
        let (source, result) = (&mut scratch.source, &mut scratch.result);
        let offsets = offsets(source.stride());
        for n in 0..map.n {
            source.fill::<S>(x.add(n * map.c * map.plane()));
            let (from, to, span) = (source.origin(), result.origin(), source.span());
            let mut p = 0;
            while p < span {
                S::store(
                    to.add(p),
                    taps::<S>(&window::<S>(from.add(p), &offsets), &kernel, S::splat(0.0)),
                );
                p += S::LANES;
            }
            result.extract::<S>(scratch.channel.as_mut_ptr().add(n * map.plane()));
        }
    }
}

struct Forward<'a, A> {
    x: &'a [f32],
    kernel: &'a [f32],
    gamma: f32,
    beta: f32,
    epsilon: f32,
    act: A,
    map: Map,
    scratch: &'a mut Scratch,
    y: Shared<f32>,
}

impl<A: Act> Kernel for Forward<'_, A> {
    type Output = (f32, f32);

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> (f32, f32) {
        let Self {
            x,
            kernel,
            gamma,
            beta,
            epsilon,
            act,
            map,
            scratch,
            y,
        } = self;
        // SAFETY: `x` and `y` start at the channel's first plane.
        unsafe {
            convolve::<S>(x.as_ptr(), kernel, map, scratch);
            let packed = Channel {
                n: map.n,
                len: map.plane(),
                step: map.plane(),
            };
            let (mean, variance) = statistics::<S>(scratch.channel.as_ptr(), packed);
            let normal = Normal {
                mean,
                inverse: inverse(variance, epsilon),
                gamma,
                beta,
            };
            let to = Channel::of(map);
            apply::<S, A>(
                scratch.channel.as_ptr(),
                packed,
                normal.scale(),
                normal.shift(),
                act,
                y.0,
                to,
            );
            (mean, variance)
        }
    }
}

/// `act(batch_norm(depthwise(x, kernel)))`: x `[N, C, H, W]`, kernel `[C, 9]`, gamma and beta `[C]`.
pub(crate) fn forward<A: Act>(
    x: &[f32],
    kernel: &[f32],
    gamma: &[f32],
    beta: &[f32],
    epsilon: f32,
    act: A,
    map: Map,
) -> (Vec<f32>, Statistics) {
    let mut output = Output::new(map.len());
    let target = output.shared();
    let mut results = vec![(0f32, 0f32); map.c];
    results.par_iter_mut().enumerate().for_each_init(
        || Scratch::new(map),
        |scratch, (c, result)| {
            let at = c * map.plane();
            *result = dispatch(Forward {
                x: &x[at..],
                kernel: &kernel[c * 9..][..9],
                gamma: gamma[c],
                beta: beta[c],
                epsilon,
                act,
                map,
                scratch,
                // SAFETY: the channel lies within the buffer, and is this task's own.
                y: Shared(unsafe { target.at(at) }),
            });
        },
    );
    let (mean, variance) = results.into_iter().unzip();
    // SAFETY: every channel has been written.
    (unsafe { output.finish() }, Statistics { mean, variance })
}

struct Backward<'a, A> {
    x: &'a [f32],
    dy: &'a [f32],
    kernel: &'a [f32],
    normal: Normal,
    act: A,
    map: Map,
    scratch: &'a mut Scratch,
    gradient: &'a mut Padded,
    dx: Option<Shared<f32>>,
}

impl<A: Act> Kernel for Backward<'_, A> {
    /// Gradients of γ, β and the kernel.
    type Output = (f32, f32, [f32; 9]);

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> (f32, f32, [f32; 9]) {
        let Self {
            x,
            dy,
            kernel,
            normal,
            act,
            map,
            scratch,
            gradient: padded,
            dx,
        } = self;
        let step = map.c * map.plane();
        let packed = Channel {
            n: map.n,
            len: map.plane(),
            step: map.plane(),
        };
        let mut total = [0f64; 9];
        // SAFETY: `x`, `dy` and `dx` start at the channel's first plane; vectors overrun into the slack of the scratch planes only.
        unsafe {
            convolve::<S>(x.as_ptr(), kernel, map, scratch);
            // The gradient of the convolved channel replaces it, value by value.
            let channel = scratch.channel.as_mut_ptr();
            let (dgamma, dbeta) = gradient::<S, A>(
                channel,
                packed,
                dy.as_ptr(),
                normal,
                act,
                channel,
                packed,
                Channel::of(map),
            );
            let flipped = splat_kernel::<S>(kernel, true);
            let source = &mut scratch.source;
            let offsets = offsets(source.stride());
            let span = source.span();
            for n in 0..map.n {
                source.fill::<S>(x.as_ptr().add(n * step));
                padded.fill::<S>(channel.add(n * map.plane()));
                let (from, grad, to) = (source.origin(), padded.origin(), scratch.result.origin());
                let mut sums = [S::splat(0.0); 9];
                let mut p = 0;
                while p < span {
                    let g = S::load(grad.add(p));
                    for (sum, &value) in sums.iter_mut().zip(&window::<S>(from.add(p), &offsets)) {
                        *sum = S::fma(g, value, *sum);
                    }
                    if dx.is_some() {
                        S::store(
                            to.add(p),
                            taps::<S>(&window::<S>(grad.add(p), &offsets), &flipped, S::splat(0.0)),
                        );
                    }
                    p += S::LANES;
                }
                for (total, &sum) in total.iter_mut().zip(&sums) {
                    *total += f64::from(S::sum(sum));
                }
                if let Some(dx) = dx {
                    scratch.result.extract::<S>(dx.at(n * step));
                }
            }
            (dgamma, dbeta, total.map(|x| x as f32))
        }
    }
}

/// Gradients of [`forward`]: input (if `want_x`) and kernel as [`Gradients`], whose bias is β's, and γ's beside them.
pub(crate) fn backward<A: Act>(
    x: &[f32],
    dy: &[f32],
    kernel: &[f32],
    gamma: &[f32],
    beta: &[f32],
    statistics: &Statistics,
    epsilon: f32,
    act: A,
    map: Map,
    want_x: bool,
) -> (Gradients, Vec<f32>) {
    let mut output = Output::new(if want_x { map.len() } else { 0 });
    let target = want_x.then(|| output.shared());
    let mut results = vec![(0f32, 0f32, [0f32; 9]); map.c];
    results.par_iter_mut().enumerate().for_each_init(
        || (Scratch::new(map), Padded::new(map.h, map.w)),
        |(scratch, gradient), (c, result)| {
            let at = c * map.plane();
            *result = dispatch(Backward {
                x: &x[at..],
                dy: &dy[at..],
                kernel: &kernel[c * 9..][..9],
                normal: Normal {
                    mean: statistics.mean[c],
                    inverse: inverse(statistics.variance[c], epsilon),
                    gamma: gamma[c],
                    beta: beta[c],
                },
                act,
                map,
                scratch,
                gradient,
                // SAFETY: the channel lies within the buffer, and is this task's own.
                dx: target.map(|target| Shared(unsafe { target.at(at) })),
            });
        },
    );
    // SAFETY: every channel has been written, or the buffer is empty.
    let dx = unsafe { output.finish() };
    let gradients = Gradients {
        x: want_x.then_some(dx),
        kernel: results.iter().flat_map(|result| result.2).collect(),
        bias: results.iter().map(|result| result.1).collect(),
    };
    (gradients, results.iter().map(|result| result.0).collect())
}
