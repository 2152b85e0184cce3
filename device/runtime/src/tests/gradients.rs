//! Backward passes compared with finite differences of forward passes.

use clr_onnx::{Activation, Coordinates, Op, PadMode, Resize, ResizeMode, ResizeTarget, Rounding, Shape, ValueId};

use super::fixtures::{Builder, CHANNELS, Noise, SIZE, moved, sites, window};
use crate::{Executable, SiteParameters};

/// Returns a weighted sum of the features, in which every feature has a different gradient.
fn loss(features: &[f32]) -> f64 {
    features
        .iter()
        .enumerate()
        .map(|(at, value)| f64::from(*value) * (0.3 + at as f64).sin())
        .sum()
}

fn loss_gradient(count: usize) -> Vec<f32> {
    (0..count).map(|at| (0.3 + at as f64).sin() as f32).collect()
}

/// Checks that the gradients agree with central differences along a random direction.
fn check(name: &str, executable: &Executable, sites: &[SiteParameters]) {
    let mut noise = Noise::new(77);
    let image = noise.values(3 * SIZE[0] * SIZE[1]);
    let (places, length) = Executable::places(sites);
    let first = executable.first_trained(sites);
    let prefix = executable.prefix(&image, sites, first);
    let segments = executable.segments(first, 1);
    let tape = executable.forward(&[&prefix], sites, &segments);
    let features = executable.features(&image, sites);
    for (taped, inferred) in tape.features()[0].iter().zip(&features) {
        assert!(
            (taped - inferred).abs() <= 1e-4 * (1.0 + inferred.abs()),
            "{name}: {taped} {inferred}"
        );
    }
    let wanted = [loss_gradient(features.len())];
    let gradient = executable.backward(tape, &wanted, sites, &places, length);
    let gradient = &gradient[0];
    for (site, place) in places.iter().enumerate() {
        if !sites[site].is_trained() {
            continue;
        }
        // Lanes beyond the channels have no effect, so the direction is zero there.
        let (weights, bias) = sites[site].unpack(&noise.values(place.len()));
        let direction = SiteParameters::kernel(&weights, &bias).blocks;
        let at = |step: f32| {
            let mut all = sites.to_vec();
            all[site] = moved(&sites[site], &direction, step);
            loss(&executable.features(&image, &all))
        };
        // Several step sizes are tried, because kinks and rounding spoil some of them.
        let expected: f64 = gradient[place.clone()]
            .iter()
            .zip(&direction[..])
            .map(|(a, b)| f64::from(a * b))
            .sum();
        let tried = [3e-2_f32, 1e-2, 3e-3].map(|step| (at(step) - at(-step)) / f64::from(2.0 * step));
        let off = |tried: f64| (tried - expected).abs() / (tried.abs() + expected.abs() + 1e-3);
        assert!(
            tried.iter().any(|tried| off(*tried) < 2e-2),
            "{name}, site {site}: gradient {expected}, differences {tried:?}"
        );
    }
}

/// Checks a graph with the operators of `build` after the first convolution. The first site is trained.
fn check_operator(name: &str, channels: usize, build: impl FnOnce(&mut Builder) -> ValueId) {
    let mut builder = Builder::new(3);
    build(&mut builder);
    let (backbone, executable) = builder.finish(channels);
    assert_eq!(executable.first_obstacle(), None, "{name}");
    let sites = sites(&backbone, &executable, &[0], &mut Noise::new(5));
    check(name, &executable, &sites);
}

#[test]
fn every_activation_has_the_gradient_of_its_forward_pass() {
    let activations = [
        Activation::Relu,
        Activation::Clip { min: -0.5, max: 0.7 },
        Activation::LeakyRelu { alpha: 0.1 },
        Activation::Sigmoid,
        Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Activation::HardSwish,
        Activation::Silu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Tanh,
        Activation::Elu { alpha: 0.8 },
        Activation::Mish,
    ];
    for activation in activations {
        let name = activation.name();
        check_operator(&format!("{name} of a convolution"), CHANNELS, |graph| {
            let last = graph.last();
            graph.push(Op::Activation(activation), &[last])
        });
        check_operator(&format!("{name} of a norm"), CHANNELS, |graph| {
            let conv = graph.last();
            let other = graph.push(Op::Activation(Activation::Tanh), &[conv]);
            let product = graph.push(Op::Mul, &[conv, other]);
            let norm = graph.norm(CHANNELS);
            let norm = graph.push(norm, &[product]);
            graph.push(Op::Activation(activation), &[norm])
        });
        check_operator(&format!("{name} of a sum with a shortcut"), CHANNELS, |graph| {
            let shortcut = graph.last();
            let conv = graph.conv(CHANNELS, CHANNELS, [3, 3], 1);
            let conv = graph.push(conv, &[shortcut]);
            let sum = graph.push(Op::Add, &[conv, shortcut]);
            graph.push(Op::Activation(activation), &[sum])
        });
        check_operator(&format!("{name} of a value read twice"), CHANNELS, |graph| {
            let conv = graph.last();
            let activated = graph.push(Op::Activation(activation), &[conv]);
            graph.push(Op::Add, &[conv, activated])
        });
    }
}

