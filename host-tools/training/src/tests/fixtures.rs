//! Fixtures: a small backbone with every kind of site, and folders of generated images.

use std::path::{Path, PathBuf};

use candle_core::Device;
use clr_adapters::{ChannelOrder, Filter, Fit, Preprocessing};
use clr_onnx::{Activation, Backbone, BatchNorm, Conv, Graph, Node, Op, Padding, RgbImage, Tensor, ValueId};
use rand::RngExt as _;

use crate::{
    Augmentation, Dataset, LrSchedule, Network, Purpose, RecipeChoice, Schedule, SplitOptions, TrainOptions, stream,
};

/// Side of the input in pixels.
pub(super) const SIDE: u32 = 16;

/// Returns `count` inputs of `side` × `side` pixels, `[count, 3, side, side]`, with values in −2 to 2.
pub(super) fn noise(count: usize, side: usize) -> candle_core::Tensor {
    let mut random = stream(11, Purpose::Augment, 0, 0);
    let data: Vec<f32> = (0..count * 3 * side * side)
        .map(|_| random.random_range(-2.0..2.0))
        .collect();
    candle_core::Tensor::from_vec(data, (count, 3, side, side), &Device::Cpu).unwrap()
}

/// Changes every parameter by less than `distance`.
pub(super) fn disturb(network: &mut Network, distance: f32) {
    let moved = network.parameters().into_iter().enumerate().map(|(index, parameter)| {
        let mut random = stream(index as u64, Purpose::Augment, 1, 0);
        let values = parameter.values.into_iter();
        values
            .map(|value| value + random.random_range(-distance..distance))
            .collect()
    });
    let moved: Vec<Vec<f32>> = moved.collect();
    network.set_values(&moved).unwrap();
}

/// Returns the mean cross-entropy with `labels` and label smoothing, as a loss function of each image.
pub(super) fn mean_loss(labels: &[u32], classes: usize) -> impl Fn(usize, &[f32]) -> (f32, Vec<f32>) + Sync {
    move |index, logits| {
        let target = clr_learning::smoothed_target(labels[index] as usize, classes, 0.1);
        let (loss, gradient) = clr_learning::cross_entropy(logits, &target, 1.0);
        let share = 1.0 / labels.len() as f64;
        let gradient = gradient.into_iter().map(|value| (value * share) as f32);
        ((loss * share) as f32, gradient.collect())
    }
}

/// Nodes of a graph with reproducible weights.
pub(super) struct Builder {
    pub(super) nodes: Vec<Node>,
    seed: u64,
}

impl Builder {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            nodes: Vec::new(),
            seed,
        }
    }

    pub(super) fn vector(&mut self, count: usize, low: f32, high: f32) -> Tensor {
        Tensor::new([count], self.uniform(count, low, high))
    }

    fn uniform(&mut self, count: usize, low: f32, high: f32) -> Vec<f32> {
        self.seed += 1;
        let mut random = stream(self.seed, Purpose::Head, 99, 0);
        (0..count).map(|_| random.random_range(low..high)).collect()
    }

    pub(super) fn push(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        self.nodes.push(Node {
            name: name.to_owned(),
            op,
            inputs: inputs.to_vec(),
        });
        ValueId(self.nodes.len())
    }

    pub(super) fn conv(
        &mut self,
        name: &str,
        x: ValueId,
        shape: [usize; 4],
        stride: usize,
        group: usize,
        bias: bool,
    ) -> ValueId {
        let fan = shape[1] * shape[2] * shape[3];
        let bound = (3.0 / fan as f32).sqrt();
        let weight = Tensor::new(shape, self.uniform(shape.iter().product(), -bound, bound));
        let bias = bias.then(|| Tensor::new([shape[0]], self.uniform(shape[0], -0.2, 0.2)));
        let padding = if shape[2] == 1 {
            Padding::Explicit([0; 4])
        } else {
            Padding::SameUpper
        };
        let conv = Conv {
            weight: weight.into(),
            bias,
            stride: [stride; 2],
            dilation: [1, 1],
            group,
            padding,
        };
        self.push(name, Op::Conv(conv), &[x])
    }

    pub(super) fn norm(&mut self, name: &str, x: ValueId, channels: usize) -> ValueId {
        let mut vector = |low, high| Tensor::new([channels], self.uniform(channels, low, high));
        let norm = BatchNorm {
            scale: vector(0.6, 1.4),
            bias: vector(-0.2, 0.4),
            mean: vector(-0.3, 0.3),
            variance: vector(0.3, 1.2),
            epsilon: 1e-3,
        };
        self.push(name, Op::BatchNorm(norm), &[x])
    }
}

/// Images of `side` × `side` pixels.
pub(super) fn preprocessing(side: u32) -> Preprocessing {
    Preprocessing {
        height: side,
        width: side,
        fit: Fit::Stretch,
        filter: Filter::Bilinear,
        channel_order: ChannelOrder::Rgb,
        mean: [127.0; 3],
        std: [64.0; 3],
    }
}

