//! The kernels against plain loops in double precision, at every vector width.

use super::act::with_act;
use super::buffer::Map;
use super::plan::Window;
use super::simd::at_every_level;
use super::{affine, dense, depthwise, depthwise_any, norm, pool, site_norm, winograd};
use clr_onnx::Activation;

fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn distance(expected: &[f32], got: &[f32]) -> f32 {
    assert_eq!(expected.len(), got.len());
    let largest = expected
        .iter()
        .fold(f32::MIN_POSITIVE, |largest, x| largest.max(x.abs()));
    let differences = expected.iter().zip(got).map(|(a, b)| (a - b).abs());
    differences.fold(
        0.0,
        |largest: f32, x| if x.is_nan() { f32::INFINITY } else { largest.max(x) },
    ) / largest
}

struct Problem {
    window: Window,
    from: Map,
    to: Map,
    groups: usize,
    weight: Vec<f32>,
}

impl Problem {
    fn new(from: Map, outputs: usize, groups: usize, window: Window) -> Option<Self> {
        let [h, w] = window.output([from.h, from.w])?;
        let weight = values(outputs * (from.c / groups) * window.kernel[0] * window.kernel[1], 2);
        Some(Self {
            window,
            from,
            to: Map {
                n: from.n,
                c: outputs,
                h,
                w,
            },
            groups,
            weight,
        })
    }

