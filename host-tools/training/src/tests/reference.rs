//! Reference execution of the graph with scalar arithmetic in f64.

use clr_onnx::{Activation, Backbone, Op};

struct Value {
    data: Vec<f64>,
    /// Channels, height, width.
    shape: [usize; 3],
}

pub(super) fn features(backbone: &Backbone, image: &[f32]) -> Vec<f64> {
    let side = super::fixtures::SIDE as usize;
    let mut values = vec![Value {
        data: image.iter().map(|&value| f64::from(value)).collect(),
        shape: [3, side, side],
    }];
    let graph = backbone.graph();
    for node in &graph.nodes {
        let x = &values[node.inputs[0].0];
        let [channels, height, width] = x.shape;
        let map = |function: &dyn Fn(usize, f64) -> f64| Value {
            data: x
                .data
                .iter()
                .enumerate()
                .map(|(i, &value)| function(i / (height * width), value))
                .collect(),
            shape: x.shape,
        };
        let value = match &node.op {
            Op::Conv(conv) => {
                let [kh, kw] = conv.kernel();
                let [top, left, ..] = conv
                    .padding
                    .resolve([height, width], conv.kernel(), conv.stride, conv.dilation);
                let (oh, ow) = (height.div_ceil(conv.stride[0]), width.div_ceil(conv.stride[1]));
                let (outputs, inputs) = (conv.channels(), conv.weight.shape()[1]);
                let mut data = Vec::new();
                for o in 0..outputs {
                    let first = o / (outputs / conv.group) * inputs;
                    for position in 0..oh * ow {
                        let (row, column) = (position / ow * conv.stride[0], position % ow * conv.stride[1]);
                        let mut sum = conv.bias.as_ref().map_or(0.0, |bias| f64::from(bias.data()[o]));
                        for tap in 0..inputs * kh * kw {
                            let (i, ky, kx) = (tap / (kh * kw), tap / kw % kh, tap % kw);
                            let (y, z) = ((row + ky).wrapping_sub(top), (column + kx).wrapping_sub(left));
                            if y < height && z < width {
                                let weight = f64::from(conv.weight.values()[o * inputs * kh * kw + tap]);
                                sum += weight * x.data[((first + i) * height + y) * width + z];
                            }
                        }
                        data.push(sum);
                    }
                }
                Value {
                    data,
                    shape: [outputs, oh, ow],
                }
            }
            Op::BatchNorm(norm) => map(&|c, value| {
                let at = |tensor: &clr_onnx::Tensor| f64::from(tensor.data()[c]);
                (value - at(&norm.mean)) / (at(&norm.variance) + f64::from(norm.epsilon)).sqrt() * at(&norm.scale)
                    + at(&norm.bias)
            }),
            Op::Activation(Activation::Relu) => map(&|_, value| value.max(0.0)),
            Op::Activation(Activation::Clip { min, max }) => {
                map(&|_, value| value.clamp(f64::from(*min), f64::from(*max)))
            }
            Op::Activation(Activation::Sigmoid) => map(&|_, value| 1.0 / (1.0 + (-value).exp())),
            Op::Add | Op::Mul => {
                let y = &values[node.inputs[1].0];
                let data = x.data.iter().enumerate().map(|(i, &value)| {
                    let other = y.data[if y.data.len() == x.data.len() {
                        i
                    } else {
                        i / (height * width)
                    }];
                    if node.op == Op::Add {
                        value + other
                    } else {
                        value * other
                    }
                });
                Value {
                    data: data.collect(),
                    shape: x.shape,
                }
            }
            Op::GlobalAveragePool => {
                let mean = |plane: &[f64]| plane.iter().sum::<f64>() / plane.len() as f64;
                Value {
                    data: x.data.chunks(height * width).map(mean).collect(),
                    shape: [channels, 1, 1],
                }
            }
            Op::Flatten | Op::Unflatten => Value {
                data: x.data.clone(),
                shape: x.shape,
            },
            Op::Dense { weight, bias } => {
                let row = |o: usize| {
                    let row = &weight.data()[o * x.data.len()..(o + 1) * x.data.len()];
                    row.iter().zip(&x.data).map(|(&w, x)| f64::from(w) * x).sum::<f64>() + f64::from(bias.data()[o])
                };
                Value {
                    data: (0..bias.data().len()).map(row).collect(),
                    shape: [bias.data().len(), 1, 1],
                }
            }
            other => panic!("not in the small backbone: {other:?}"),
        };
        values.push(value);
    }
    values.swap_remove(graph.features.0).data
}
