//! Convolutions.

use std::sync::Arc;

use super::{
    Bytes, Values,
    reference::{affine, blocks, clamp, clr, convolve, planes, random_bytes, round, sum},
};
use crate::{
    Bounds, Epilogue, InnerRounding, Int8Conv, Int8Form, Int8Output, Int8Shape, Int8Sum, Int8Weights, Isa, LANES,
    Rounding, pack_parameters, simd::int8::Level, tests::Random,
};

/// A convolution of an input.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// `[C, H, W]`.
    input: [usize; 3],
    out: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    group: usize,
    pads: [usize; 4],
    form: Int8Form,
}

fn case(input: [usize; 3], out: usize, kernel: usize, stride: usize, group: usize) -> Case {
    Case {
        input,
        out,
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [1; 2],
        group,
        pads: [kernel / 2; 4],
        form: Int8Form::Blocks,
    }
}

impl Case {
    fn shape(&self) -> Int8Shape {
        Int8Shape {
            out_channels: self.out,
            in_channels: self.input[0],
            kernel: self.kernel,
            stride: self.stride,
            dilation: self.dilation,
            group: self.group,
        }
    }

    fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let padded = self.input[axis + 1] + self.pads[axis] + self.pads[axis + 2];
            (padded - (self.kernel[axis] - 1) * self.dilation[axis] - 1) / self.stride[axis] + 1
        })
    }

    fn weights(&self, random: &mut Random) -> Vec<i8> {
        let length = self.out * self.input[0] / self.group * self.kernel[0] * self.kernel[1];
        let bytes = random_bytes(length, random);
        bytes.into_iter().map(|byte| byte.wrapping_sub(128) as i8).collect()
    }

    /// Returns the convolution for any input of this size.
    fn conv(&self, weights: &[i8], epilogue: Epilogue, threads: usize) -> Int8Conv {
        Int8Conv {
            weights: Arc::new(Int8Weights::new(self.shape(), weights, self.form)),
            input: [self.input[1], self.input[2]],
            output: self.output(),
            pads: self.pads,
            epilogue,
            isa: Isa::exact(),
            threads,
            arena: Arc::default(),
        }
    }

    fn source(&self, x: &Bytes) -> Vec<u8> {
        match self.form {
            Int8Form::Image => x.image(),
            Int8Form::Blocks => x.blocks(),
        }
    }
}

fn cases() -> Vec<Case> {
    let image = Int8Form::Image;
    let mut cases = vec![
        Case {
            form: image,
            ..case([3, 7, 9], 20, 3, 2, 1)
        },
        Case {
            form: image,
            ..case([1, 6, 5], 17, 7, 2, 1)
        },
        Case {
            form: image,
            dilation: [1, 2],
            ..case([4, 6, 7], 3, 3, 1, 1)
        },
        case([17, 3, 4], 18, 1, 1, 1),
        case([40, 5, 5], 33, 1, 1, 1),
        case([1, 3, 6], 1, 3, 1, 1),
        case([3, 4, 6], 16, 3, 1, 1),
        case([16, 4, 5], 80, 3, 1, 1),
        case([33, 5, 5], 40, 3, 2, 1),
        case([17, 3, 5], 18, 1, 2, 1),
        Case {
            pads: [1; 4],
            ..case([16, 3, 5], 17, 1, 1, 1)
        },
        Case {
            dilation: [2, 3],
            pads: [2, 3, 1, 4],
            ..case([20, 7, 8], 33, 3, 1, 1)
        },
        Case {
            kernel: [1, 3],
            stride: [1, 2],
            pads: [0, 3, 2, 0],
            ..case([18, 4, 6], 5, 3, 1, 1)
        },
        Case {
            kernel: [5, 2],
            stride: [2, 1],
            pads: [4, 0, 0, 6],
            ..case([5, 4, 5], 70, 3, 1, 1)
        },
        case([32, 4, 4], 32, 3, 1, 4),
        case([24, 4, 4], 48, 3, 2, 24),
        case([12, 4, 4], 24, 3, 1, 6),
        case([40, 4, 5], 40, 1, 1, 5),
        case([96, 4, 5], 24, 3, 1, 2),
        Case {
            pads: [0, 0, 1, 1],
            ..case([17, 13, 13], 1, 3, 2, 1)
        },
        case([18, 4, 5], 18, 3, 1, 18),
        case([16, 1, 1], 17, 3, 1, 1),
        case([16, 3, 35], 16, 3, 1, 16),
        case([33, 9, 11], 33, 5, 1, 33),
        case([16, 5, 21], 16, 5, 2, 16),
        case([40, 5, 14], 40, 3, 2, 40),
        case([18, 7, 8], 18, 7, 1, 18),
        case([18, 7, 8], 18, 7, 2, 18),
        Case {
            dilation: [2; 2],
            pads: [2; 4],
            ..case([18, 5, 6], 18, 3, 1, 18)
        },
        Case {
            dilation: [1, 4],
            pads: [5; 4],
            ..case([18, 5, 6], 18, 3, 2, 18)
        },
        Case {
            pads: [0, 1, 9, 3],
            ..case([16, 5, 4], 16, 3, 1, 16)
        },
        Case {
            kernel: [1, 4],
            stride: [3, 3],
            pads: [0, 7, 2, 0],
            ..case([17, 4, 6], 17, 3, 1, 17)
        },
        Case {
            kernel: [2, 1],
            pads: [0; 4],
            ..case([17, 4, 6], 17, 3, 1, 17)
        },
        Case {
            kernel: [2, 9],
            pads: [1, 8, 1, 8],
            ..case([5, 4, 6], 5, 3, 1, 5)
        },
    ];
    if cfg!(miri) {
        cases.retain(|case| case.input.iter().product::<usize>() * case.out / case.group < 6_000);
        return cases;
    }
    // Channels of a group that start within four of them, and an input that several threads pad.
    cases.push(case([18, 4, 4], 48, 3, 1, 3));
    cases.push(case([16, 70, 60], 1, 3, 2, 1));
    for width in 1..=20 {
        cases.push(case([20, 3, width], 64, 1, 1, 1));
        cases.push(case([17, 2, width], 40, 3, 1, 1));
        cases.push(case([17, 3, width], 17, 3, 1, 17));
        cases.push(case([17, 3, width], 17, 5, 1, 17));
    }
    cases
}

