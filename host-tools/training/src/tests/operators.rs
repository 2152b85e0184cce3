//! Operators of the runtime (image by image, in `NCHWc16` layout) compared with candle's own operations.
//!
//! The comparison covers the features, and the gradients of the sites before and after the operator.

use candle_core::{Device, Tensor};
use clr_adapters::Recipe;
use clr_onnx::{
    Activation, Backbone, Coordinates, Graph, Op, PadMode, Padding, Pool, Resize, ResizeMode, ResizeTarget, Rounding,
    ValueId,
};

use super::fixtures::{Builder, disturb, noise, preprocessing};
use crate::{CandleBackbone, Mode, Network, with_threads};

const SIDE: usize = 10;
/// More than a block of sixteen channels, and not a multiple of it.
const CHANNELS: usize = 20;

/// Returns a backbone with a convolution, the operators of `middle`, another convolution, and a mean over the map.
fn around(name: &str, middle: &dyn Fn(&mut Builder, ValueId) -> (ValueId, usize)) -> Backbone {
    let mut b = Builder::new(17);
    let x = b.conv("stem", ValueId::IMAGE, [CHANNELS, 3, 3, 3], 1, 1, true);
    let x = b.norm("stem.norm", x, CHANNELS);
    let (x, channels) = middle(&mut b, x);
    let x = b.conv("last", x, [18, channels, 1, 1], 1, 1, true);
    let x = b.push("pool", Op::GlobalAveragePool, &[x]);
    let features = b.push("flat", Op::Flatten, &[x]);
    let graph = Graph {
        input_channels: 3,
        nodes: b.nodes,
        features,
    };
    Backbone::new(name, graph, None, None, preprocessing(SIDE as u32)).unwrap()
}

type Middle = Box<dyn Fn(&mut Builder, ValueId) -> (ValueId, usize)>;

fn cases() -> Vec<(String, Middle)> {
    let mut cases: Vec<(String, Middle)> = Vec::new();
    let mut one = |op: Op, channels: usize| {
        let name = format!("{} {:.60}", op.name(), format!("{op:?}"));
        cases.push((name, Box::new(move |b, x| (b.push("op", op.clone(), &[x]), channels))));
    };
    for activation in [
        Activation::LeakyRelu { alpha: 0.1 },
        Activation::Sigmoid,
        Activation::Silu,
        Activation::HardSwish,
        Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Tanh,
        Activation::Elu { alpha: 1.2 },
        Activation::Mish,
    ] {
        one(Op::Activation(activation), CHANNELS);
    }
    one(
        Op::GatherChannels {
            index: (0..CHANNELS as u32).rev().chain([3, 3, 7]).collect(),
        },
        CHANNELS + 3,
    );
    let crop = Op::Crop {
        start: [1, 0],
        size: [4, 5],
        step: [2, 1],
    };
    one(crop, CHANNELS);
    for mode in [
        PadMode::Constant(0.0),
        PadMode::Constant(-1.5),
        PadMode::Reflect,
        PadMode::Edge,
        PadMode::Wrap,
    ] {
        let pads = [2, 0, 1, 3];
        one(Op::Pad { pads, mode }, CHANNELS);
    }
    for mode in [ResizeMode::Bilinear, ResizeMode::Nearest(Rounding::PreferFloor)] {
        for coordinates in [
            Coordinates::HalfPixel,
            Coordinates::AlignCorners,
            Coordinates::Asymmetric,
        ] {
            for target in [ResizeTarget::Scale([2.0, 1.5]), ResizeTarget::Size([7, 3])] {
                let resize = Resize {
                    target,
                    mode,
                    coordinates,
                };
                one(Op::Resize(resize), CHANNELS);
            }
        }
    }
    for ceil in [false, true] {
        let pool = Pool {
            kernel: [3, 2],
            stride: [2, 3],
            padding: Padding::Explicit([1, 0, 1, 1]),
            ceil,
            count_include_pad: ceil,
        };
        one(Op::AveragePool(pool), CHANNELS);
    }
    let mut vectors = |name: &str, make: &'static dyn Fn(clr_onnx::Tensor, clr_onnx::Tensor) -> Op| {
        let middle = move |b: &mut Builder, x: ValueId| {
            let (scale, bias) = (b.vector(CHANNELS, 0.5, 1.5), b.vector(CHANNELS, -0.3, 0.3));
            (b.push("op", make(scale, bias), &[x]), CHANNELS)
        };
        cases.push((name.to_owned(), Box::new(middle)));
    };
    vectors("layer norm", &|scale, bias| Op::LayerNorm {
        scale,
        bias,
        epsilon: 1e-3,
    });
    vectors("group norm", &|scale, bias| Op::GroupNorm {
        groups: 4,
        scale,
        bias,
        epsilon: 1e-3,
    });
    vectors("instance norm", &|scale, bias| Op::GroupNorm {
        groups: CHANNELS,
        scale,
        bias,
        epsilon: 1e-3,
    });
    vectors("global response norm", &|scale, bias| Op::GlobalResponseNorm {
        scale,
        bias,
        epsilon: 1e-3,
    });
    // A gate made of the means, on the map.
    let mut gate = |name: &str, make: &'static dyn Fn(&mut Builder, ValueId) -> ValueId| {
        let middle = move |b: &mut Builder, x: ValueId| {
            let s = b.push("mean", Op::GlobalAveragePool, &[x]);
            let s = make(b, s);
            (b.push("gated", Op::Mul, &[x, s]), CHANNELS)
        };
        cases.push((name.to_owned(), Box::new(middle)));
    };
    gate("channel convolution", &|b, s| {
        let kernel = b.vector(3, -1.0, 1.0);
        let op = Op::ChannelConv {
            kernel,
            bias: 0.1,
            pads: [1, 1],
        };
        b.push("op", op, &[s])
    });
    gate("softmax", &|b, s| b.push("op", Op::Softmax { groups: 4 }, &[s]));
    gate("layer norm of a vector", &|b, s| {
        let s = b.push("flat.gate", Op::Flatten, &[s]);
        let (scale, bias) = (b.vector(CHANNELS, 0.5, 1.5), b.vector(CHANNELS, -0.3, 0.3));
        let op = Op::LayerNorm {
            scale,
            bias,
            epsilon: 1e-3,
        };
        let s = b.push("op", op, &[s]);
        b.push("unflat", Op::Unflatten, &[s])
    });
    for op in [Op::Add, Op::Mul] {
        let name = format!("{op:?} of one channel");
        let middle = move |b: &mut Builder, x: ValueId| {
            let mask = b.conv("mask", x, [1, CHANNELS, 1, 1], 1, 1, true);
            let mask = b.push("mask.act", Op::Activation(Activation::Sigmoid), &[mask]);
            (b.push("op", op.clone(), &[x, mask]), CHANNELS)
        };
        cases.push((name, Box::new(middle)));
    }
    cases
}

