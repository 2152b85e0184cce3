//! From a kernel written once over [`Lanes`] to code for the machine's instruction set.

#[cfg(target_arch = "aarch64")]
use super::lanes::NeonLanes;
#[cfg(target_arch = "x86_64")]
use super::lanes::{Avx2Lanes, Avx512Lanes};
use super::{
    lanes::Lanes,
    simd::{LANES, Level},
};

/// A computation over vectors.
pub(crate) trait Kernel {
    /// Runs it. Implementations are `#[inline(always)]`, so that they become part of the function that has the
    /// instruction set.
    ///
    /// # Safety
    /// Only where the instruction set of `V` is available.
    unsafe fn run<V: Lanes>(&mut self);
}

/// Runs `kernel` in the instruction set of `level`.
pub(crate) fn dispatch<K: Kernel>(level: Level, kernel: &mut K) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx2,fma")]
    fn avx512<K: Kernel>(kernel: &mut K) {
        // SAFETY: this function has the instruction set.
        unsafe { kernel.run::<Avx512Lanes>() }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn avx2<K: Kernel>(kernel: &mut K) {
        // SAFETY: this function has the instruction set.
        unsafe { kernel.run::<Avx2Lanes>() }
    }
    #[cfg(target_arch = "aarch64")]
    #[target_feature(enable = "neon")]
    fn neon<K: Kernel>(kernel: &mut K) {
        // SAFETY: this function has the instruction set.
        unsafe { kernel.run::<NeonLanes>() }
    }
    // SAFETY: a level beyond `Portable` exists only where `Level` found its instruction set.
    unsafe {
        match level {
            Level::Portable(_) => kernel.run::<[f32; LANES]>(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => avx2(kernel),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => avx512(kernel),
            #[cfg(target_arch = "aarch64")]
            Level::Neon(_) => neon(kernel),
        }
    }
}
