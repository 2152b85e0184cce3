//! Every kernel compared with its definition in plain loops and double precision, for every instruction set of this
//! machine.

mod channel_map;
mod elementwise;
mod fused;
mod head;
pub(crate) mod pool;

use std::sync::Arc;

use clr_onnx::{Conv, Padding, Tensor};

use super::*;

/// Reproducible values in −1…1.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32) / ((1u64 << 23) as f32) - 1.0
    }

    pub(crate) fn vector(&mut self, length: usize) -> Vec<f32> {
        (0..length).map(|_| self.next()).collect()
    }
}

/// A feature map as `[C, H, W]`.
#[derive(Clone)]
pub(crate) struct Map {
    pub(crate) shape: [usize; 3],
    pub(crate) data: Vec<f32>,
}

impl Map {
    pub(crate) fn random(shape: [usize; 3], random: &mut Random) -> Self {
        Self {
            shape,
            data: random.vector(shape.iter().product()),
        }
    }

    pub(crate) fn at(&self, c: usize, y: isize, x: isize) -> f64 {
        let [_, height, width] = self.shape;
        if y < 0 || x < 0 || y >= height as isize || x >= width as isize {
            return 0.0;
        }
        f64::from(self.data[(c * height + y as usize) * width + x as usize])
    }

    pub(crate) fn blocks(&self) -> Vec<f32> {
        let [channels, height, width] = self.shape;
        let mut pixels = vec![0.0; self.data.len()];
        interleave(&self.data, channels, &mut pixels);
        let mut out = vec![f32::NAN; channels.div_ceil(LANES) * height * width * LANES];
        block(&pixels, channels, &mut out);
        out
    }

    pub(crate) fn pixels(&self) -> Vec<f32> {
        let mut pixels = vec![0.0; self.data.len()];
        interleave(&self.data, self.shape[0], &mut pixels);
        pixels
    }
}

pub(crate) fn convolve(x: &Map, conv: &Conv, pads: [usize; 4]) -> Map {
    let [kh, kw] = conv.kernel();
    let size = |axis: usize, k: usize| {
        (x.shape[axis + 1] + pads[axis] + pads[axis + 2] - (k - 1) * conv.dilation[axis] - 1) / conv.stride[axis] + 1
    };
    let (out, in_group) = (conv.channels(), conv.weight.shape()[1]);
    let (height, width) = (size(0, kh), size(1, kw));
    let mut data = Vec::new();
    for o in 0..out {
        for y in 0..height {
            for column in 0..width {
                let mut sum = 0.0;
                for i in 0..in_group {
                    for ky in 0..kh {
                        for kx in 0..kw {
                            let iy = (y * conv.stride[0] + ky * conv.dilation[0]) as isize - pads[0] as isize;
                            let ix = (column * conv.stride[1] + kx * conv.dilation[1]) as isize - pads[1] as isize;
                            let weight = conv.weight.values()[((o * in_group + i) * kh + ky) * kw + kx];
                            sum += x.at(o / (out / conv.group) * in_group + i, iy, ix) * f64::from(weight);
                        }
                    }
                }
                data.push(sum as f32);
            }
        }
    }
    Map {
        shape: [out, height, width],
        data,
    }
}

pub(crate) struct Case {
    pub(crate) input: [usize; 3],
    pub(crate) out: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    pub(crate) group: usize,
    pub(crate) pads: [usize; 4],
    pub(crate) image: bool,
}

impl Case {
    /// The convolution, with random weights and no bias.
    pub(crate) fn conv(&self, random: &mut Random) -> Conv {
        let shape = [self.out, self.input[0] / self.group, self.kernel, self.kernel];
        Conv {
            weight: Tensor::new(shape, random.vector(shape.iter().product())).into(),
            bias: None,
            stride: [self.stride; 2],
            dilation: [self.dilation; 2],
            group: self.group,
            padding: Padding::Explicit(self.pads),
        }
    }

    /// Returns the forms in which the convolution can be packed.
    pub(crate) fn forms(&self) -> Vec<Form> {
        let mut forms = vec![if self.image { Form::Image } else { Form::Direct }];
        if (self.kernel, self.stride, self.dilation, self.group, self.image) == (3, 1, 1, 1, false) {
            forms.extend([Winograd::F2, Winograd::F4].map(Form::Winograd));
        }
        forms
    }
}

const fn case(input: [usize; 3], out: usize, kernel: usize, stride: usize, group: usize) -> Case {
    let pad = kernel / 2;
    Case {
        input,
        out,
        kernel,
        stride,
        dilation: 1,
        group,
        pads: [pad; 4],
        image: false,
    }
}