    /// Calls `visit(input, weight, output)` with the indices of every product.
    fn products(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let (from, to, window) = (self.from, self.to, &self.window);
        let (inputs, outputs) = (from.c / self.groups, to.c / self.groups);
        let position = |axis: usize, o: usize, k: usize, size: usize| {
            let at = o * window.stride[axis] + k * window.dilation[axis];
            at.checked_sub(window.pads[axis]).filter(|&at| at < size)
        };
        for n in 0..from.n {
            for o in 0..to.c {
                for (oy, ox) in (0..to.h).flat_map(|oy| (0..to.w).map(move |ox| (oy, ox))) {
                    let output = ((n * to.c + o) * to.h + oy) * to.w + ox;
                    for i in 0..inputs {
                        for ky in 0..window.kernel[0] {
                            for kx in 0..window.kernel[1] {
                                if let (Some(y), Some(x)) = (position(0, oy, ky, from.h), position(1, ox, kx, from.w)) {
                                    let channel = o / outputs * inputs + i;
                                    let weight = ((o * inputs + i) * window.kernel[0] + ky) * window.kernel[1] + kx;
                                    visit(((n * from.c + channel) * from.h + y) * from.w + x, weight, output);
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0f64; self.to.len()];
        self.products(|i, w, o| y[o] += f64::from(x[i]) * f64::from(self.weight[w]));
        y.into_iter().map(|y| y as f32).collect()
    }

    fn backward(&self, dy: &[f32]) -> Vec<f32> {
        let mut dx = vec![0f64; self.from.len()];
        self.products(|i, w, o| dx[i] += f64::from(dy[o]) * f64::from(self.weight[w]));
        dx.into_iter().map(|dx| dx as f32).collect()
    }

    fn check(&self) {
        let (x, dy) = (values(self.from.len(), 1), values(self.to.len(), 3));
        let (y, dx) = (self.forward(&x), self.backward(&dy));
        let (from, to, weight) = (self.from, self.to, &self.weight);
        let (inputs, groups) = (from.c / self.groups, self.groups);
        let (forward, backward) = (self.window.forward(), self.window.backward());
        let name = format!("{from:?} to {to:?} by {:?}, {groups} groups", self.window);
        let compare = |kind: &str, limit: f32, run: &(dyn Fn() -> (Vec<f32>, Vec<f32>) + Sync)| {
            for (level, (got_y, got_dx)) in at_every_level(run) {
                let (forward, backward) = (distance(&y, &got_y), distance(&dx, &got_dx));
                assert!(
                    forward < limit && backward < limit,
                    "{kind} {name}, {level:?}: {forward:.1e} {backward:.1e}"
                );
            }
        };
        if inputs == 1 && to.c == groups {
            compare("depthwise", 1e-5, &|| {
                let y = depthwise_any::convolve(&x, from, &forward, weight, to);
                (y, depthwise_any::convolve(&dy, to, &backward, weight, from))
            });
        } else {
            let there = dense::Weights::forward(weight, to.c, inputs, groups, &forward);
            let back = dense::Weights::backward(weight, to.c, inputs, groups, &backward);
            compare("dense", 1e-5, &|| {
                (
                    dense::convolve(&x, from, &forward, &there, to),
                    dense::convolve(&dy, to, &backward, &back, from),
                )
            });
        }
        if winograd::pays(&self.window, to.c, inputs, groups, [4, 4]) {
            let there = winograd::Weights::forward(weight, to.c, inputs);
            let back = winograd::Weights::backward(weight, to.c, inputs);
            let pads = [self.window.pads[0] as isize, self.window.pads[1] as isize];
            compare("winograd", 1e-4, &|| {
                let y = winograd::convolve(&x, from, pads, &there, to);
                (y, winograd::convolve(&dy, to, pads.map(|pad| 2 - pad), &back, from))
            });
        }
    }
}

#[test]
fn convolutions_of_every_geometry_are_exact() {
    for (n, c, h, w, outputs, groups, kernel, stride, dilation, pad) in [
        (2, 3, 17, 13, 10, 1, 3, 1, 1, 1),
        (1, 5, 9, 9, 7, 1, 1, 1, 1, 0),
        (2, 4, 8, 9, 6, 1, 1, 2, 1, 0),
        (2, 3, 23, 20, 9, 1, 7, 2, 1, 3),
        (2, 6, 11, 12, 8, 2, 3, 2, 1, 1),
        (2, 8, 14, 15, 8, 8, 3, 1, 1, 1),
        (2, 8, 14, 15, 8, 8, 5, 2, 1, 2),
        (3, 4, 7, 7, 4, 4, 5, 1, 1, 2),
        (1, 4, 16, 16, 4, 4, 3, 1, 2, 2),
        (1, 4, 16, 19, 8, 1, 3, 1, 2, 2),
        (1, 4, 16, 19, 8, 4, 3, 2, 2, 1),
        (2, 4, 5, 5, 4, 1, 3, 3, 1, 0),
        (2, 4, 6, 5, 4, 4, 3, 3, 1, 4),
        (2, 2, 1, 1, 3, 1, 3, 1, 1, 1),
        (2, 40, 12, 12, 33, 1, 3, 1, 1, 1),
        (3, 17, 28, 21, 40, 1, 3, 1, 1, 1),
        (16, 24, 7, 7, 16, 1, 3, 1, 1, 1),
        (1, 16, 3, 5, 16, 1, 3, 1, 1, 1),
        (1, 16, 70, 33, 16, 1, 3, 1, 1, 0),
        (1, 20, 9, 10, 30, 1, 3, 1, 1, 2),
        (1, 70, 6, 5, 30, 1, 3, 2, 1, 1),
    ] {
        for pads in [[pad; 4], [pad, 0, pad + 1, pad], [0, 1, 1, 2]] {
            let window = Window {
                kernel: [kernel; 2],
                stride: [stride; 2],
                dilation: [dilation; 2],
                pads,
            };
            if let Some(problem) = Problem::new(Map { n, c, h, w }, outputs, groups, window) {
                problem.check();
            }
        }
    }
}

#[test]
fn every_vector_width_computes_the_same() {
    for (h, w) in [(1, 1), (5, 3), (7, 7), (14, 14), (9, 33)] {
        let map = Map { n: 2, c: 3, h, w };
        let (x, dy) = (values(map.len(), 1), values(map.len(), 2));
        let (kernel, scale, bias) = (values(27, 3), values(3, 4), values(3, 5));
        let half = pool::Window {
            kernel: [3; 2],
            stride: [2; 2],
            pads: [1; 4],
            ceil: false,
            count_pad: false,
        };
        for act in [
            None,
            Some(Activation::Relu),
            Some(Activation::Silu),
            Some(Activation::HardSwish),
        ] {
            let outcomes = at_every_level(|| {
                with_act!(act, a => {
                    let site = depthwise::backward(&x, &kernel, Some(&bias), a, &dy, map, true);
                    let (dx, ds, db) = affine::backward(&x, &dy, &scale, &bias, a, map, true);
                    let (y, statistics) = norm::forward(&x, &scale, &bias, 1e-3, a, map);
                    let (ndx, dgamma, dbeta) = norm::backward(&x, &dy, &scale, &bias, &statistics, 1e-3, a, map);
                    let (sy, fused) = site_norm::forward(&x, &kernel, &scale, &bias, 1e-3, a, map);
                    let (sg, sgamma) =
                        site_norm::backward(&x, &dy, &kernel, &scale, &bias, &fused, 1e-3, a, map, true);
                    let [ph, pw] = half.output([h, w]).unwrap_or_default();
                    vec![
                        depthwise::forward(&x, &kernel, Some(&bias), a, map), site.x.unwrap_or_default(), site.kernel, site.bias,
                        affine::forward(&x, &scale, &bias, a, map), dx.unwrap_or_default(), ds, db, y, ndx, dgamma, dbeta,
                        sy, sg.x.unwrap_or_default(), sg.kernel, sg.bias, sgamma, affine::activate(&x, a),
                        affine::activate_backward(&x, &dy, a), affine::sum(&x, &dy, None, a), pool::global_average(&x, map),
                        pool::max(&x, map, half, Map { h: ph, w: pw, ..map }).0,
                    ]
                })
            });
            let (_, expected) = &outcomes[0];
            for (level, got) in &outcomes[1..] {
                for (i, (expected, got)) in expected.iter().zip(got).enumerate() {
                    // With one value per channel the normalised gradient is a difference of equal numbers.
                    let scale = expected.iter().fold(1e-2f32, |largest, x| largest.max(x.abs()));
                    let error = distance(expected, got) * expected.iter().fold(0f32, |a, x| a.max(x.abs())) / scale;
                    assert!(
                        error < 2e-4,
                        "result {i} of {map:?} with {act:?} at {level:?}: {error:.1e}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_not_a_number_comes_through() {
    let map = Map { n: 1, c: 1, h: 4, w: 5 };
    let mut x = values(map.len(), 1);
    x[7] = f32::NAN;
    let window = pool::Window {
        kernel: [2; 2],
        stride: [1; 2],
        pads: [0; 4],
        ceil: false,
        count_pad: false,
    };
    for (level, (activated, pooled)) in at_every_level(|| {
        let activated = with_act!(Some(Activation::Relu), act => affine::activate(&x, act));
        (activated, pool::max(&x, map, window, Map { h: 3, w: 4, ..map }).0)
    }) {
        assert!(
            activated[7].is_nan() && pooled[1].is_nan() && pooled[6].is_nan(),
            "{level:?}"
        );
        assert_eq!(pooled.iter().filter(|x| x.is_nan()).count(), 4, "{level:?}");
    }
}
