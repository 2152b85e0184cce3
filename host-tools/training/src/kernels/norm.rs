//! Batch-statistics normalisation with the activation fused: one channel of the whole batch at a time, so that its passes hit
//! the cache.

use super::act::Act;
use super::buffer::{Map, Output, Shared};
use super::simd::{Kernel, Simd, dispatch};
use rayon::prelude::*;

/// One channel of a batch: `n` planes of `len` values, `step` apart.
#[derive(Clone, Copy)]
pub(super) struct Channel {
    pub(super) n: usize,
    pub(super) len: usize,
    pub(super) step: usize,
}

impl Channel {
    pub(super) fn of(map: Map) -> Self {
        Self {
            n: map.n,
            len: map.plane(),
            step: map.c * map.plane(),
        }
    }

    /// Values in all.
    pub(super) fn count(self) -> f64 {
        (self.n * self.len) as f64
    }
}

/// Mean and biased variance of a channel, in two passes.
#[inline(always)]
pub(super) unsafe fn statistics<S: Simd>(x: *const f32, channel: Channel) -> (f32, f32) {
    // SAFETY: the caller vouches for the channel.
    unsafe {
        let mean = deviations::<S, false>(x, channel, 0.0) / channel.count();
        let variance = deviations::<S, true>(x, channel, mean as f32) / channel.count();
        (mean as f32, variance as f32)
    }
}

#[inline(always)]
unsafe fn deviations<S: Simd, const SQUARE: bool>(x: *const f32, channel: Channel, mean: f32) -> f64 {
    let mut total = 0f64;
    // SAFETY: the caller vouches for the channel.
    unsafe {
        let center = S::splat(mean);
        for n in 0..channel.n {
            let x = x.add(n * channel.step);
            let mut sum = S::splat(0.0);
            let mut i = 0;
            while i + S::LANES <= channel.len {
                let d = S::sub(S::load(x.add(i)), center);
                sum = if SQUARE { S::fma(d, d, sum) } else { S::add(d, sum) };
                i += S::LANES;
            }
            total += f64::from(S::sum(sum));
            while i < channel.len {
                let d = *x.add(i) - mean;
                total += f64::from(if SQUARE { d * d } else { d });
                i += 1;
            }
        }
    }
    total
}

/// `y = act(x · scale + shift)` over a channel.
#[inline(always)]
pub(super) unsafe fn apply<S: Simd, A: Act>(
    x: *const f32,
    from: Channel,
    scale: f32,
    shift: f32,
    act: A,
    y: *mut f32,
    to: Channel,
) {
    // SAFETY: the caller vouches for both channels, which have equal sizes.
    unsafe {
        let (scale, shift) = (S::splat(scale), S::splat(shift));
        for n in 0..from.n {
            let (x, y) = (x.add(n * from.step), y.add(n * to.step));
            let mut i = 0;
            while i < from.len {
                let n = S::LANES.min(from.len - i);
                S::store_n(
                    y.add(i),
                    act.value::<S>(S::fma(S::load_n(x.add(i), n), scale, shift)),
                    n,
                );
                i += S::LANES;
            }
        }
    }
}

/// The parameters of one channel's normalisation.
#[derive(Clone, Copy)]
pub(super) struct Normal {
    pub(super) mean: f32,
    pub(super) inverse: f32,
    pub(super) gamma: f32,
    pub(super) beta: f32,
}

impl Normal {
    /// `γ / σ`.
    pub(super) fn scale(self) -> f32 {
        self.gamma * self.inverse
    }

    /// `β − μ γ / σ`.
    pub(super) fn shift(self) -> f32 {
        self.beta - self.mean * self.scale()
    }
}

/// The gradient through normalisation and activation: writes `dx` and returns the gradients of γ and β.
#[inline(always)]
pub(super) unsafe fn gradient<S: Simd, A: Act>(
    x: *const f32,
    from: Channel,
    dy: *const f32,
    normal: Normal,
    act: A,
    dx: *mut f32,
    to: Channel,
    given: Channel,
) -> (f32, f32) {
    let (mut sum_gx, mut sum_g) = (0f64, 0f64);
    // SAFETY: the caller vouches for the channels, which have equal sizes.
    unsafe {
        let (scale, shift) = (S::splat(normal.scale()), S::splat(normal.shift()));
        let mean = S::splat(normal.mean);
        for n in 0..from.n {
            let (x, dy) = (x.add(n * from.step), dy.add(n * given.step));
            let (mut gx, mut gs) = (S::splat(0.0), S::splat(0.0));
            let mut i = 0;
            while i < from.len {
                let n = S::LANES.min(from.len - i);
                let x = S::load_n(x.add(i), n);
                let g = S::mul(S::load_n(dy.add(i), n), act.slope::<S>(S::fma(x, scale, shift)));
                gx = S::fma(g, S::sub(x, mean), gx);
                gs = S::add(gs, g);
                i += S::LANES;
            }
            sum_gx += f64::from(S::sum(gx));
            sum_g += f64::from(S::sum(gs));
        }
        let dgamma = sum_gx * f64::from(normal.inverse);
        // dx = γ/σ · (g − mean(g) − x̂ · mean(g x̂)), written as g · a + x · b + c.
        let b = -f64::from(normal.scale()) * f64::from(normal.inverse) * dgamma / from.count();
        let c = -f64::from(normal.scale()) * sum_g / from.count() - b * f64::from(normal.mean);
        let (b, c) = (S::splat(b as f32), S::splat(c as f32));
        for n in 0..from.n {
            let (x, dy, dx) = (x.add(n * from.step), dy.add(n * given.step), dx.add(n * to.step));
            let mut i = 0;
            while i < from.len {
                let n = S::LANES.min(from.len - i);
                let x = S::load_n(x.add(i), n);
                let g = S::mul(S::load_n(dy.add(i), n), act.slope::<S>(S::fma(x, scale, shift)));
                S::store_n(dx.add(i), S::fma(g, scale, S::fma(x, b, c)), n);
                i += S::LANES;
            }
        }
        (dgamma as f32, sum_g as f32)
    }
}