/// Per-channel parameters of the epilogues, which spread the results over the bytes.
struct Parameters {
    /// `[C]` or `[C, 9]`.
    scales: Vec<f32>,
    /// `[C]`.
    biases: Vec<f32>,
}

impl Parameters {
    fn new(epilogue: Epilogue, sums: &Values, random: &mut Random) -> Self {
        let channels = sums.shape[0];
        let count = match epilogue {
            Epilogue::Affine => 1,
            Epilogue::Kernel => 9,
        };
        let largest = sums.data.iter().fold(1.0_f32, |largest, sum| largest.max(sum.abs()));
        let scaled = |values: Vec<f32>, scale: f32| values.into_iter().map(|value| value * scale).collect();
        Self {
            scales: scaled(random.vector(channels * count), 300.0 / largest),
            biases: scaled(random.vector(channels), 60.0),
        }
    }

    fn apply(&self, epilogue: Epilogue, sums: &Values) -> Values {
        match epilogue {
            Epilogue::Affine => affine(sums, &self.scales, &self.biases),
            Epilogue::Kernel => clr(sums, &self.scales, &self.biases),
        }
    }
}

const ROUNDING: Rounding = Rounding {
    zero_point: 100,
    low: 20,
    high: 240,
};

fn sums_of(inner: bool) -> Int8Sum {
    Int8Sum {
        zero_point: 90,
        scale: 0.7,
        inner: inner.then_some(InnerRounding {
            zero_point: 140,
            scale: 0.9,
        }),
    }
}

