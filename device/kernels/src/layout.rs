//! Conversions between planes and blocks of sixteen channels.

use super::simd::LANES;

/// Converts `[C, H, W]` to `[H, W, C]`, the layout in which the first convolution reads the image.
pub fn interleave(planes: &[f32], channels: usize, out: &mut [f32]) {
    let plane = planes.len() / channels;
    for (channel, values) in planes.chunks_exact(plane).enumerate() {
        for (pixel, &value) in out.chunks_exact_mut(channels).zip(values) {
            pixel[channel] = value;
        }
    }
}

/// Converts `[H, W, C]` with few channels to `[⌈C / 16⌉, H, W, 16]`. The lanes beyond `channels` are zero.
pub fn block(pixels: &[f32], channels: usize, out: &mut [f32]) {
    let plane = pixels.len() / channels * LANES;
    for (index, out) in out.chunks_exact_mut(plane).enumerate() {
        let first = index * LANES;
        let count = LANES.min(channels - first);
        for (to, from) in out.chunks_exact_mut(LANES).zip(pixels.chunks_exact(channels)) {
            to[..count].copy_from_slice(&from[first..first + count]);
            to[count..].fill(0.0);
        }
    }
}

/// Converts a vector `[C]` to `[⌈C / 16⌉, 16]`. The lanes beyond the channels are `rest`.
pub fn block_channels(vector: &[f32], rest: f32) -> Vec<f32> {
    let mut blocks = vector.to_vec();
    blocks.resize(vector.len().next_multiple_of(LANES), rest);
    blocks
}

/// `[⌈C / 16⌉, P, 16]` to `[C, P]`.
pub fn unblock(blocks: &[f32], channels: usize, out: &mut [f32]) {
    let pixels = out.len() / channels;
    for (channel, out) in out.chunks_exact_mut(pixels).enumerate() {
        let plane = &blocks[channel / LANES * pixels * LANES..][..pixels * LANES];
        for (to, from) in out.iter_mut().zip(plane.chunks_exact(LANES)) {
            *to = from[channel % LANES];
        }
    }
}

/// Adds a border of `value` around every plane. `size` is the rows and columns of `x`; `pads` are top, left, bottom,
/// right.
pub fn pad(x: &[f32], size: [usize; 2], pads: [usize; 4], value: f32, out: &mut [f32]) {
    out.fill(value);
    let row = (size[1] + pads[1] + pads[3]) * LANES;
    let plane = (size[0] + pads[0] + pads[2]) * row;
    for (x, out) in x
        .chunks_exact(size[0] * size[1] * LANES)
        .zip(out.chunks_exact_mut(plane))
    {
        for (from, to) in x
            .chunks_exact(size[1] * LANES)
            .zip(out[pads[0] * row..].chunks_exact_mut(row))
        {
            to[pads[1] * LANES..][..from.len()].copy_from_slice(from);
        }
    }
}

/// Converts `[C, P]` to `[⌈C / 16⌉, P, 16]`. This is the inverse of [`unblock`], and the gradient of flattening a map.
/// The lanes beyond `channels` are zero.
pub fn block_planes(planes: &[f32], channels: usize, out: &mut [f32]) {
    let pixels = planes.len() / channels;
    assert_eq!(out.len(), channels.div_ceil(LANES) * pixels * LANES);
    for (planes, out) in planes.chunks(pixels * LANES).zip(out.chunks_exact_mut(pixels * LANES)) {
        for (pixel, out) in out.chunks_exact_mut(LANES).enumerate() {
            out.fill(0.0);
            for (out, plane) in out.iter_mut().zip(planes.chunks_exact(pixels)) {
                *out = plane[pixel];
            }
        }
    }
}
