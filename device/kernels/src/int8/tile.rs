//! Inner loop of a dense convolution: a tile of some pixels × some blocks of 16 output channels, kept in registers for
//! the complete sum.
//!
//! Input `[I / 16, H, W, 16]` (already padded), weights `[O / 16][I / 16][kh][kw][input quads][16 o][4 i]`.

use super::{
    put::{Affine, Producer, Put, produce},
    target::{Post, Target},
};
#[cfg(target_arch = "x86_64")]
use crate::simd::int8::{Avx2Int8, AvxVnni, Vnni512};
#[cfg(target_arch = "aarch64")]
use crate::simd::int8::{DotProd, I8mm, NeonInt8, NeonPairs};
use crate::{
    rows::AFFINE_PARAMETERS,
    simd::{
        LANES, Simd,
        int8::{Exact, Int8Kernel, Int8Simd, Level, Step},
    },
};

/// Output blocks per tile, at most.
pub(crate) const MAX_BLOCKS: usize = 4;

/// What the tiles of some rows have in common: how they read their operands, and the post-operations of their sums.
/// Distances of inputs are in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a> {
    /// The steps of the first output block.
    pub w: *const Step,
    /// Initial values of the sums, one array per output block.
    pub start: &'a [[i32; LANES]],
    /// `[scale 16, bias 16]` per output block, applied to the finished sums except for [`Post::Nothing`].
    pub affine: &'a [f32],
    /// What is done then.
    pub post: Post,
    /// Input blocks to sum over.
    pub blocks: usize,
    /// Quads of channels in every input block except the last.
    pub quads: usize,
    /// Quads of channels in the last input block.
    pub last_quads: usize,
    /// Quads of the first input block that are not summed, and have no weights.
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
    /// Distance between the weights of adjacent output blocks, in steps.
    pub w_block: usize,
}

/// Where a run of adjacent tiles is.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    /// The first tap of the first pixel in the first input block.
    pub x: *const u8,
    /// The first pixel in the targets.
    pub at: usize,
    /// Number of tiles.
    pub tiles: usize,
    /// Distance of the weights to prefetch from those that are read, in steps. They need not exist.
    pub ahead: usize,
}

/// Computes a run of tiles of a fixed number of pixels and blocks, and writes it to a target per block.
///
/// # Safety
/// The pointers of the tile and the run must be valid for the ranges that the counts and distances span.
pub(crate) type TileFn = unsafe fn(Level, &Tile<'_>, Run, &mut [Target<'_>]);

/// The tile kernels for a number of blocks, each with its number of pixels, largest first.
pub(crate) type Tiles = &'static [(usize, TileFn)];

/// Returns the tile kernels for a number of output blocks, which is at most [`tile_blocks`]. They must be called with
/// the same `level`.
pub(crate) fn tiles(level: Level, blocks: usize) -> Tiles {
    match level {
        Level::Exact(_) => exact::find(blocks),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(_) => avx2::find(blocks),
        #[cfg(target_arch = "x86_64")]
        Level::AvxVnni(_) => avx_vnni::find(blocks),
        #[cfg(target_arch = "x86_64")]
        Level::Vnni512(..) => vnni512::find(blocks),
        #[cfg(target_arch = "aarch64")]
        Level::Neon(_) => neon::find(blocks),
        #[cfg(target_arch = "aarch64")]
        Level::NeonPairs(_) => neon_pairs::find(blocks),
        #[cfg(target_arch = "aarch64")]
        Level::DotProd(_) => dot_prod::find(blocks),
        #[cfg(target_arch = "aarch64")]
        Level::I8mm(_) => i8mm::find(blocks),
    }
}

/// Returns the maximum number of output blocks per tile.
pub(crate) fn tile_blocks(level: Level) -> usize {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Vnni512(..) => MAX_BLOCKS,
        _ => 1,
    }
}

/// Tiles of `OB` output blocks × `PX` pixels. Only [`TileFn`]s create it, so their contract covers its pointers.
pub(super) struct Sums<'a, 'b, const OB: usize, const PX: usize> {
    pub(super) tile: &'a Tile<'a>,
    run: Run,
    to: &'a mut [Target<'b>],
}

impl<const OB: usize, const PX: usize> Int8Kernel for Sums<'_, '_, OB, PX> {
    type Output = ();
    #[inline(always)]
    fn run<S: Int8Simd>(self, s: S) {
        for index in 0..self.run.tiles {
            let first = index * PX;
            let x = self.run.x.wrapping_add(first * self.tile.x_pixel);
            let finished = Finished {
                tile: self.tile,
                dots: if S::FOURS {
                    self.dots_by_lane(s, x)
                } else {
                    self.dots(s, x)
                },
                at: self.run.at + first,
                to: &mut *self.to,
            };
            produce(s, self.tile.post, finished);
        }
    }
}

impl<const OB: usize, const PX: usize> Sums<'_, '_, OB, PX> {
    /// Returns the sums before the first product.
    #[inline(always)]
    pub(super) fn start<S: Int8Simd>(&self, s: S) -> [[S::Dots; PX]; OB] {
        let mut dots = [[s.begin(&self.tile.start[0]); PX]; OB];
        for o in 1..OB {
            dots[o] = [s.begin(&self.tile.start[o]); PX];
        }
        dots
    }