#[test]
fn convolutions_equal_their_definition_at_every_level_and_thread_count() {
    let mut random = Random(3);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for (number, case) in cases().into_iter().enumerate() {
        let zero_point = [0, 127, 255, 3][number % 4];
        let x = Bytes::random(case.input, &mut random);
        let mut weights = case.weights(&mut random);
        if number % 2 == 0 {
            // A weight of −128 rules out some instructions.
            for weight in &mut weights {
                *weight = (*weight).max(-127);
            }
        }
        let sums = convolve(&x, &case.shape(), &weights, zero_point, case.pads, case.output());
        let shape = sums.shape;
        let byte_shortcut = Bytes::random(shape, &mut random);
        let real_shortcut = random.vector(sums.data.len());
        let bounds = Bounds { low: -9.5, high: 90.0 };
        let source = case.source(&x);
        for epilogue in [Epilogue::Affine, Epilogue::Kernel] {
            let parameters = Parameters::new(epilogue, &sums, &mut random);
            let results = parameters.apply(epilogue, &sums).data;
            let packed = pack_parameters(&parameters.scales, &parameters.biases);
            for (threads, level) in [1, 3]
                .into_iter()
                .flat_map(|threads| Level::available().into_iter().map(move |level| (threads, level)))
            {
                let what = format!("case {number}, {case:?}, {epilogue:?}, {level:?}, {threads} threads");
                let conv = case.conv(&weights, epilogue, threads);
                let run = |output: Int8Output<'_>| {
                    pool.install(|| conv.run_at(level, &source, zero_point, &packed, output));
                };
                let mut bytes = vec![99; conv.output_len()];
                run(Int8Output::Bytes {
                    out: &mut bytes,
                    rounding: ROUNDING,
                    shortcut: None,
                });
                let want: Vec<_> = results.iter().map(|&r| round(r, ROUNDING)).collect();
                assert_eq!(planes(&bytes, shape), want, "{what}");
                let shortcut = byte_shortcut.blocks();
                for inner in [false, true] {
                    let sum_of = sums_of(inner);
                    run(Int8Output::Bytes {
                        out: &mut bytes,
                        rounding: ROUNDING,
                        shortcut: Some((&shortcut, sum_of)),
                    });
                    let both = results.iter().zip(&byte_shortcut.data);
                    let want: Vec<_> = both.map(|(&r, &s)| round(sum(r, s, sum_of), ROUNDING)).collect();
                    assert_eq!(planes(&bytes, shape), want, "{what}, inner: {inner}");
                }
                let mut reals = vec![f32::NAN; conv.output_len()];
                let shortcut = blocks(&real_shortcut, shape, f32::NAN);
                for shortcut in [None, Some(&shortcut)] {
                    run(Int8Output::Real {
                        out: &mut reals,
                        bounds,
                        shortcut: shortcut.map(Vec::as_slice),
                    });
                    let want = results.iter().zip(&real_shortcut);
                    let want: Vec<_> = want
                        .map(|(&r, &s)| clamp(r, shortcut.map(|_| s), bounds).to_bits())
                        .collect();
                    let got: Vec<_> = planes(&reals, shape).into_iter().map(f32::to_bits).collect();
                    assert_eq!(got, want, "{what}, shortcut: {}", shortcut.is_some());
                }
            }
        }
    }
}

#[test]
fn extreme_operands_are_summed_exactly() {
    let fill = |case: &Case, byte: u8, weight: i8| {
        let x = Bytes {
            shape: case.input,
            data: vec![byte; case.input.iter().product()],
        };
        let weights = vec![weight; case.weights(&mut Random(1)).len()];
        (x, weights)
    };
    let channels = if cfg!(miri) { 33 } else { 2_000 };
    for case in [case([channels, 2, 3], 17, 1, 1, 1), case([33, 5, 5], 33, 5, 1, 33)] {
        for (byte, weight, zero_point) in [
            (255, -127, 0),
            (0, -127, 255),
            (255, -128, 0),
            (0, -128, 255),
            (255, 127, 0),
            (0, 127, 255),
        ] {
            let (x, weights) = fill(&case, byte, weight);
            let sums = convolve(&x, &case.shape(), &weights, zero_point, case.pads, case.output());
            let packed = pack_parameters(&vec![1.0; case.out], &vec![0.0; case.out]);
            for level in Level::available() {
                let conv = case.conv(&weights, Epilogue::Affine, 1);
                let mut reals = vec![f32::NAN; conv.output_len()];
                let output = Int8Output::Real {
                    out: &mut reals,
                    bounds: Bounds::NONE,
                    shortcut: None,
                };
                conv.run_at(level, &case.source(&x), zero_point, &packed, output);
                assert_eq!(
                    planes(&reals, sums.shape),
                    sums.data,
                    "{case:?}, {byte} · {weight}, {level:?}"
                );
            }
        }
    }
}

#[test]
fn huge_results_saturate_and_ties_round_to_even() {
    let case = case([1, 1, 16], 16, 1, 1, 1);
    let x = Bytes {
        shape: case.input,
        data: vec![1; 16],
    };
    let weights = [1; 16];
    let results = [
        1e30,
        -1e30,
        3e9,
        -3e9,
        70_000.0,
        -70_000.0,
        0.5,
        1.5,
        2.5,
        -0.5,
        -1.5,
        -2.5,
        126.5,
        127.5,
        -128.5,
        f32::MAX,
    ];
    let packed = pack_parameters(&[0.0; 16], &results);
    for (level, rounding) in Level::available()
        .into_iter()
        .flat_map(|level| [Rounding::new(0), Rounding::new(128), ROUNDING].map(|rounding| (level, rounding)))
    {
        let conv = case.conv(&weights, Epilogue::Affine, 1);
        let mut bytes = vec![0; conv.output_len()];
        let output = Int8Output::Bytes {
            out: &mut bytes,
            rounding,
            shortcut: None,
        };
        conv.run_at(level, &case.source(&x), 0, &packed, output);
        let want = results.map(|result| round(result, rounding));
        assert!(
            bytes.chunks_exact(LANES).all(|got| got == want),
            "{level:?}, {rounding:?}"
        );
    }
}
