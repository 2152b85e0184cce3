//! Sums of a dense tile where sixteen inputs, a pixel of a block, are read at once: for instructions that multiply one
//! of four quads in a register, or that add pairs of quads.

use super::tile::Sums;
use crate::simd::int8::{Int8Simd, Step};

impl<const OB: usize, const PX: usize> Sums<'_, '_, OB, PX> {
    /// Computes the sums of the tile whose first input is at `x`.
    #[inline(always)]
    pub(super) fn dots_by_lane<S: Int8Simd>(&self, s: S, x: *const u8) -> [[S::Dots; PX]; OB] {
        let t = self.tile;
        let mut dots = self.start(s);
        let mut w = t.w;
        // The loops over taps and quads would take half as long as the products of a 1×1 convolution.
        let pointwise = t.kernel == [1, 1] && t.quads == 4 && t.skip == 0;
        let complete = if pointwise {
            t.blocks - usize::from(t.last_quads < 4)
        } else {
            0
        };
        // SAFETY, here and below: the contract of the function that created these tiles guarantees that every address
        // spanned by their counts and distances is valid.
        for block in 0..complete {
            unsafe {
                self.four(s, &mut dots, x.add(block * t.x_block), w);
                w = w.add(4);
            }
        }
        for block in complete..t.blocks {
            let first = if block == 0 { t.skip } else { 0 };
            let quads = if block + 1 == t.blocks { t.last_quads } else { t.quads };
            for row in 0..t.kernel[0] {
                for column in 0..t.kernel[1] {
                    unsafe {
                        let x = x.add(block * t.x_block + row * t.x_row + column * t.x_tap);
                        let mut quad = first;
                        while quad + 4 <= quads {
                            self.four(s, &mut dots, x.add(quad * 4), w);
                            w = w.add(4);
                            quad += 4;
                        }
                        while S::PAIRS && quad + 2 <= quads {
                            self.two(s, &mut dots, x.add(quad * 4), w);
                            w = w.add(2);
                            quad += 2;
                        }
                        while quad < quads {
                            self.one(s, &mut dots, x.add(quad * 4), w);
                            w = w.add(1);
                            quad += 1;
                        }
                    }
                }
            }
        }
        dots
    }

    /// Adds the products of four quads.
    ///
    /// # Safety
    /// `x` must be valid for sixteen inputs of every pixel, and `w` for four steps of every block.
    #[inline(always)]
    unsafe fn four<S: Int8Simd>(&self, s: S, dots: &mut [[S::Dots; PX]; OB], x: *const u8, w: *const Step) {
        // SAFETY: the caller guarantees it.
        unsafe {
            let mut four = [s.four(&*x.cast()); PX];
            for p in 1..PX {
                four[p] = s.four(&*x.add(p * self.tile.x_pixel).cast());
            }
            if S::PAIRS {
                self.pair(s, dots, [0, 1], &four, w);
                self.pair(s, dots, [2, 3], &four, w.add(2));
            } else {
                self.lane::<S, 0>(s, dots, &four, w);
                self.lane::<S, 1>(s, dots, &four, w.add(1));
                self.lane::<S, 2>(s, dots, &four, w.add(2));
                self.lane::<S, 3>(s, dots, &four, w.add(3));
            }
        }
    }

    /// Adds the products of two of four quads.
    ///
    /// # Safety
    /// `w` must be valid for two steps of every block.
    #[inline(always)]
    unsafe fn pair<S: Int8Simd>(
        &self,
        s: S,
        dots: &mut [[S::Dots; PX]; OB],
        [a, b]: [usize; 2],
        x: &[[S::Quad; 4]; PX],
        w: *const Step,
    ) {
        for o in 0..OB {
            // SAFETY: the caller guarantees it.
            let weights = unsafe {
                let w = w.add(o * self.tile.w_block);
                [s.weights(&*w), s.weights(&*w.add(1))]
            };
            for p in 0..PX {
                dots[o][p] = s.dot_pair(dots[o][p], [x[p][a], x[p][b]], weights);
            }
        }
    }

    /// Adds the products of one of four quads. A loop over the quads would not be unrolled.
    ///
    /// # Safety
    /// `w` must be valid for a step of every block.
    #[inline(always)]
    unsafe fn lane<S: Int8Simd, const LANE: usize>(
        &self,
        s: S,
        dots: &mut [[S::Dots; PX]; OB],
        x: &[[S::Quad; 4]; PX],
        w: *const Step,
    ) {
        for o in 0..OB {
            // SAFETY: the caller guarantees it.
            let weights = s.weights(unsafe { &*w.add(o * self.tile.w_block) });
            for p in 0..PX {
                dots[o][p] = s.dot_lane::<LANE>(dots[o][p], x[p][LANE], weights);
            }
        }
    }

    /// Adds the products of two quads that are read one by one.
    ///
    /// # Safety
    /// `x` must be valid for eight inputs of every pixel, and `w` for two steps of every block.
    #[inline(always)]
    unsafe fn two<S: Int8Simd>(&self, s: S, dots: &mut [[S::Dots; PX]; OB], x: *const u8, w: *const Step) {
        for o in 0..OB {
            // SAFETY: the caller guarantees it.
            let weights = unsafe {
                let w = w.add(o * self.tile.w_block);
                [s.weights(&*w), s.weights(&*w.add(1))]
            };
            for p in 0..PX {
                // SAFETY: the caller guarantees it.
                let x = unsafe {
                    let x = x.add(p * self.tile.x_pixel);
                    [s.quad(*x.cast()), s.quad(*x.add(4).cast())]
                };
                dots[o][p] = s.dot_pair(dots[o][p], x, weights);
            }
        }
    }

    /// Adds the products of a single quad.
    ///
    /// # Safety
    /// `x` must be valid for four inputs of every pixel, and `w` for a step of every block.
    #[inline(always)]
    unsafe fn one<S: Int8Simd>(&self, s: S, dots: &mut [[S::Dots; PX]; OB], x: *const u8, w: *const Step) {
        for o in 0..OB {
            // SAFETY: the caller guarantees it.
            let weights = s.weights(unsafe { &*w.add(o * self.tile.w_block) });
            for p in 0..PX {
                // SAFETY: the caller guarantees it.
                let x = s.quad(unsafe { *x.add(p * self.tile.x_pixel).cast() });
                dots[o][p] = s.dot(dots[o][p], x, weights);
            }
        }
    }
}
