//! Inner loop of a dense convolution: a tile of up to 12 pixels × up to 2 blocks of 16 output channels, kept in
//! registers for the complete sum.
//!
//! Input `[I / 16, H, W, 16]` (already padded), weights `[O / 16][I / 16][kh][kw][16 i][16 o]`, output `[O / 16, H, W,
//! 16]`.

use super::simd::{Isa, Kernel, LANES, Simd, Token, Vector};

/// Output blocks per tile, at most.
pub(crate) const MAX_BLOCKS: usize = 2;

/// A tile: the addresses that it reads and writes, and the post-operations of its sums. Strides are in f32 values.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// The first tap of the first pixel in the first input block.
    pub x: *const f32,
    /// The weights of the first output block for the first input block.
    pub w: *const f32,
    /// The first pixel of each output block.
    pub to: [*mut f32; MAX_BLOCKS],
    /// The corresponding positions of the value to add, or null.
    pub residual: [*const f32; MAX_BLOCKS],
    /// `[scale 16, bias 16]` per output block, applied to the finished sums; with null, the sums stay unchanged.
    pub affine: *const f32,
    /// Whether the sums start from the current content of `to`.
    pub resume: bool,
    /// Input blocks to sum over.
    pub blocks: usize,
    /// Number of channels in every input block except the last.
    pub lanes: usize,
    /// Channels in the last input block.
    pub last_lanes: usize,
    /// Number of channels of the first input block that are not summed, and have no weights.
    pub skip: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Distance between input blocks.
    pub x_block: usize,
    /// Distance between the inputs of adjacent kernel rows.
    pub x_row: usize,
    /// Distance between the inputs of adjacent kernel columns.
    pub x_tap: usize,
    /// Distance between the inputs of adjacent output pixels.
    pub x_pixel: usize,
    /// Distance between the weights of adjacent output blocks.
    pub w_block: usize,
    /// Distance to the weights that are read next, which are prefetched in the meantime.
    pub w_next: usize,
    /// Bounds of the activation.
    pub low: f32,
    /// Bounds of the activation.
    pub high: f32,
}

/// Computes one tile of a fixed number of pixels and blocks.
///
/// # Safety
/// All pointers of the tile must be valid for the ranges that its counts and strides span.
pub(crate) type TileFn = unsafe fn(Isa, &Tile);

/// Returns the tile kernels of one shape class, indexed by the number of pixels − 1. They must be called with the same
/// `isa`.
pub(crate) fn tiles(isa: Isa, blocks: usize, x_pixel: usize) -> &'static [TileFn] {
    match isa.token() {
        Token::Portable(_) => portable::find(blocks, x_pixel),
        Token::Exact(_) => exact::find(blocks, x_pixel),
        #[cfg(target_arch = "x86_64")]
        Token::Avx2(_) => avx2::find(blocks, x_pixel),
        #[cfg(target_arch = "x86_64")]
        Token::Avx512(_) => avx512::find(blocks, x_pixel),
        #[cfg(target_arch = "aarch64")]
        Token::Neon(_) => neon::find(blocks, x_pixel),
    }
}

/// Returns the maximum number of output blocks per tile. With 32 registers, the compiler keeps two blocks of 12 pixels
/// in registers; with 14 pixels it spills, which reduces the speed to a third.
pub(crate) fn tile_blocks(isa: Isa) -> usize {
    match isa.token() {
        #[cfg(target_arch = "x86_64")]
        Token::Avx512(_) => 2,
        _ => 1,
    }
}

/// A tile of `OB` output blocks × `PX` pixels, whose inputs are `STEP` values apart (0: according to the tile). Only
/// [`TileFn`]s create it, so their contract covers its pointers.
struct Sums<'a, const OB: usize, const PX: usize, const STEP: usize>(&'a Tile);

