//! Winograd's minimal filtering F(4 × 4, 3 × 3) (Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*,
//! CVPR 2016, section 4): a 3×3 convolution of stride 1 with a quarter of the multiplications.
//!
//! The picture is cut into tiles of 4×4 outputs that overlap by two inputs. Each 6×6 input tile is transformed, the
//! channels are mixed by one matrix product per point of the 36, and each 6×6 result is transformed back. The weights
//! are frozen, so their transform is made once, in double precision.

use clr_onnx::Conv;

use super::{
    rows::{AFFINE_PARAMETERS, Bounds},
    simd::{Kernel, LANES, Level, Simd, Vector, dispatch, vectors, vectors_mut},
};

/// Outputs of a tile along one axis.
pub(crate) const TILE: usize = 4;
/// Inputs of a tile along one axis.
pub(crate) const SPAN: usize = TILE + 2;
/// Points of a transformed tile.
pub(crate) const POINTS: usize = SPAN * SPAN;

/// The weights' transform, `G g Gᵀ`: `[O / 16][36][I][16 o]`.
pub(crate) fn transform_weights(conv: &Conv) -> Vec<f32> {
    const G: [[f64; 3]; SPAN] = [
        [0.25, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ];
    let (outs, ins) = (conv.channels(), conv.weight.shape()[1]);
    let mut data = vec![0.0; outs.div_ceil(LANES) * POINTS * ins * LANES];
    for (index, filter) in conv.weight.data().chunks_exact(9).enumerate() {
        let (out, input) = (index / ins, index % ins);
        let mut half = [[0.0; 3]; SPAN];
        for row in 0..SPAN {
            for column in 0..3 {
                half[row][column] = (0..3).map(|k| G[row][k] * f64::from(filter[k * 3 + column])).sum();
            }
        }
        for row in 0..SPAN {
            for column in 0..SPAN {
                let value: f64 = (0..3).map(|k| half[row][k] * G[column][k]).sum();
                let point = row * SPAN + column;
                data[((out / LANES * POINTS + point) * ins + input) * LANES + out % LANES] = value as f32;
            }
        }
    }
    data
}

/// Transforms the inputs of some rows of tiles, for one block of channels.
pub(crate) struct Forward<'a> {
    /// The first tile row's first input row, `[…, pitch]`.
    pub input: &'a [f32],
    /// From one input row to the next, in f32.
    pub pitch: usize,
    /// Rows, columns of tiles.
    pub tiles: [usize; 2],
    /// `[36][tiles][16]`.
    pub out: &'a mut [f32],
}

/// `Bᵀ d B` for every tile.
pub(crate) fn forward(level: Level, tiles: Forward<'_>) {
    let [rows, columns] = tiles.tiles;
    assert!(
        tiles.pitch.is_multiple_of(LANES)
            && tiles.pitch >= (columns * TILE + 2) * LANES
            && tiles.input.len() >= (rows * TILE + 2) * tiles.pitch
    );
    assert_eq!(tiles.out.len(), POINTS * rows * columns * LANES);
    dispatch(level, tiles);
}

/// `Bᵀ` on six values.
#[inline(always)]
fn spread<S: Simd>(s: S, d: [S::Vector; SPAN]) -> [S::Vector; SPAN] {
    let [minus_five, minus_four, four] = [s.splat(-5.0), s.splat(-4.0), s.splat(4.0)];
    let [minus_two, two, minus_one] = [s.splat(-2.0), s.splat(2.0), s.splat(-1.0)];
    let even = d[4].fma(d[2], minus_four);
    let odd = d[3].fma(d[1], minus_four);
    let near = d[4].fma(d[2], minus_one);
    let far = d[3].fma(d[1], minus_one);
    [
        d[4].fma(d[2], minus_five).fma(d[0], four),
        even.add(odd),
        even.fma(odd, minus_one),
        near.fma(far, two),
        near.fma(far, minus_two),
        d[5].fma(d[3], minus_five).fma(d[1], four),
    ]
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [rows, columns] = self.tiles;
        let (input, pitch) = (self.input.as_chunks().0, self.pitch / LANES);
        let mut points = vectors_mut(self.out).chunks_exact_mut(rows * columns);
        let points: [&mut [[f32; LANES]]; POINTS] =
            std::array::from_fn(|_| points.next().expect("36 points, by `forward`"));
        for row in 0..rows {
            let lines: [&[[f32; LANES]]; SPAN] = std::array::from_fn(|y| &input[(row * TILE + y) * pitch..][..pitch]);
            for column in 0..columns {
                let mut half = [[s.zero(); SPAN]; SPAN];
                let windows: [&[[f32; LANES]; SPAN]; SPAN] =
                    std::array::from_fn(|y| lines[y][column * TILE..].first_chunk().expect("checked by `forward`"));
                for x in 0..SPAN {
                    let mut line = [s.zero(); SPAN];
                    for y in 0..SPAN {
                        line[y] = s.load(&windows[y][x]);
                    }
                    let line = spread(s, line);
                    for y in 0..SPAN {
                        half[y][x] = line[y];
                    }
                }
                for y in 0..SPAN {
                    let line = spread(s, half[y]);
                    for x in 0..SPAN {
                        line[x].store(&mut points[y * SPAN + x][row * columns + column]);
                    }
                }
            }
        }
    }
}

