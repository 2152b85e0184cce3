//! Winograd's minimal filtering F(m × m, 3 × 3) for m of 2 and 4 (Lavin and Gray, *Fast Algorithms for Convolutional
//! Neural Networks*, CVPR 2016, section 4): a 3×3 convolution of stride 1 with 4/9 or 1/4 of the multiplications.
//!
//! The map is divided into tiles of m × m outputs, whose inputs overlap by two pixels. Each input tile has n × n
//! values, where n is m + 2, and is transformed. For each of the n² points, one matrix product mixes the channels. Each
//! result of n × n is then transformed back. The weights are frozen, so they are transformed only once, in double
//! precision.

use clr_onnx::Conv;

use super::{
    rows::{AFFINE_PARAMETERS, Bounds},
    simd::{Isa, Kernel, LANES, Simd, Vector, dispatch, vectors, vectors_mut},
};

/// The size of the tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Winograd {
    /// F(2 × 2, 3 × 3).
    F2,
    /// F(4 × 4, 3 × 3).
    F4,
}

/// Number of inputs of the largest tile along one axis.
const MAX_SPAN: usize = 6;

impl Winograd {
    /// Returns the number of outputs of a tile along one axis.
    pub(crate) const fn tile(self) -> usize {
        match self {
            Self::F2 => 2,
            Self::F4 => 4,
        }
    }

    /// Returns the number of inputs of a tile along one axis.
    pub(crate) const fn span(self) -> usize {
        self.tile() + 2
    }

    /// Points of a transformed tile.
    pub(crate) const fn points(self) -> usize {
        self.span() * self.span()
    }

    /// Tiles of a map of `size` rows × columns.
    pub(crate) fn tiles(self, size: [usize; 2]) -> [usize; 2] {
        size.map(|length| length.div_ceil(self.tile()))
    }

    /// `G`, whose rows are the span's.
    fn weights(self) -> &'static [[f64; 3]] {
        match self {
            Self::F2 => &[[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]],
            Self::F4 => &[
                [0.25, 0.0, 0.0],
                [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
                [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
                [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
                [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
                [0.0, 0.0, 1.0],
            ],
        }
    }
}

/// The weights' transform, `G g Gᵀ`.
#[derive(Debug)]
pub(crate) struct TransformedWeights {
    pub winograd: Winograd,
    /// `[O / 16][points][I][16 o]`.
    pub data: Vec<f32>,
}

/// Transforms the weights of `conv`.
pub(crate) fn transform_weights(conv: &Conv, winograd: Winograd) -> TransformedWeights {
    let g = winograd.weights();
    let (span, points) = (winograd.span(), winograd.points());
    let (outs, ins) = (conv.channels(), conv.weight.shape()[1]);
    let mut data = vec![0.0; outs.div_ceil(LANES) * points * ins * LANES];
    for (index, filter) in conv.weight.values().chunks_exact(9).enumerate() {
        let (out, input) = (index / ins, index % ins);
        let mut half = [[0.0; 3]; MAX_SPAN];
        for row in 0..span {
            for column in 0..3 {
                half[row][column] = (0..3).map(|k| g[row][k] * f64::from(filter[k * 3 + column])).sum();
            }
        }
        for row in 0..span {
            for column in 0..span {
                let value: f64 = (0..3).map(|k| half[row][k] * g[column][k]).sum();
                let point = row * span + column;
                data[((out / LANES * points + point) * ins + input) * LANES + out % LANES] = value as f32;
            }
        }
    }
    TransformedWeights { winograd, data }
}

/// Transform of the inputs of some tile rows, for one block of channels.
pub(crate) struct Forward<'a> {
    pub winograd: Winograd,
    /// The input, starting at the first row of the first tile row, `[…, pitch]`.
    pub input: &'a [f32],
    /// Distance between input rows, in f32 values.
    pub pitch: usize,
    /// Rows, columns of tiles.
    pub tiles: [usize; 2],
    /// `[points][tiles][16]`.
    pub out: &'a mut [f32],
}

/// `Bᵀ d B` for every tile.
pub(crate) fn forward(isa: Isa, tiles: Forward<'_>) {
    let ([rows, columns], tile) = (tiles.tiles, tiles.winograd.tile());
    assert!(
        tiles.pitch.is_multiple_of(LANES)
            && tiles.pitch >= (columns * tile + 2) * LANES
            && tiles.input.len() >= (rows * tile + 2) * tiles.pitch
    );
    assert_eq!(tiles.out.len(), tiles.winograd.points() * rows * columns * LANES);
    dispatch(isa, tiles);
}

/// `Bᵀ` on the SPAN first values.
#[inline(always)]
fn spread<S: Simd, const SPAN: usize>(s: S, d: [S::Vector; SPAN]) -> [S::Vector; SPAN] {
    let mut out = [s.zero(); SPAN];
    if SPAN == 4 {
        out[0] = d[0].sub(d[2]);
        out[1] = d[1].add(d[2]);
        out[2] = d[2].sub(d[1]);
        out[3] = d[3].sub(d[1]);
        return out;
    }
    let [minus_five, minus_four, four] = [s.splat(-5.0), s.splat(-4.0), s.splat(4.0)];
    let [minus_two, two, minus_one] = [s.splat(-2.0), s.splat(2.0), s.splat(-1.0)];
    let even = d[4].fma(d[2], minus_four);
    let odd = d[3].fma(d[1], minus_four);
    let near = d[4].fma(d[2], minus_one);
    let far = d[3].fma(d[1], minus_one);
    out[0] = d[4].fma(d[2], minus_five).fma(d[0], four);
    out[1] = even.add(odd);
    out[2] = even.fma(odd, minus_one);
    out[3] = near.fma(far, two);
    out[4] = near.fma(far, minus_two);
    out[5] = d[5].fma(d[3], minus_five).fma(d[1], four);
    out
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.winograd {
            Winograd::F2 => self.tiles::<S, 2, 4>(s),
            Winograd::F4 => self.tiles::<S, 4, 6>(s),
        }
    }
}

impl Forward<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const TILE: usize, const SPAN: usize>(self, s: S) {
        let [rows, columns] = self.tiles;
        let (input, pitch) = (self.input.as_chunks().0, self.pitch / LANES);
        let mut points = vectors_mut(self.out).chunks_exact_mut(rows * columns);
        let points: [[&mut [[f32; LANES]]; SPAN]; SPAN] =
            std::array::from_fn(|_| std::array::from_fn(|_| points.next().expect("as many points, by `forward`")));
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
                        line[x].store(&mut points[y][x][row * columns + column]);
                    }
                }
            }
        }
    }
}