pub(crate) fn cases() -> Vec<Case> {
    if cfg!(miri) {
        return small_cases();
    }
    vec![
        Case {
            image: true,
            ..case([3, 19, 23], 20, 3, 2, 1)
        },
        Case {
            image: true,
            ..case([3, 30, 30], 64, 7, 2, 1)
        },
        case([24, 14, 14], 40, 1, 1, 1),
        case([40, 7, 7], 112, 1, 1, 1),
        case([33, 9, 30], 17, 3, 1, 1),
        case([64, 15, 15], 80, 3, 1, 1),
        case([64, 14, 14], 96, 3, 2, 1),
        case([48, 13, 13], 64, 1, 2, 1),
        case([300, 7, 7], 70, 3, 1, 1),
        case([24, 12, 17], 24, 3, 1, 24),
        case([40, 13, 13], 40, 5, 2, 40),
        case([20, 6, 40], 20, 3, 1, 20),
        case([16, 9, 71], 16, 5, 2, 16),
        case([18, 9, 9], 18, 7, 1, 18),
        case([32, 8, 8], 32, 3, 1, 4),
        case([24, 8, 8], 48, 3, 2, 24),
        Case {
            dilation: 2,
            pads: [2; 4],
            ..case([20, 11, 11], 33, 3, 1, 1)
        },
        Case {
            dilation: 2,
            pads: [2; 4],
            ..case([20, 11, 11], 20, 3, 1, 20)
        },
        Case {
            pads: [0, 0, 1, 1],
            ..case([16, 12, 12], 32, 3, 2, 1)
        },
        Case {
            pads: [0, 1, 2, 3],
            ..case([16, 5, 4], 16, 3, 1, 16)
        },
        Case {
            pads: [1, 1, 1, 1],
            ..case([16, 5, 5], 16, 1, 1, 1)
        },
        case([16, 1, 1], 32, 3, 1, 1),
        case([5, 200, 3], 7, 3, 1, 1),
    ]
}

/// Returns the smallest cases that cover every branch, for Miri, which executes only some ten thousand multiplications
/// per second.
fn small_cases() -> Vec<Case> {
    vec![
        Case {
            image: true,
            ..case([3, 7, 9], 20, 3, 2, 1)
        },
        Case {
            image: true,
            ..case([3, 6, 5], 17, 7, 2, 1)
        },
        case([17, 3, 4], 18, 1, 1, 1),
        case([17, 3, 6], 18, 3, 1, 1),
        // More weights than are read at a time.
        case([81, 1, 2], 64, 3, 1, 1),
        case([17, 3, 5], 18, 3, 2, 1),
        case([17, 3, 5], 18, 1, 2, 1),
        // Padded by several threads.
        Case {
            pads: [0, 0, 1, 1],
            ..case([17, 33, 65], 1, 3, 8, 1)
        },
        case([18, 4, 5], 18, 3, 1, 18),
        // Wide enough to be read in place.
        case([16, 4, 35], 16, 3, 1, 16),
        case([16, 5, 66], 16, 5, 2, 16),
        case([18, 3, 3], 18, 7, 1, 18),
        case([32, 3, 3], 32, 3, 1, 4),
        case([5, 4, 4], 10, 3, 2, 5),
        Case {
            dilation: 2,
            pads: [2; 4],
            ..case([4, 4, 4], 17, 3, 1, 1)
        },
        Case {
            dilation: 2,
            pads: [2; 4],
            ..case([18, 5, 5], 18, 3, 1, 18)
        },
        Case {
            pads: [0, 0, 1, 1],
            ..case([16, 4, 4], 17, 3, 2, 1)
        },
        Case {
            pads: [0, 1, 2, 3],
            ..case([16, 5, 4], 16, 3, 1, 16)
        },
        Case {
            pads: [1, 1, 1, 1],
            ..case([16, 3, 3], 16, 1, 1, 1)
        },
        case([16, 1, 1], 17, 3, 1, 1),
        case([2, 20, 3], 3, 3, 1, 1),
    ]
}

pub(crate) fn largest(values: &[f32]) -> f32 {
    values.iter().fold(1.0, |largest, value| largest.max(value.abs()))
}

/// Asserts that the values are equal up to rounding errors of values as large as `scale`.
pub(crate) fn close(got: &[f32], want: &[f32], scale: f32, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(
            (got - want).abs() <= 2e-5 * scale,
            "{what}: value {index}: expected {want}, got {got}"
        );
    }
}
