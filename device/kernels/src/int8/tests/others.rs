//! Quantisation, element-wise operations, tables and pools.

use super::{
    Bytes,
    reference::{blocks, planes, random_bytes, round},
};
use crate::{
    Int8Mean, Isa, LANES, PoolKind, PoolShape, Rounding, Summand, add_bytes, dequantize, global_average_bytes, lookup,
    pool_bytes, quantize, quantize_image, tests::Random,
};

const ROUNDING: Rounding = Rounding {
    zero_point: 100,
    low: 20,
    high: 240,
};

#[test]
fn values_are_quantised_as_onnx_defines_it() {
    let mut random = Random(11);
    for isa in Isa::available() {
        for pixels in [1, 4, 7] {
            let scale = 0.013;
            let mut x: Vec<f32> = random.vector(pixels * LANES).iter().map(|x| x * 3.0).collect();
            // Ties, and values beyond every integer.
            x[..6].copy_from_slice(&[0.5 * scale, 1.5 * scale, -2.5 * scale, 1e30, -1e30, 0.0]);
            let mut out = vec![0; x.len()];
            quantize(isa, &x, scale, ROUNDING, &mut out);
            let want: Vec<_> = x.iter().map(|x| round(x / scale, ROUNDING)).collect();
            assert_eq!(out, want, "{isa:?}, {pixels} pixels");
            let mut back = vec![f32::NAN; x.len()];
            dequantize(isa, &out, scale, 100, &mut back);
            let want: Vec<_> = out.iter().map(|&q| (i32::from(q) - 100) as f32 * scale).collect();
            assert_eq!(back, want, "{isa:?}, {pixels} pixels");
        }
    }
}

#[test]
fn images_are_quantised_to_pixels_of_four_bytes() {
    let mut random = Random(12);
    for (isa, channels, pixels) in Isa::available()
        .into_iter()
        .flat_map(|isa| [(1, 3), (3, 16), (3, 35), (4, 17)].map(|(channels, pixels)| (isa, channels, pixels)))
    {
        let x = random.vector(channels * pixels);
        let mut out = vec![1; pixels * 4];
        quantize_image(isa, &x, channels, 1.0 / 128.0, 127, &mut out);
        for (pixel, out) in out.chunks_exact(4).enumerate() {
            let mut want = [127; 4];
            for (plane, want) in x.chunks_exact(pixels).zip(&mut want) {
                *want = round(plane[pixel] / (1.0 / 128.0), Rounding::new(127));
            }
            assert_eq!(out, want, "{isa:?}, {channels} channels, {pixels} pixels");
        }
    }
}

#[test]
fn sums_of_maps_equal_their_definition() {
    let mut random = Random(13);
    for (isa, pixels) in Isa::available()
        .into_iter()
        .flat_map(|isa| [1, 4, 6, 13].map(|pixels| (isa, pixels)))
    {
        let [left, right] = [(); 2].map(|()| random_bytes(pixels * LANES, &mut random));
        let mut out = vec![0; left.len()];
        let summand = |x, zero_point, scale| Summand { x, zero_point, scale };
        add_bytes(
            isa,
            summand(&left, 30, 0.6),
            summand(&right, 200, 1.1),
            ROUNDING,
            &mut out,
        );
        let real = |byte: u8, zero_point: i32| (i32::from(byte) - zero_point) as f32;
        let both = left.iter().zip(&right);
        let want: Vec<_> = both
            .map(|(&l, &r)| round(real(r, 200).mul_add(1.1, real(l, 30) * 0.6), ROUNDING))
            .collect();
        assert_eq!(out, want, "{isa:?}, {pixels} pixels");
    }
}

#[test]
fn a_table_replaces_every_byte() {
    let table: [u8; 256] = std::array::from_fn(|at| (at * 7 + 3) as u8);
    let x: Vec<u8> = (0..=255).collect();
    let mut out = vec![0; 256];
    lookup(&table, &x, &mut out);
    assert_eq!(out, table);
}

#[test]
fn pools_equal_their_definition() {
    let mut random = Random(14);
    let mean = Int8Mean {
        zero_point: 90,
        scale: 1.3,
    };
    let shapes = [
        ([5, 7], [3, 3], [2, 2], [1, 1], [1, 1, 1, 1]),
        ([6, 4], [2, 3], [1, 2], [2, 1], [0, 1, 2, 0]),
        ([3, 3], [3, 3], [1, 1], [1, 1], [0, 0, 0, 0]),
    ];
    let kinds = [
        PoolKind::Max,
        PoolKind::Average { include_pad: false },
        PoolKind::Average { include_pad: true },
    ];
    for ((input, kernel, stride, dilation, pads), kind) in
        shapes.into_iter().flat_map(|shape| kinds.map(|kind| (shape, kind)))
    {
        let output = [0, 1].map(|axis: usize| {
            (input[axis] + pads[axis] + pads[axis + 2] - (kernel[axis] - 1) * dilation[axis] - 1) / stride[axis] + 1
        });
        let shape = PoolShape {
            kind,
            input,
            output,
            kernel,
            stride,
            dilation,
            pads,
        };
        let map = Bytes::random([LANES, input[0], input[1]], &mut random);
        let mut want = Vec::new();
        for c in 0..LANES {
            for y in 0..output[0] {
                for x in 0..output[1] {
                    let mut inside = Vec::new();
                    for ky in 0..kernel[0] {
                        for kx in 0..kernel[1] {
                            let iy = (y * stride[0] + ky * dilation[0]).wrapping_sub(pads[0]);
                            let ix = (x * stride[1] + kx * dilation[1]).wrapping_sub(pads[1]);
                            if iy < input[0] && ix < input[1] {
                                inside.push(map.data[(c * input[0] + iy) * input[1] + ix]);
                            }
                        }
                    }
                    want.push(match kind {
                        PoolKind::Max => inside
                            .iter()
                            .copied()
                            .max()
                            .unwrap_or(0)
                            .clamp(ROUNDING.low, ROUNDING.high),
                        PoolKind::Average { include_pad } => {
                            let count = if include_pad {
                                kernel[0] * kernel[1]
                            } else {
                                inside.len()
                            };
                            let sum: i32 = inside.iter().map(|&byte| i32::from(byte) - 90).sum();
                            round(sum as f32 * (1.3 / count.max(1) as f32), ROUNDING)
                        }
                    });
                }
            }
        }
        for isa in Isa::available() {
            let mut out = vec![0; LANES * output[0] * output[1]];
            pool_bytes(isa, &shape, &map.blocks(), mean, ROUNDING, &mut out);
            assert_eq!(planes(&out, [LANES, output[0], output[1]]), want, "{isa:?}, {shape:?}");
        }
    }
}

#[test]
fn global_averages_are_exact_sums() {
    let mut random = Random(15);
    let shape = [33, 5, 7];
    let map = Bytes::random(shape, &mut random);
    let mean = Int8Mean {
        zero_point: 90,
        scale: 0.02,
    };
    let want: Vec<_> = map
        .data
        .chunks_exact(35)
        .map(|plane| plane.iter().map(|&byte| i32::from(byte) - 90).sum::<i32>() as f32 * (0.02 / 35.0))
        .collect();
    for isa in Isa::available() {
        let mut out = vec![f32::NAN; 3 * LANES];
        global_average_bytes(isa, &blocks(&map.data, shape, 77), 35 * LANES, mean, &mut out);
        assert_eq!(out[..33], want, "{isa:?}");
    }
}
