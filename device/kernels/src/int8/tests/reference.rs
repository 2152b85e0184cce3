//! The definitions, on planes `[C, H, W]`.

use crate::{Bounds, Int8Shape, Int8Sum, LANES, Rounding, tests::Random};

/// A map of bytes, `[C, H, W]`.
#[derive(Clone)]
pub(crate) struct Bytes {
    pub(crate) shape: [usize; 3],
    pub(crate) data: Vec<u8>,
}

/// Returns reproducible integers in 0…255.
pub(crate) fn random_bytes(length: usize, random: &mut Random) -> Vec<u8> {
    let values = random.vector(length);
    values.into_iter().map(|value| (value * 128.0 + 128.0) as u8).collect()
}

impl Bytes {
    pub(crate) fn random(shape: [usize; 3], random: &mut Random) -> Self {
        Self {
            shape,
            data: random_bytes(shape.iter().product(), random),
        }
    }

    fn at(&self, c: usize, y: isize, x: isize, padding: u8) -> i64 {
        let [_, height, width] = self.shape;
        let inside = (0..height as isize).contains(&y) && (0..width as isize).contains(&x);
        let byte = if inside {
            self.data[(c * height + y as usize) * width + x as usize]
        } else {
            padding
        };
        i64::from(byte)
    }

    /// Converts to `[⌈C / 16⌉, H, W, 16]`, with 77 in the lanes beyond the channels.
    pub(crate) fn blocks(&self) -> Vec<u8> {
        blocks(&self.data, self.shape, 77)
    }

    /// Converts to `[H, W, 4]`, with 77 in the bytes beyond the channels.
    pub(crate) fn image(&self) -> Vec<u8> {
        let plane = self.shape[1] * self.shape[2];
        let mut image = vec![77; plane * 4];
        for (channel, values) in self.data.chunks_exact(plane).enumerate() {
            for (pixel, value) in image.chunks_exact_mut(4).zip(values) {
                pixel[channel] = *value;
            }
        }
        image
    }
}

/// Converts `[C, H, W]` to `[⌈C / 16⌉, H, W, 16]`.
pub(crate) fn blocks<T: Copy>(planes: &[T], [channels, height, width]: [usize; 3], rest: T) -> Vec<T> {
    let plane = height * width;
    let mut blocks = vec![rest; channels.div_ceil(LANES) * plane * LANES];
    for (at, value) in planes.iter().enumerate() {
        let (channel, pixel) = (at / plane, at % plane);
        blocks[(channel / LANES * plane + pixel) * LANES + channel % LANES] = *value;
    }
    blocks
}

/// Converts `[⌈C / 16⌉, H, W, 16]` to `[C, H, W]`.
pub(crate) fn planes<T: Copy>(blocks: &[T], [channels, height, width]: [usize; 3]) -> Vec<T> {
    let plane = height * width;
    let at = |at: usize| (at / plane / LANES * plane + at % plane) * LANES + at / plane % LANES;
    (0..channels * plane).map(|index| blocks[at(index)]).collect()
}

/// A map of results, `[C, H, W]`.
#[derive(Clone)]
pub(crate) struct Values {
    pub(crate) shape: [usize; 3],
    pub(crate) data: Vec<f32>,
}

/// Computes `Σ w · (x − zero_point)` exactly, and converts it to f32.
pub(crate) fn convolve(
    x: &Bytes,
    shape: &Int8Shape,
    weights: &[i8],
    zero_point: u8,
    pads: [usize; 4],
    output: [usize; 2],
) -> Values {
    let [kh, kw] = shape.kernel;
    let (outs, ins) = (shape.out_channels / shape.group, shape.in_channels / shape.group);
    let mut data = Vec::new();
    for o in 0..shape.out_channels {
        for y in 0..output[0] {
            for column in 0..output[1] {
                let mut sum = 0_i64;
                for i in 0..ins {
                    for ky in 0..kh {
                        for kx in 0..kw {
                            let iy = (y * shape.stride[0] + ky * shape.dilation[0]) as isize - pads[0] as isize;
                            let ix = (column * shape.stride[1] + kx * shape.dilation[1]) as isize - pads[1] as isize;
                            let value = x.at(o / outs * ins + i, iy, ix, zero_point) - i64::from(zero_point);
                            sum += value * i64::from(weights[((o * ins + i) * kh + ky) * kw + kx]);
                        }
                    }
                }
                data.push(i32::try_from(sum).unwrap() as f32);
            }
        }
    }
    Values {
        shape: [shape.out_channels, output[0], output[1]],
        data,
    }
}

/// Multiplies by `m` and adds `a`, `[C]` each.
pub(crate) fn affine(sums: &Values, m: &[f32], a: &[f32]) -> Values {
    let plane = sums.shape[1] * sums.shape[2];
    let data = sums.data.iter().enumerate();
    Values {
        data: data
            .map(|(at, sum)| sum.mul_add(m[at / plane], a[at / plane]))
            .collect(),
        ..*sums
    }
}

/// Applies a depthwise 3×3 convolution, `[C, 3, 3]` and bias `[C]`, with a border of zeros.
pub(crate) fn clr(sums: &Values, taps: &[f32], bias: &[f32]) -> Values {
    let [channels, height, width] = sums.shape;
    let mut data = Vec::new();
    for c in 0..channels {
        for y in 0..height {
            for x in 0..width {
                let mut result = bias[c];
                for tap in 0..9 {
                    let (iy, ix) = ((y + tap / 3).wrapping_sub(1), (x + tap % 3).wrapping_sub(1));
                    let value = if iy < height && ix < width {
                        sums.data[(c * height + iy) * width + ix]
                    } else {
                        0.0
                    };
                    result = value.mul_add(taps[c * 9 + tap], result);
                }
                data.push(result);
            }
        }
    }
    Values { data, ..*sums }
}

/// `clamp(round(r) + zero_point, low, high)`.
pub(crate) fn round(r: f32, rounding: Rounding) -> u8 {
    let integer = (r.round_ties_even() as i64).saturating_add(i64::from(rounding.zero_point));
    integer.max(i64::from(rounding.low)).min(i64::from(rounding.high)) as u8
}

/// Adds a u8 shortcut to a result.
pub(crate) fn sum(r: f32, shortcut: u8, sum: Int8Sum) -> f32 {
    let first = sum.inner.map_or(r, |inner| {
        let byte = round(r, Rounding::new(inner.zero_point));
        (i32::from(byte) - i32::from(inner.zero_point)) as f32 * inner.scale
    });
    let shortcut = i32::from(shortcut) - i32::from(sum.zero_point);
    (shortcut as f32).mul_add(sum.scale, first)
}

/// Adds a shortcut, and clamps.
pub(crate) fn clamp(r: f32, shortcut: Option<f32>, bounds: Bounds) -> f32 {
    shortcut
        .map_or(r, |shortcut| r + shortcut)
        .max(bounds.low)
        .min(bounds.high)
}