#[test]
fn sums_and_products_have_gradients_however_they_broadcast() {
    for op in [Op::Add, Op::Mul] {
        let name = op.name();
        check_operator(&format!("{name} per channel"), CHANNELS, |graph| {
            let map = graph.last();
            let squeezed = graph.push(Op::GlobalAveragePool, &[map]);
            graph.push(op.clone(), &[squeezed, map])
        });
        check_operator(&format!("{name} per pixel"), CHANNELS, |graph| {
            let map = graph.last();
            let one = graph.conv(CHANNELS, 1, [3, 3], 1);
            let one = graph.push(one, &[map]);
            graph.push(op.clone(), &[map, one])
        });
        check_operator(&format!("{name} of equals"), CHANNELS, |graph| {
            let map = graph.last();
            let other = graph.push(Op::Activation(Activation::Silu), &[map]);
            graph.push(op.clone(), &[other, map])
        });
    }
}

#[test]
fn squeeze_and_excitation_through_dense_layers_has_a_gradient() {
    check_operator("dense layers", CHANNELS, |graph| {
        let map = graph.last();
        let pooled = graph.push(Op::GlobalAveragePool, &[map]);
        let flat = graph.push(Op::Flatten, &[pooled]);
        let mut dense = |to: usize, from: usize| Op::Dense {
            weight: graph.noise.tensor(&[to, from]),
            bias: graph.noise.tensor(&[to]),
        };
        let (down, up) = (dense(6, CHANNELS), dense(CHANNELS, 6));
        let down = graph.push(down, &[flat]);
        let up = graph.push(up, &[down]);
        let gate = graph.push(Op::Activation(Activation::Sigmoid), &[up]);
        let gate = graph.push(Op::Unflatten, &[gate]);
        graph.push(Op::Mul, &[map, gate])
    });
}

#[test]
fn a_network_that_ends_in_an_activation_has_a_gradient() {
    let end = |name: &str, activation, dense: bool| {
        let mut graph = Builder::new(3);
        let map = graph.last();
        let pooled = graph.push(Op::GlobalAveragePool, &[map]);
        if dense {
            let flat = graph.push(Op::Flatten, &[pooled]);
            let [weight, bias] = [&[10, CHANNELS][..], &[10]].map(|shape| graph.noise.tensor(shape));
            let dense = graph.push(Op::Dense { weight, bias }, &[flat]);
            graph.push(Op::Activation(activation), &[dense]);
        } else {
            let conv = graph.conv(CHANNELS, 10, [1, 1], 1);
            let conv = graph.push(conv, &[pooled]);
            let activated = graph.push(Op::Activation(activation), &[conv]);
            graph.push(Op::Flatten, &[activated]);
        }
        let (backbone, executable) = graph.finish_with_features();
        let trained = if dense { vec![0] } else { vec![0, 1] };
        let sites = sites(&backbone, &executable, &trained, &mut Noise::new(5));
        check(&format!("{name}, dense: {dense}"), &executable, &sites);
    };
    for activation in [Activation::Relu, Activation::HardSwish, Activation::Sigmoid] {
        end(activation.name(), activation, true);
        end(activation.name(), activation, false);
    }
}

#[test]
fn operators_along_the_channels_have_gradients() {
    check_operator("channel shuffle and a part of the channels", 12, |graph| {
        let map = graph.last();
        let index: Vec<u32> = (0..12).map(|at| (at * 7 + 3) % CHANNELS as u32).collect();
        graph.push(Op::GatherChannels { index: index.into() }, &[map])
    });
    check_operator("concatenation", CHANNELS + 5, |graph| {
        let map = graph.last();
        let more = graph.conv(CHANNELS, 5, [1, 1], 1);
        let more = graph.push(more, &[map]);
        graph.push(Op::Concat, &[more, map])
    });
    check_operator("efficient channel attention", CHANNELS, |graph| {
        let map = graph.last();
        let pooled = graph.push(Op::GlobalAveragePool, &[map]);
        let kernel = graph.noise.tensor(&[3]);
        let conv = Op::ChannelConv {
            kernel,
            bias: 0.1,
            pads: [1, 1],
        };
        let gate = graph.push(conv, &[pooled]);
        let gate = graph.push(Op::Activation(Activation::Sigmoid), &[gate]);
        graph.push(Op::Mul, &[map, gate])
    });
    check_operator("split attention", CHANNELS, |graph| {
        let map = graph.last();
        let pooled = graph.push(Op::GlobalAveragePool, &[map]);
        let gate = graph.push(Op::Softmax { groups: 2 }, &[pooled]);
        graph.push(Op::Mul, &[map, gate])
    });
}