impl<const OB: usize, const PX: usize, const STEP: usize> Kernel for Sums<'_, OB, PX, STEP> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let t = self.0;
        // Bounds checks would take a comparison and a branch per multiplication here.
        // SAFETY: the contract of the function that created this tile guarantees that every address spanned by its
        // counts and strides is valid; arrays of f32 have the alignment of f32.
        unsafe {
            let load = |from: *const f32| s.load(&*from.cast());
            let mut sums = [[s.zero(); PX]; OB];
            if t.resume {
                for o in 0..OB {
                    for p in 0..PX {
                        sums[o][p] = load(t.to[o].add(p * LANES));
                    }
                }
            }
            let step = if STEP == 0 { t.x_pixel } else { STEP };
            let mut w = t.w;
            for block in 0..t.blocks {
                let first = if block == 0 { t.skip } else { 0 };
                let lanes = if block + 1 == t.blocks { t.last_lanes } else { t.lanes };
                for row in 0..t.kernel[0] {
                    for column in 0..t.kernel[1] {
                        let x = t.x.add(block * t.x_block + row * t.x_row + column * t.x_tap);
                        for lane in first..lanes {
                            let mut weights = [s.zero(); OB];
                            for o in 0..OB {
                                weights[o] = load(w.add(o * t.w_block));
                                s.prefetch(w.wrapping_add(o * t.w_block + t.w_next));
                            }
                            for p in 0..PX {
                                let value = s.splat(*x.add(p * step + lane));
                                for o in 0..OB {
                                    sums[o][p] = sums[o][p].fma(value, weights[o]);
                                }
                            }
                            w = w.add(LANES);
                        }
                    }
                }
            }
            if !t.affine.is_null() {
                let (low, high) = (s.splat(t.low), s.splat(t.high));
                for o in 0..OB {
                    let scale = load(t.affine.add(o * 2 * LANES));
                    let bias = load(t.affine.add(o * 2 * LANES + LANES));
                    for p in 0..PX {
                        let mut value = bias.fma(sums[o][p], scale);
                        if !t.residual[o].is_null() {
                            value = value.add(load(t.residual[o].add(p * LANES)));
                        }
                        sums[o][p] = value.clamp(low, high);
                    }
                }
            }
            for o in 0..OB {
                for p in 0..PX {
                    sums[o][p].store(&mut *t.to[o].add(p * LANES).cast());
                }
            }
        }
    }
}

/// Defines a module per instruction set, with a table of kernels by (output blocks, pixel stride).
macro_rules! instruction_set {
    ($module:ident, $isa:ident, $($blocks:literal: [$($pixels:literal)*])*) => {
        mod $module {
            use super::*;

            unsafe fn run<const OB: usize, const PX: usize, const STEP: usize>(isa: Isa, tile: &Tile) {
                #[allow(irrefutable_let_patterns, reason = "a target may have the portable one alone")]
                if let Token::$isa(simd) = isa.token() {
                    simd.run(Sums::<OB, PX, STEP>(tile));
                }
            }

            pub(super) fn find(blocks: usize, x_pixel: usize) -> &'static [TileFn] {
                match (blocks, x_pixel) {
                    $(
                        ($blocks, 16) => &[$(run::<$blocks, $pixels, 16>),*],
                        ($blocks, 6) => &[$(run::<$blocks, $pixels, 6>),*],
                        ($blocks, 32) => &[$(run::<$blocks, $pixels, 32>),*],
                        ($blocks, _) => &[$(run::<$blocks, $pixels, 0>),*],
                    )*
                    _ => &[],
                }
            }
        }
    };
}

instruction_set!(portable, Portable, 1: [1 2]);
instruction_set!(exact, Exact, 1: [1 2]);
#[cfg(target_arch = "x86_64")]
instruction_set!(avx2, Avx2, 1: [1 2 3 4 5 6]);
#[cfg(target_arch = "x86_64")]
instruction_set!(
    avx512, Avx512,
    1: [1 2 3 4 5 6 7 8 9 10 11 12]
    2: [1 2 3 4 5 6 7 8 9 10 11 12]
);
#[cfg(target_arch = "aarch64")]
instruction_set!(neon, Neon, 1: [1 2 3 4 5 6]);
