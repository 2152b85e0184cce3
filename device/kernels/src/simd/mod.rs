//! Vectors of sixteen f32, in one implementation per instruction set. Every kernel is written with this single vector
//! type.
//!
//! A value of the network is stored as `[⌈C / 16⌉, H, W, 16]`. The sixteen lanes are therefore sixteen channels of one
//! pixel, and no kernel has to shuffle them.
//!
//! A kernel is safe code, generic over a token ([`Simd`]). The existence of a token proves that the CPU supports the
//! instructions: tokens can only be created by detection, and vectors only with a token. Only the backends (`x86`,
//! `neon`) contain `unsafe`.

pub(crate) mod int8;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
use neon::Neon;
use portable::{Exact, Portable, Scalar};
#[cfg(target_arch = "x86_64")]
use x86::{Avx2, Avx512};

/// Lanes of a vector and channels of a block.
pub const LANES: usize = 16;

/// The instruction set used by the kernels, detected once per engine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Isa(Token);

/// An instruction set, with the proof that the CPU supports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// The code that the compiler generates from plain Rust for the target.
    Portable(Portable),
    /// The same code with `f32::mul_add`.
    Exact(Exact),
    /// AVX2 and FMA: a vector is two registers.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// AVX-512F, where a vector is a single register.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// NEON: a vector is four registers.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
}

impl std::fmt::Debug for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Token::Portable(_) => "Portable",
            Token::Exact(_) => "Exact",
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(_) => "Avx2",
            #[cfg(target_arch = "x86_64")]
            Token::Avx512(_) => "Avx512",
            #[cfg(target_arch = "aarch64")]
            Token::Neon(_) => "Neon",
        })
    }
}

impl Isa {
    /// Returns the best instruction set of this machine.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(proof) = Avx512::detect() {
                return Self(Token::Avx512(proof));
            }
            if let Some(proof) = Avx2::detect() {
                return Self(Token::Avx2(proof));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if let Some(proof) = Neon::detect() {
            return Self(Token::Neon(proof));
        }
        Self(Token::Portable(Scalar))
    }

    /// Returns the best instruction set of this machine whose f32 results are bit-identical on every machine: the one
    /// of [`Isa::detect`], or plain Rust with `f32::mul_add` where that would be plain Rust without it.
    pub fn exact() -> Self {
        match Self::detect().0 {
            Token::Portable(_) => Self(Token::Exact(Scalar)),
            token => Self(token),
        }
    }

    /// Returns every instruction set that this machine can run, slowest first.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "targets without vectors have the portable one alone")]
        let mut sets = vec![Token::Portable(Scalar), Token::Exact(Scalar)];
        #[cfg(target_arch = "x86_64")]
        {
            sets.extend(Avx2::detect().map(Token::Avx2));
            sets.extend(Avx512::detect().map(Token::Avx512));
        }
        #[cfg(target_arch = "aarch64")]
        sets.extend(Neon::detect().map(Token::Neon));
        sets.into_iter().map(Self).collect()
    }

    /// Returns the proof.
    pub(crate) fn token(self) -> Token {
        self.0
    }
}

/// Proof that the CPU supports an instruction set, and the factory of its vectors.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Sixteen f32.
    type Vector: Vector;
    /// Number of vectors that fit in the registers.
    const REGISTERS: usize;
    /// Returns the same value sixteen times.
    fn splat(self, value: f32) -> Self::Vector;
    /// Reads sixteen values.
    fn load(self, from: &[f32; LANES]) -> Self::Vector;
    /// Returns sixteen zeros.
    #[inline(always)]
    fn zero(self) -> Self::Vector {
        self.splat(0.0)
    }
    /// Prefetches the cache line at `from` into the L2 cache. The address does not have to be valid.
    #[inline(always)]
    fn prefetch(self, from: *const f32) {
        let _ = from;
    }
    /// Runs `kernel` in a function that is compiled for this instruction set.
    fn run<K: Kernel>(self, kernel: K) -> K::Output;
}

/// Sixteen f32. NaN in `self` survives [`Vector::max`], [`Vector::min`] and [`Vector::clamp`], so a broken input is
/// visible in the result.
pub(crate) trait Vector: Copy {
    /// Writes the sixteen values.
    fn store(self, to: &mut [f32; LANES]);
    /// Returns `self + a · b`, rounded once if the instruction set supports that.
    fn fma(self, a: Self, b: Self) -> Self;
    /// `self + other`.
    fn add(self, other: Self) -> Self;
    /// `self − other`.
    fn sub(self, other: Self) -> Self;
    /// `self · other`.
    fn mul(self, other: Self) -> Self;
    /// `self / other`.
    fn div(self, other: Self) -> Self;
    /// The larger, lane by lane.
    fn max(self, other: Self) -> Self;
    /// The smaller, lane by lane.
    fn min(self, other: Self) -> Self;
    /// Returns `yes` in lanes where `self < bound`, otherwise (also for NaN) `no`.
    fn select_below(self, bound: Self, yes: Self, no: Self) -> Self;
    /// For every group of `WIDTH` lanes (2 or 4), broadcasts the group's lane `index` to the group.
    fn repeat<const WIDTH: usize>(self, index: usize) -> Self;
    /// Returns `self · 2^n` for an integer `n` in −126…127.
    fn scale_by_power(self, n: Self) -> Self;
    /// `min(max(self, low), high)`.
    #[inline(always)]
    fn clamp(self, low: Self, high: Self) -> Self {
        self.max(low).min(high)
    }
    /// Returns `value` in lanes where `low < self < high`, otherwise zero. This is the derivative of a clamp, times
    /// `value`.
    fn between(self, low: Self, high: Self, value: Self) -> Self;
    /// Returns the sixteen values.
    #[inline(always)]
    fn lanes(self) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        self.store(&mut lanes);
        lanes
    }
}

/// A computation over vectors.
pub(crate) trait Kernel {
    /// The kernel's result.
    type Output;
    /// Runs the kernel. Implementations are `#[inline(always)]`, so that they become part of the function that is
    /// compiled for the instruction set.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs `kernel` in the instruction set `isa`.
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa.0 {
        Token::Portable(simd) => simd.run(kernel),
        Token::Exact(simd) => simd.run(kernel),
        #[cfg(target_arch = "x86_64")]
        Token::Avx2(simd) => simd.run(kernel),
        #[cfg(target_arch = "x86_64")]
        Token::Avx512(simd) => simd.run(kernel),
        #[cfg(target_arch = "aarch64")]
        Token::Neon(simd) => simd.run(kernel),
    }
}

/// Views values as vectors of sixteen.
///
/// # Panics
/// If the number of values is not a multiple of sixteen.
#[inline(always)]
pub(crate) fn vectors(values: &[f32]) -> &[[f32; LANES]] {
    let (vectors, rest) = values.as_chunks();
    assert!(
        rest.is_empty(),
        "expected a multiple of sixteen, got {} values",
        values.len()
    );
    vectors
}

/// Does the same as [`vectors`], for writing.
#[inline(always)]
pub(crate) fn vectors_mut(values: &mut [f32]) -> &mut [[f32; LANES]] {
    let (vectors, rest) = values.as_chunks_mut();
    assert!(rest.is_empty(), "expected a multiple of sixteen");
    vectors
}