/// Returns a loss that weights each class differently.
fn loss(index: usize, logits: &[f32]) -> (f32, Vec<f32>) {
    let pull: Vec<f32> = (0..logits.len())
        .map(|at| (at as f32 * 0.7 + index as f32).sin())
        .collect();
    (logits.iter().zip(&pull).map(|(logit, pull)| logit * pull).sum(), pull)
}

fn relative(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let largest =
        |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, |largest: f32, value| largest.max(value.abs()));
    largest(&mut got.iter().zip(want).map(|(got, want)| got - want)) / largest(&mut want.iter().copied()).max(1e-6)
}

#[test]
fn every_operator_and_its_gradient_agree_with_candle() {
    for (name, middle) in cases() {
        let backbone = around("operators", &*middle);
        let mut network = Network::new(&backbone, Recipe::ClrFull, 7, 5).unwrap();
        disturb(&mut network, 0.05);
        let candle = CandleBackbone::new(&backbone, &Device::Cpu).unwrap();
        let x = noise(2, SIDE);
        let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let batch = flat(&x);
        let images: Vec<&[f32]> = batch.chunks_exact(3 * SIDE * SIDE).collect();
        let got = network.features(&images, [SIDE; 2]).unwrap().concat();
        let want = flat(&candle.features(&network, &x).unwrap());
        let difference = relative(&got, &want);
        assert!(difference < 1e-5, "{name}: {difference}");

        let learned = with_threads(1, || Ok(network.forward_backward(&images, [SIDE; 2], None, &loss)?)).unwrap();
        let reference = candle
            .forward_backward(&mut network, &x, Mode::Train, None, &loss)
            .unwrap();
        let all = reference.gradients.iter().flatten().flatten();
        let largest = all.fold(0.0, |largest: f32, value| largest.max(value.abs()));
        let mut compared = 0;
        let gradients = learned.gradients.iter().zip(&reference.gradients);
        for (parameter, (got, want)) in network.parameters().iter().zip(gradients) {
            let (Some(got), Some(want)) = (got, want) else { continue };
            // If a norm cancels a scale, both gradients consist of rounding errors.
            let rounding = 1e-5 * largest.max(1.0);
            let difference = relative(got, want);
            let tiny = got.iter().zip(want).all(|(got, want)| (got - want).abs() < rounding);
            assert!(difference < 2e-4 || tiny, "{name}: {}: {difference}", parameter.name);
            compared += 1;
        }
        assert!(compared >= 4, "{name}: {compared} gradients");
    }
}