/// Batch statistics of every channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Statistics {
    pub(crate) mean: Vec<f32>,
    pub(crate) variance: Vec<f32>,
}

/// `1 / √(variance + ε)`.
pub(super) fn inverse(variance: f32, epsilon: f32) -> f32 {
    (1.0 / (f64::from(variance) + f64::from(epsilon)).sqrt()) as f32
}

struct Forward<'a, A> {
    x: &'a [f32],
    gamma: f32,
    beta: f32,
    epsilon: f32,
    act: A,
    channel: Channel,
    y: Shared<f32>,
}

impl<A: Act> Kernel for Forward<'_, A> {
    type Output = (f32, f32);

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> (f32, f32) {
        let Self {
            x,
            gamma,
            beta,
            epsilon,
            act,
            channel,
            y,
        } = self;
        // SAFETY: `x` starts at the channel's first plane, `y` likewise.
        unsafe {
            let (mean, variance) = statistics::<S>(x.as_ptr(), channel);
            let normal = Normal {
                mean,
                inverse: inverse(variance, epsilon),
                gamma,
                beta,
            };
            apply::<S, A>(x.as_ptr(), channel, normal.scale(), normal.shift(), act, y.0, channel);
            (mean, variance)
        }
    }
}

/// `act(γ · (x − μ) / √(σ² + ε) + β)` with the statistics of this batch.
pub(crate) fn forward<A: Act>(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    epsilon: f32,
    act: A,
    map: Map,
) -> (Vec<f32>, Statistics) {
    let mut output = Output::new(map.len());
    let target = output.shared();
    let channels = (0..map.c).into_par_iter().map(|c| {
        let at = c * map.plane();
        // SAFETY: the channel lies within the buffer, and is this task's own.
        let y = Shared(unsafe { target.at(at) });
        dispatch(Forward {
            x: &x[at..],
            gamma: gamma[c],
            beta: beta[c],
            epsilon,
            act,
            channel: Channel::of(map),
            y,
        })
    });
    let (mean, variance) = channels.unzip();
    // SAFETY: every channel has been written.
    (unsafe { output.finish() }, Statistics { mean, variance })
}

struct Backward<'a, A> {
    x: &'a [f32],
    dy: &'a [f32],
    normal: Normal,
    act: A,
    channel: Channel,
    dx: Shared<f32>,
}

impl<A: Act> Kernel for Backward<'_, A> {
    type Output = (f32, f32);

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> (f32, f32) {
        let Self {
            x,
            dy,
            normal,
            act,
            channel,
            dx,
        } = self;
        // SAFETY: all three start at the channel's first plane.
        unsafe { gradient::<S, A>(x.as_ptr(), channel, dy.as_ptr(), normal, act, dx.0, channel, channel) }
    }
}

/// Gradients of [`forward`] for input, γ and β.
pub(crate) fn backward<A: Act>(
    x: &[f32],
    dy: &[f32],
    gamma: &[f32],
    beta: &[f32],
    statistics: &Statistics,
    epsilon: f32,
    act: A,
    map: Map,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let mut output = Output::new(map.len());
    let target = output.shared();
    let channels = (0..map.c).into_par_iter().map(|c| {
        let at = c * map.plane();
        let normal = Normal {
            mean: statistics.mean[c],
            inverse: inverse(statistics.variance[c], epsilon),
            gamma: gamma[c],
            beta: beta[c],
        };
        // SAFETY: the channel lies within the buffer, and is this task's own.
        let dx = Shared(unsafe { target.at(at) });
        dispatch(Backward {
            x: &x[at..],
            dy: &dy[at..],
            normal,
            act,
            channel: Channel::of(map),
            dx,
        })
    });
    let (dgamma, dbeta) = channels.unzip();
    // SAFETY: every channel has been written.
    (unsafe { output.finish() }, dgamma, dbeta)
}