    /// Computes the sums of the tile whose first input is at `x`.
    #[inline(always)]
    fn dots<S: Int8Simd>(&self, s: S, x: *const u8) -> [[S::Dots; PX]; OB] {
        let t = self.tile;
        let mut dots = self.start(s);
        let mut w = t.w;
        for block in 0..t.blocks {
            let first = if block == 0 { t.skip } else { 0 };
            let quads = if block + 1 == t.blocks { t.last_quads } else { t.quads };
            for row in 0..t.kernel[0] {
                for column in 0..t.kernel[1] {
                    // Bounds checks would take a comparison and a branch per multiplication here.
                    // SAFETY: the contract of the function that created these tiles guarantees that every address
                    // spanned by their counts and distances is valid.
                    unsafe {
                        let x = x.add(block * t.x_block + row * t.x_row + column * t.x_tap);
                        for quad in first..quads {
                            let mut weights = [s.weights(&*w); OB];
                            for o in 1..OB {
                                weights[o] = s.weights(&*w.add(o * t.w_block));
                            }
                            for o in 0..OB {
                                s.float()
                                    .prefetch(w.wrapping_add(o * t.w_block + self.run.ahead).cast());
                            }
                            for p in 0..PX {
                                let x = s.quad(*x.add(p * t.x_pixel + quad * 4).cast());
                                for o in 0..OB {
                                    dots[o][p] = s.dot(dots[o][p], x, weights[o]);
                                }
                            }
                            w = w.add(1);
                        }
                    }
                }
            }
        }
        dots
    }
}

/// The sums of a tile.
struct Finished<'a, 'b, D, const OB: usize, const PX: usize> {
    tile: &'a Tile<'a>,
    dots: [[D; PX]; OB],
    at: usize,
    to: &'a mut [Target<'b>],
}

impl<S: Int8Simd, const OB: usize, const PX: usize> Producer<S> for Finished<'_, '_, S::Dots, OB, PX> {
    #[inline(always)]
    fn produce<P: Put<S>>(mut self, s: S, put: P) {
        self.block::<S, P, 0>(s, put);
        self.block::<S, P, 1>(s, put);
        self.block::<S, P, 2>(s, put);
        self.block::<S, P, 3>(s, put);
    }
}

impl<D: Copy, const OB: usize, const PX: usize> Finished<'_, '_, D, OB, PX> {
    /// Finishes and writes the pixels of block `O`, if it exists. A loop over blocks or over groups of pixels would not
    /// be unrolled, and so would keep the sums in memory.
    #[inline(always)]
    fn block<S: Int8Simd<Dots = D>, P: Put<S>, const O: usize>(&mut self, s: S, put: P) {
        if O >= OB {
            return;
        }
        let affine = Affine::new::<P>(s, self.tile.affine, O * AFFINE_PARAMETERS);
        self.four::<S, P, O, 0>(s, put, &affine);
        self.four::<S, P, O, 4>(s, put, &affine);
        self.four::<S, P, O, 8>(s, put, &affine);
        self.four::<S, P, O, 12>(s, put, &affine);
    }

    /// Finishes and writes the pixels `FIRST`… `FIRST` + 3 of block `O`, as far as they exist.
    #[inline(always)]
    fn four<S: Int8Simd<Dots = D>, P: Put<S>, const O: usize, const FIRST: usize>(
        &mut self,
        s: S,
        put: P,
        affine: &Affine<S>,
    ) {
        if FIRST >= PX {
            return;
        }
        let mut results = [s.float().zero(); 4];
        for p in 0..4 {
            if FIRST + p < PX {
                results[p] = affine.apply::<P>(s, self.dots[O][FIRST + p]);
            }
        }
        put.put(s, results, 4.min(PX - FIRST), self.at + FIRST, &mut self.to[O]);
    }
}

/// Defines a module per level, with a table of kernels for each number of output blocks.
macro_rules! level {
    ($module:ident, $level:ident($token:ty $(, $rest:pat)?), $($blocks:literal: [$($pixels:literal)*])*) => {
        mod $module {
            use super::*;

            unsafe fn run<const OB: usize, const PX: usize>(
                level: Level,
                tile: &Tile<'_>,
                run: Run,
                to: &mut [Target<'_>],
            ) {
                #[allow(irrefutable_let_patterns, reason = "a target may have the portable one alone")]
                if let Level::$level(simd $(, $rest)?) = level {
                    <$token as Int8Simd>::run(simd, Sums::<OB, PX> { tile, run, to });
                }
            }

            pub(super) fn find(blocks: usize) -> Tiles {
                match blocks {
                    $($blocks => &[$(($pixels, run::<$blocks, $pixels>)),*],)*
                    _ => &[],
                }
            }
        }
    };
}

level!(exact, Exact(Exact), 1: [4 1]);
#[cfg(target_arch = "x86_64")]
level!(avx2, Avx2(Avx2Int8), 1: [4 3 2 1]);
#[cfg(target_arch = "x86_64")]
level!(avx_vnni, AvxVnni(AvxVnni), 1: [4 3 2 1]);
// As many sums as fit in 32 registers with the weights and an input. Groups of four pixels are written together.
#[cfg(target_arch = "x86_64")]
level!(
    vnni512, Vnni512(Vnni512<false>, _),
    1: [16 12 8 4 3 2 1]
    2: [12 8 4 3 2 1]
    3: [8 4 3 2 1]
    4: [4 3 2 1]
);
#[cfg(target_arch = "aarch64")]
level!(neon, Neon(NeonInt8), 1: [2 1]);
#[cfg(target_arch = "aarch64")]
level!(neon_pairs, NeonPairs(NeonPairs), 1: [2 1]);
// Sixteen sums hide the latency of a dot product, and the writers take four pixels.
#[cfg(target_arch = "aarch64")]
level!(dot_prod, DotProd(DotProd), 1: [4 3 2 1]);
#[cfg(target_arch = "aarch64")]
level!(i8mm, I8mm(I8mm), 1: [4 3 2 1]);