#[test]
fn norms_of_the_image_itself_have_gradients() {
    let norms: [fn(&mut Builder) -> Op; 3] = [
        |graph| Op::LayerNorm {
            scale: graph.noise.tensor(&[CHANNELS]),
            bias: graph.noise.tensor(&[CHANNELS]),
            epsilon: 1e-5,
        },
        |graph| Op::GroupNorm {
            groups: 5,
            scale: graph.noise.tensor(&[CHANNELS]),
            bias: graph.noise.tensor(&[CHANNELS]),
            epsilon: 1e-5,
        },
        |graph| Op::GlobalResponseNorm {
            scale: graph.noise.tensor(&[CHANNELS]),
            bias: graph.noise.tensor(&[CHANNELS]),
            epsilon: 1e-6,
        },
    ];
    for norm in norms {
        check_operator("norm", CHANNELS, |graph| {
            let op = norm(graph);
            let map = graph.last();
            let norm = graph.push(op, &[map]);
            graph.push(Op::Activation(Activation::Gelu), &[norm])
        });
    }
}

#[test]
fn operators_that_move_pixels_have_gradients() {
    let resize = |mode| {
        Op::Resize(Resize {
            target: ResizeTarget::Size([14, 5]),
            mode,
            coordinates: Coordinates::HalfPixel,
        })
    };
    let ops = [
        Op::Pad {
            pads: [1, 2, 0, 3],
            mode: PadMode::Reflect,
        },
        Op::Pad {
            pads: [1, 2, 0, 3],
            mode: PadMode::Constant(0.5),
        },
        Op::Crop {
            start: [1, 0],
            size: [4, 3],
            step: [2, 2],
        },
        resize(ResizeMode::Nearest(Rounding::PreferFloor)),
        resize(ResizeMode::Bilinear),
        Op::MaxPool(window(3)),
        Op::AveragePool(window(3)),
    ];
    for op in ops {
        check_operator(op.name(), CHANNELS, |graph| {
            let map = graph.last();
            let moved = graph.push(op.clone(), &[map]);
            // A non-linear function, so that every pixel has a different effect.
            let gate = graph.push(Op::Activation(Activation::Tanh), &[moved]);
            graph.push(Op::Mul, &[moved, gate])
        });
    }
    check_operator("flatten of a map", 4, |graph| {
        let map = graph.last();
        let pooled = graph.push(Op::MaxPool(window(3)), &[map]);
        let flat = graph.push(Op::Flatten, &[pooled]);
        let weight = graph.noise.tensor(&[4, CHANNELS * flat_pixels()]);
        let bias = graph.noise.tensor(&[4]);
        let dense = graph.push(Op::Dense { weight, bias }, &[flat]);
        graph.push(Op::Unflatten, &[dense])
    });
}

/// Pixels after [`window`] of 3 on an image.
fn flat_pixels() -> usize {
    let mut builder = Builder::new(3);
    let map = builder.last();
    builder.push(Op::MaxPool(window(3)), &[map]);
    let (backbone, _) = builder.finish(CHANNELS);
    match backbone.value_shapes(SIZE[0], SIZE[1]).unwrap()[2] {
        Shape::Map([_, height, width]) => height * width,
        Shape::Vector(_) => unreachable!(),
    }
}

#[test]
fn convolutions_of_every_kind_pass_gradients_to_the_sites_before_them() {
    type Change = fn(&mut clr_onnx::Conv);
    let kinds: [(&str, Change); 5] = [
        ("stride", |conv| conv.stride = [2, 3]),
        ("dilation", |conv| conv.dilation = [2, 1]),
        ("odd padding", |conv| {
            conv.padding = clr_onnx::Padding::Explicit([0, 3, 2, 0]);
        }),
        ("no bias", |conv| conv.bias = None),
        ("same padding", |conv| {
            conv.stride = [2, 2];
            conv.padding = clr_onnx::Padding::SameLower;
        }),
    ];
    for group in [1, 2, 4, CHANNELS] {
        for (kind, change) in &kinds {
            let mut builder = Builder::new(11);
            let map = builder.last();
            let mut conv = builder.conv(CHANNELS, 2 * CHANNELS, [3, 3], group);
            if let Op::Conv(conv) = &mut conv {
                change(conv);
            }
            let conv = builder.push(conv, &[map]);
            builder.push(Op::Activation(Activation::Silu), &[conv]);
            let (backbone, executable) = builder.finish(2 * CHANNELS);
            let sites = sites(&backbone, &executable, &[0, 1, 2], &mut Noise::new(5));
            check(&format!("{group} groups, {kind}"), &executable, &sites);
        }
    }
}
