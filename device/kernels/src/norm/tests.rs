use super::{
    GroupNorm, LayerNorm, ResponseNorm, global_response_norm, global_response_norm_gradient, group_norm,
    group_norm_gradient, layer_norm, layer_norm_gradient,
};
use crate::{LANES, block_channels, proof::prove, tests::Random};

const SHAPES: [[usize; 3]; 5] = [[5, 1, 1], [16, 2, 3], [33, 3, 3], [40, 1, 11], [2, 1, 1]];
const EPSILON: f32 = 1e-3;

struct Parameters {
    scale: Vec<f32>,
    bias: Vec<f32>,
}

impl Parameters {
    fn new(channels: usize) -> Self {
        let mut random = Random(channels as u64);
        Self {
            scale: block_channels(&random.vector(channels), 0.0),
            bias: block_channels(&random.vector(channels), 0.0),
        }
    }
}

/// Normalises the values at `places`, with the scale and bias of each value's channel.
fn normalise(x: &[f64], places: &[usize], pixels: usize, parameters: &Parameters, y: &mut [f64]) {
    let mean = places.iter().map(|at| x[*at]).sum::<f64>() / places.len() as f64;
    let variance = places.iter().map(|at| (x[*at] - mean).powi(2)).sum::<f64>() / places.len() as f64;
    for &at in places {
        let (scale, bias) = (parameters.scale[at / pixels], parameters.bias[at / pixels]);
        let normal = (x[at] - mean) / (variance + f64::from(EPSILON)).sqrt();
        y[at] = normal * f64::from(scale) + f64::from(bias);
    }
}

#[test]
fn layer_normalisation_and_its_gradient_equal_their_definition() {
    for shape in SHAPES {
        let [channels, height, width] = shape;
        let pixels = height * width;
        let parameters = Parameters::new(channels);
        let norm = LayerNorm {
            channels,
            scale: &parameters.scale,
            bias: &parameters.bias,
            epsilon: EPSILON,
        };
        prove(
            "layer norm",
            [shape; 2],
            &|x| {
                let mut y = vec![0.0; x.len()];
                for pixel in 0..pixels {
                    let places: Vec<usize> = (pixel..x.len()).step_by(pixels).collect();
                    normalise(x, &places, pixels, &parameters, &mut y);
                }
                y
            },
            &|isa, x| {
                let mut y = vec![f32::NAN; x.len()];
                layer_norm(isa, &norm, x, &mut y);
                y
            },
            &|isa, x, dy| {
                let mut dx = dy.to_vec();
                layer_norm_gradient(isa, &norm, x, &mut dx);
                dx
            },
        );
    }
}

#[test]
fn group_normalisation_and_its_gradient_equal_their_definition() {
    for shape in SHAPES {
        let [channels, height, width] = shape;
        let pixels = height * width;
        for groups in (1..=channels).filter(|groups| channels.is_multiple_of(*groups)) {
            let parameters = Parameters::new(channels);
            let norm = GroupNorm {
                channels,
                groups,
                scale: &parameters.scale,
                bias: &parameters.bias,
                epsilon: EPSILON,
            };
            prove(
                &format!("group norm of {groups}"),
                [shape; 2],
                &|x| {
                    let mut y = vec![0.0; x.len()];
                    let each = x.len() / groups;
                    for group in 0..groups {
                        let places: Vec<usize> = (group * each..(group + 1) * each).collect();
                        normalise(x, &places, pixels, &parameters, &mut y);
                    }
                    y
                },
                &|isa, x| {
                    let mut y = vec![f32::NAN; x.len()];
                    group_norm(isa, &norm, x, pixels * LANES, &mut y);
                    y
                },
                &|isa, x, dy| {
                    let mut dx = dy.to_vec();
                    group_norm_gradient(isa, &norm, x, pixels * LANES, &mut dx);
                    dx
                },
            );
        }
    }
}

#[test]
fn global_response_normalisation_and_its_gradient_equal_their_definition() {
    for shape in SHAPES {
        let [channels, height, width] = shape;
        let pixels = height * width;
        let parameters = Parameters::new(channels);
        let norm = ResponseNorm {
            channels,
            scale: &parameters.scale,
            bias: &parameters.bias,
            epsilon: EPSILON,
        };
        prove(
            "global response norm",
            [shape; 2],
            &|x| {
                let norms: Vec<f64> = x
                    .chunks_exact(pixels)
                    .map(|plane| plane.iter().map(|x| x * x).sum::<f64>().sqrt())
                    .collect();
                let mean = norms.iter().sum::<f64>() / channels as f64 + f64::from(EPSILON);
                let value = |at: usize| {
                    let c = at / pixels;
                    let (scale, bias) = (f64::from(parameters.scale[c]), f64::from(parameters.bias[c]));
                    scale * x[at] * norms[c] / mean + bias + x[at]
                };
                (0..x.len()).map(value).collect()
            },
            &|isa, x| {
                let mut y = vec![f32::NAN; x.len()];
                global_response_norm(isa, &norm, x, pixels * LANES, &mut y);
                y
            },
            &|isa, x, dy| {
                let mut dx = dy.to_vec();
                global_response_norm_gradient(isa, &norm, x, pixels * LANES, &mut dx);
                dx
            },
        );
    }
}