/// Returns a backbone: stem (with a bias before its norm), depthwise, squeeze-and-excitation, a convolution with a bias
/// and no norm, a residual sum, a strided 3×3, pooled to 24 features.
pub(super) fn backbone() -> Backbone {
    let mut b = Builder::new(7);
    let relu6 = Op::Activation(Activation::Clip { min: 0.0, max: 6.0 });
    let x = b.conv("stem", ValueId::IMAGE, [8, 3, 3, 3], 2, 1, true);
    let x = b.norm("stem.norm", x, 8);
    let stem = b.push("stem.act", relu6.clone(), &[x]);
    let x = b.conv("depthwise", stem, [8, 1, 3, 3], 1, 8, false);
    let x = b.norm("depthwise.norm", x, 8);
    let x = b.push("depthwise.act", relu6.clone(), &[x]);
    let s = b.push("squeeze", Op::GlobalAveragePool, &[x]);
    let s = b.push("squeeze.flat", Op::Flatten, &[s]);
    let (weight, bias) = (b.uniform(64, -0.5, 0.5), b.uniform(8, -0.2, 0.2));
    let dense = Op::Dense {
        weight: Tensor::new([8, 8], weight),
        bias: Tensor::new([8], bias),
    };
    let s = b.push("squeeze.dense", dense, &[s]);
    let s = b.push("squeeze.gate", Op::Activation(Activation::Sigmoid), &[s]);
    let s = b.push("squeeze.unflat", Op::Unflatten, &[s]);
    let x = b.push("excite", Op::Mul, &[x, s]);
    let x = b.conv("project", x, [8, 8, 1, 1], 1, 1, true);
    let x = b.push("sum", Op::Add, &[x, stem]);
    let x = b.conv("expand", x, [24, 8, 3, 3], 2, 1, false);
    let x = b.norm("expand.norm", x, 24);
    let x = b.push("expand.act", Op::Activation(Activation::Relu), &[x]);
    let x = b.push("pool", Op::GlobalAveragePool, &[x]);
    let features = b.push("flat", Op::Flatten, &[x]);
    let graph = Graph {
        input_channels: 3,
        nodes: b.nodes,
        features,
    };
    Backbone::new("small", graph, None, None, preprocessing(SIDE)).unwrap()
}

/// Returns an image with random phase, colour and noise. Class 0: horizontal stripes, 1: vertical stripes, 2: a disc.
pub(super) fn image(class: usize, index: u64) -> RgbImage {
    let mut random = stream(3, Purpose::Augment, class as u64, index);
    let (phase, period) = (random.random_range(0..6_u32), random.random_range(5..7_u32));
    let colour: [f32; 3] = std::array::from_fn(|_| random.random_range(90.0..250.0));
    let centre: [f32; 2] = std::array::from_fn(|_| random.random_range(8.0..12.0));
    RgbImage::from_fn(20, 20, |x, y| {
        let lit = match class {
            0 => (y + phase) % period < period / 2,
            1 => (x + phase) % period < period / 2,
            _ => (x as f32 - centre[0]).powi(2) + (y as f32 - centre[1]).powi(2) < 36.0,
        };
        image::Rgb(colour.map(|value| {
            let base = if lit { value } else { 40.0 };
            (base + random.random_range(-25.0..25.0_f32)).clamp(0.0, 255.0) as u8
        }))
    })
}

pub(super) fn write_image(path: &Path, class: usize, index: u64) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image(class, index).save(path).unwrap();
}

pub(super) const CLASSES: [&str; 3] = ["across", "down", "round"];

/// Writes `count` images of each class as `root/<class>/NN.png`, starting with image number `from`.
pub(super) fn write_classes(root: &Path, count: u64, from: u64) {
    for (class, name) in CLASSES.iter().enumerate() {
        for index in 0..count {
            write_image(&root.join(name).join(format!("{index:02}.png")), class, from + index);
        }
    }
}

/// Returns a folder with 24 images of each class for training and 12 for testing.
pub(super) fn task() -> (tempfile::TempDir, Dataset) {
    let folder = tempfile::tempdir().unwrap();
    let root: PathBuf = folder.path().join("shapes");
    write_classes(&root.join("train"), 24, 0);
    write_classes(&root.join("test"), 12, 500);
    let options = SplitOptions {
        validation_fraction: 0.3,
        ..SplitOptions::default()
    };
    let dataset = Dataset::open(&root, &options).unwrap();
    (folder, dataset)
}

/// Returns options of a short run with small batches.
pub(super) fn options(recipe: RecipeChoice) -> TrainOptions {
    let schedule = Schedule {
        epochs: 4,
        batch: 8,
        rate: LrSchedule::Cosine {
            warmup: 1.0,
            min_factor: 0.05,
        },
        augmentation: Augmentation {
            area: 0.9,
            ..Augmentation::MILD
        },
        ..Schedule::default()
    };
    TrainOptions {
        recipe,
        schedule,
        threads: Some(2),
        created: Some(1),
        ..TrainOptions::default()
    }
}