/// Transforms the results of some rows of tiles back, for one block of channels.
pub(crate) struct Backward<'a> {
    /// The first point of the first tile.
    pub input: &'a [f32],
    /// From one point to the next, in f32.
    pub point: usize,
    /// Rows, columns of tiles.
    pub tiles: [usize; 2],
    /// `[scale 16, bias 16]`; without, the bare sums are written.
    pub affine: Option<&'a [f32]>,
    /// Added to the finished values, in the layout of `out`.
    pub residual: Option<&'a [f32]>,
    pub out: &'a mut [f32],
    /// From one output row to the next, in f32.
    pub pitch: usize,
    /// Rows, columns of the output that exist; tiles may reach beyond.
    pub size: [usize; 2],
    pub bounds: Bounds,
}

/// `Aᵀ m A` for every tile, and the affine, the shortcut and the clamp.
pub(crate) fn backward(level: Level, tiles: Backward<'_>) {
    let [rows, columns] = tiles.tiles;
    let out = (tiles.size[0] - 1) * tiles.pitch + tiles.size[1] * LANES;
    assert!(tiles.input.len() >= (POINTS - 1) * tiles.point + rows * columns * LANES);
    assert!(tiles.out.len() >= out && tiles.residual.is_none_or(|residual| residual.len() >= out));
    assert!(tiles.affine.is_none_or(|affine| affine.len() == AFFINE_PARAMETERS));
    dispatch(level, tiles);
}

/// `Aᵀ` on six values.
#[inline(always)]
fn gather<S: Simd>(s: S, m: [S::Vector; SPAN]) -> [S::Vector; TILE] {
    let minus_one = s.splat(-1.0);
    let (near, near_difference) = (m[1].add(m[2]), m[1].fma(m[2], minus_one));
    let (far, far_difference) = (m[3].add(m[4]), m[3].fma(m[4], minus_one));
    [
        m[0].add(near).add(far),
        near_difference.fma(far_difference, s.splat(2.0)),
        near.fma(far, s.splat(4.0)),
        near_difference.fma(far_difference, s.splat(8.0)).add(m[5]),
    ]
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [rows, columns] = self.tiles;
        let (pitch, [height, width]) = (self.pitch / LANES, self.size);
        let (low, high) = (s.splat(self.bounds.low), s.splat(self.bounds.high));
        let affine = self.affine.map(|affine| {
            let affine = vectors(affine);
            [s.load(&affine[0]), s.load(&affine[1])]
        });
        let input = self.input.as_chunks::<LANES>().0;
        let points: [&[[f32; LANES]]; POINTS] =
            std::array::from_fn(|point| &input[point * self.point / LANES..][..rows * columns]);
        let residual = self.residual.map(|residual| residual.as_chunks::<LANES>().0);
        let out = self.out.as_chunks_mut::<LANES>().0;
        for row in 0..rows {
            for column in 0..columns {
                let mut half = [[s.zero(); SPAN]; TILE];
                for x in 0..SPAN {
                    let mut line = [s.zero(); SPAN];
                    for y in 0..SPAN {
                        line[y] = s.load(&points[y * SPAN + x][row * columns + column]);
                    }
                    let line = gather(s, line);
                    for y in 0..TILE {
                        half[y][x] = line[y];
                    }
                }
                // Values beyond the output's size are not written.
                for y in 0..TILE.min(height - (row * TILE).min(height)) {
                    let line = gather(s, half[y]);
                    let start = (row * TILE + y) * pitch + column * TILE;
                    for x in 0..TILE {
                        if column * TILE + x >= width {
                            break;
                        }
                        let mut value = line[x];
                        if let Some([scale, bias]) = affine {
                            value = bias.fma(value, scale);
                        }
                        if let Some(residual) = residual {
                            value = value.add(s.load(&residual[start + x]));
                        }
                        value.clamp(low, high).store(&mut out[start + x]);
                    }
                }
            }
        }
    }
}