/// Inverse transform of the results of some tile rows, for one block of channels.
pub(crate) struct Backward<'a> {
    pub winograd: Winograd,
    /// The first point of the first tile.
    pub input: &'a [f32],
    /// Distance between points, in f32 values.
    pub point: usize,
    /// Rows, columns of tiles.
    pub tiles: [usize; 2],
    /// `[scale 16, bias 16]`; with `None`, the plain sums are written.
    pub affine: Option<&'a [f32]>,
    /// Added to the finished values; it has the layout of `out`.
    pub residual: Option<&'a [f32]>,
    pub out: &'a mut [f32],
    /// Distance between output rows, in f32 values.
    pub pitch: usize,
    /// Rows and columns of the output. Tiles may extend beyond them.
    pub size: [usize; 2],
    pub bounds: Bounds,
}

/// Computes `Aᵀ m A` for every tile, and then the affine, the shortcut and the clamp.
pub(crate) fn backward(isa: Isa, tiles: Backward<'_>) {
    let [rows, columns] = tiles.tiles;
    let out = (tiles.size[0] - 1) * tiles.pitch + tiles.size[1] * LANES;
    assert!(tiles.input.len() >= (tiles.winograd.points() - 1) * tiles.point + rows * columns * LANES);
    assert!(tiles.out.len() >= out && tiles.residual.is_none_or(|residual| residual.len() >= out));
    assert!(tiles.affine.is_none_or(|affine| affine.len() == AFFINE_PARAMETERS));
    dispatch(isa, tiles);
}

/// `Aᵀ` on the SPAN values.
#[inline(always)]
fn gather<S: Simd, const TILE: usize, const SPAN: usize>(s: S, m: [S::Vector; SPAN]) -> [S::Vector; TILE] {
    let mut out = [s.zero(); TILE];
    if TILE == 2 {
        out[0] = m[0].add(m[1]).add(m[2]);
        out[1] = m[1].sub(m[2]).add(m[3]);
        return out;
    }
    let minus_one = s.splat(-1.0);
    let (near, near_difference) = (m[1].add(m[2]), m[1].fma(m[2], minus_one));
    let (far, far_difference) = (m[3].add(m[4]), m[3].fma(m[4], minus_one));
    out[0] = m[0].add(near).add(far);
    out[1] = near_difference.fma(far_difference, s.splat(2.0));
    out[2] = near.fma(far, s.splat(4.0));
    out[3] = near_difference.fma(far_difference, s.splat(8.0)).add(m[5]);
    out
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.winograd {
            Winograd::F2 => self.tiles::<S, 2, 4>(s),
            Winograd::F4 => self.tiles::<S, 4, 6>(s),
        }
    }
}

impl Backward<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const TILE: usize, const SPAN: usize>(self, s: S) {
        let [rows, columns] = self.tiles;
        let (pitch, [height, width]) = (self.pitch / LANES, self.size);
        let (low, high) = (s.splat(self.bounds.low), s.splat(self.bounds.high));
        let affine = self.affine.map(|affine| {
            let affine = vectors(affine);
            [s.load(&affine[0]), s.load(&affine[1])]
        });
        let input = self.input.as_chunks::<LANES>().0;
        let point = |index: usize| &input[index * self.point / LANES..][..rows * columns];
        let points: [[&[[f32; LANES]]; SPAN]; SPAN] =
            std::array::from_fn(|y| std::array::from_fn(|x| point(y * SPAN + x)));
        let residual = self.residual.map(|residual| residual.as_chunks::<LANES>().0);
        let out = self.out.as_chunks_mut::<LANES>().0;
        for row in 0..rows {
            for column in 0..columns {
                let mut half = [[s.zero(); SPAN]; TILE];
                for x in 0..SPAN {
                    let mut line = [s.zero(); SPAN];
                    for y in 0..SPAN {
                        line[y] = s.load(&points[y][x][row * columns + column]);
                    }
                    let line = gather::<S, TILE, SPAN>(s, line);
                    for y in 0..TILE {
                        half[y][x] = line[y];
                    }
                }
                // Values outside of the output are not written.
                for y in 0..TILE.min(height - (row * TILE).min(height)) {
                    let line = gather::<S, TILE, SPAN>(s, half[y]);
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
