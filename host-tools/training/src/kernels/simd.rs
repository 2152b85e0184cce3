//! Portable f32 vectors: one small trait, implemented for AVX-512, AVX2 + FMA, NEON and plain arrays.
//!
//! A kernel implements [`Kernel`]; [`dispatch`] runs it compiled for the widest vectors of the processor at hand.

use std::sync::OnceLock;

/// Lane-wise f32 arithmetic. Every method may only be called where the instruction set of the implementor is
/// available, which [`dispatch`] guarantees.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Lanes of a vector.
    const LANES: usize;
    /// Rows of the matrix micro-kernel that fit the register file beside three columns of vectors.
    const ROWS: usize;
    /// A vector.
    type V: Copy;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The first `n` lanes (`n ≤ LANES`) from memory, the others zero; memory behind them is not touched.
    unsafe fn load_n(p: *const f32, n: usize) -> Self::V;
    /// The first `n` lanes to memory.
    unsafe fn store_n(p: *mut f32, v: Self::V, n: usize);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// `a > b ? x : y`, lane by lane.
    unsafe fn select_gt(a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// Sum of all lanes.
    unsafe fn sum(v: Self::V) -> f32;

    /// From `4 · LANES` consecutive values, four vectors: vector `q` has the values `q, q + 4, q + 8 …`.
    #[inline(always)]
    unsafe fn deinterleave(p: *const f32) -> [Self::V; 4] {
        let mut lanes = [[0f32; 16]; 4];
        // SAFETY: the caller vouches for `4 · LANES` readable values; 16 lanes hold the widest vector.
        unsafe {
            for i in 0..Self::LANES {
                for (q, lanes) in lanes.iter_mut().enumerate() {
                    lanes[i] = *p.add(4 * i + q);
                }
            }
            [
                Self::load(lanes[0].as_ptr()),
                Self::load(lanes[1].as_ptr()),
                Self::load(lanes[2].as_ptr()),
                Self::load(lanes[3].as_ptr()),
            ]
        }
    }

    /// From `2 · LANES` consecutive values, every other one, the first included.
    #[inline(always)]
    unsafe fn even(p: *const f32) -> Self::V {
        let mut lanes = [0f32; 16];
        // SAFETY: the caller vouches for `2 · LANES` readable values; 16 lanes hold the widest vector.
        unsafe {
            for (i, lane) in lanes.iter_mut().enumerate().take(Self::LANES) {
                *lane = *p.add(2 * i);
            }
            Self::load(lanes.as_ptr())
        }
    }

    /// The inverse of [`Simd::deinterleave`].
    #[inline(always)]
    unsafe fn interleave(v: [Self::V; 4], p: *mut f32) {
        let mut lanes = [[0f32; 16]; 4];
        // SAFETY: the caller vouches for `4 · LANES` writable values.
        unsafe {
            for (lanes, v) in lanes.iter_mut().zip(v) {
                Self::store(lanes.as_mut_ptr(), v);
            }
            for i in 0..Self::LANES {
                for (q, lanes) in lanes.iter().enumerate() {
                    *p.add(4 * i + q) = lanes[i];
                }
            }
        }
    }

    /// Applies a scalar function to every lane; the loop has a constant length, so that it vectorises.
    #[inline(always)]
    unsafe fn map(v: Self::V, f: impl Fn(f32) -> f32) -> Self::V {
        let mut lanes = [0f32; 16];
        // SAFETY: 16 lanes hold the widest vector.
        unsafe {
            Self::store(lanes.as_mut_ptr(), v);
            for lane in lanes.iter_mut().take(Self::LANES) {
                *lane = f(*lane);
            }
            Self::load(lanes.as_ptr())
        }
    }
}

/// Work that is generic over the vector width.
pub(crate) trait Kernel {
    type Output;
    /// Implementations are `#[inline(always)]`, so that they are compiled with the caller's instruction set.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

/// The instruction sets that [`dispatch`] chooses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg_attr(
        all(target_arch = "aarch64", not(test)),
        expect(dead_code, reason = "every such processor has NEON")
    )]
    Portable,
}

#[cfg(test)]
thread_local! {
    /// The level that a test wants on its own thread.
    static FORCED: std::cell::Cell<Option<Level>> = const { std::cell::Cell::new(None) };
}

/// Runs `work` at every level that this processor has, on a thread of its own.
#[cfg(test)]
pub(super) fn at_every_level<T: Send>(work: impl Fn() -> T + Sync) -> Vec<(Level, T)> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .expect("a thread");
    let run = |level| {
        let result = pool.install(|| {
            FORCED.set(Some(level));
            work()
        });
        (level, result)
    };
    let mut levels = vec![run(Level::Portable)];
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        levels.push(run(Level::Avx2));
    }
    if detect() != Level::Portable {
        levels.push(run(detect()));
    }
    levels
}

/// The widest instruction set of this processor, once detected.
static LEVEL: OnceLock<Level> = OnceLock::new();

/// The widest instruction set of this processor.
pub(crate) fn level() -> Level {
    #[cfg(test)]
    if let Some(level) = FORCED.get() {
        return level;
    }
    *LEVEL.get_or_init(detect)
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
    {
        Level::Avx512
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        Level::Avx2
    } else {
        Level::Portable
    }
}

#[cfg(target_arch = "aarch64")]
fn detect() -> Level {
    Level::Neon
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detect() -> Level {
    Level::Portable
}

/// Runs `kernel` with the widest vectors at hand.
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    match level() {
        // SAFETY: `detect` found the instruction set.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { x86::run_avx512(kernel) },
        // SAFETY: `detect` found the instruction set, and AVX-512 processors have AVX2.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { x86::run_avx2(kernel) },
        // SAFETY: NEON is part of the aarch64 baseline.
        #[cfg(target_arch = "aarch64")]
        Level::Neon => unsafe { kernel.run::<neon::Neon>() },
        // SAFETY: plain arrays need no instruction set.
        Level::Portable => unsafe { kernel.run::<Portable>() },
    }
}

/// Copies exactly `len` values.
#[inline(always)]
pub(crate) unsafe fn copy<S: Simd>(from: *const f32, to: *mut f32, len: usize) {
    let mut i = 0;
    // SAFETY: the caller vouches for `len` values on both sides.
    unsafe {
        while i + S::LANES <= len {
            S::store(to.add(i), S::load(from.add(i)));
            i += S::LANES;
        }
        if i < len {
            S::store_n(to.add(i), S::load_n(from.add(i), len - i), len - i);
        }
    }
}

/// Arrays of four, which every compiler target has registers for.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

#[inline(always)]
fn zip(a: [f32; 4], b: [f32; 4], f: impl Fn(f32, f32) -> f32) -> [f32; 4] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    const LANES: usize = 4;
    const ROWS: usize = 4;
    type V = [f32; 4];

    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; 4] {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; 4] {
        // SAFETY: the caller vouches for four readable values.
        unsafe { p.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; 4]) {
        // SAFETY: the caller vouches for four writable values.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> [f32; 4] {
        // SAFETY: only the first `n` values are read.
        std::array::from_fn(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_n(p: *mut f32, v: [f32; 4], n: usize) {
        for (i, x) in v.into_iter().enumerate().take(n) {
            // SAFETY: only the first `n` values are written.
            unsafe { *p.add(i) = x }
        }
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |x, y| x - y)
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |x, y| x * y)
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn max(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    unsafe fn min(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |x, y| if x < y { x } else { y })
    }
    #[inline(always)]
    unsafe fn select_gt(a: [f32; 4], b: [f32; 4], x: [f32; 4], y: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| if a[i] > b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    unsafe fn sum(v: [f32; 4]) -> f32 {
        (v[0] + v[1]) + (v[2] + v[3])
    }
}

#[cfg(target_arch = "x86_64")]
#[path = "simd_x86.rs"]
mod x86;

#[cfg(target_arch = "aarch64")]
#[path = "simd_neon.rs"]
mod neon;
