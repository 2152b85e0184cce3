//! The tiny network and tasks of `tests/tools/continual_fixture.py`.

use std::{collections::BTreeMap, sync::Arc};

use candle_core::Device;
use clr_adapters::{ChannelOrder, Filter, Fit, Preprocessing};
use clr_onnx::{Activation, Backbone, BatchNorm, Conv, Graph, Node, Op, Padding, RgbImage, ValueId, numpy_arrays};
use clr_training::Augmentation;

use crate::{Batch, Example, Images, Learner as _, Method, Model, NetworkLearner, Task};

pub(super) const CLASSES: [usize; 2] = [3, 2];
pub(super) const RATE: f32 = 0.02;
pub(super) const STEPS: usize = 5;
pub(super) const BATCH: usize = 4;
pub(super) const IMAGES: usize = 12;
pub(super) const SEED: u64 = 3;

/// The arrays of the fixture by name.
pub(super) fn arrays() -> BTreeMap<String, Vec<f32>> {
    let arrays = numpy_arrays(include_bytes!("fixture.pkl"), "fixture.pkl").expect("the fixture");
    let values = arrays
        .into_iter()
        .map(|array| (array.name.clone(), array.to_f32().expect("f4")));
    values.collect()
}

/// Creates a backbone of named operators, each of which reads the one before. The last one computes the features.
pub(super) fn chain(ops: Vec<(String, Op)>, preprocessing: &Preprocessing) -> Backbone {
    let nodes = (ops.into_iter().enumerate()).map(|(index, (name, op))| Node {
        name,
        op,
        inputs: vec![ValueId(index)],
    });
    let nodes: Vec<Node> = nodes.collect();
    let graph = Graph {
        input_channels: 3,
        features: ValueId(nodes.len()),
        nodes,
    };
    Backbone::new("tiny", graph, None, None, preprocessing.clone()).expect("a backbone")
}

/// Returns a preprocessing to `[height, width]` without resampling.
pub(super) fn preprocessing([height, width]: [u32; 2], mean: f32, std: f32) -> Preprocessing {
    Preprocessing {
        height,
        width,
        fit: Fit::Stretch,
        filter: Filter::Bilinear,
        channel_order: ChannelOrder::Rgb,
        mean: [mean; 3],
        std: [std; 3],
    }
}

/// Two tasks on a tiny backbone.
pub(super) struct Fixture {
    pub(super) backbone: Backbone,
    pub(super) tasks: [Images; 2],
    heads: [[Vec<f32>; 2]; 2],
}

impl Fixture {
    pub(super) fn new() -> Self {
        let arrays = arrays();
        let of = |name: &str| arrays[&format!("start.{name}")].clone();
        let tensor = |name: &str, shape: &[usize]| clr_onnx::Tensor::new(shape, of(name));
        let mut ops = Vec::new();
        let mut push = |name: &str, op: Op| ops.push((name.to_owned(), op));
        let layers = [
            ("a", [8, 3, 3, 3], 2, 1, 1),
            ("b", [8, 1, 3, 3], 1, 8, 1),
            ("c", [16, 8, 1, 1], 1, 1, 0),
        ];
        for (name, shape, stride, group, pad) in layers {
            let conv = Conv {
                weight: tensor(&format!("{name}.weight"), &shape).into(),
                bias: None,
                stride: [stride; 2],
                dilation: [1; 2],
                group,
                padding: Padding::Explicit([pad; 4]),
            };
            push(name, Op::Conv(conv));
            let vector = |part: &str| tensor(&format!("{name}.{part}"), &shape[..1]);
            let norm = BatchNorm {
                scale: vector("gamma"),
                bias: vector("beta"),
                mean: vector("mean"),
                variance: vector("variance"),
                epsilon: 1e-3,
            };
            push(&format!("{name}.norm"), Op::BatchNorm(norm));
            if name != "c" {
                let clip = Activation::Clip { min: 0.0, max: 6.0 };
                push(&format!("{name}.clip"), Op::Activation(clip));
            }
        }
        push("pool", Op::GlobalAveragePool);
        push("flatten", Op::Flatten);
        let preprocessing = preprocessing([8; 2], 127.5, 63.75);
        let pixels = of("images");
        let images = |task: usize| {
            let each = pixels
                .chunks_exact(8 * 8 * 3)
                .skip(task * IMAGES)
                .take(IMAGES)
                .enumerate();
            let examples = each.map(|(index, pixels)| {
                let bytes = pixels.iter().map(|&value| value as u8).collect();
                Example {
                    image: Arc::new(RgbImage::from_raw(8, 8, bytes).expect("8 × 8 pixels")),
                    label: (index % CLASSES[task]) as u32,
                }
            });
            Images::new(preprocessing.clone(), examples.collect())
        };
        Self {
            tasks: [images(0), images(1)],
            heads: [0, 1].map(|task| ["weight", "bias"].map(|part| of(&format!("head{task}.{part}")))),
            backbone: chain(ops, &preprocessing),
        }
    }

    pub(super) fn task(&self, index: usize) -> Task<'_> {
        Task {
            index,
            classes: CLASSES[index],
            train: &self.tasks[index],
            seed: SEED,
            augmentation: &Augmentation::NONE,
        }
    }

    pub(super) fn learner(&self, method: impl Method + 'static) -> NetworkLearner {
        let model = Model::new(&self.backbone, &Device::Cpu).expect("a model");
        NetworkLearner::new(model, Box::new(method))
    }

    /// Begins a task with the fixture's head.
    pub(super) fn begin(&self, learner: &mut NetworkLearner, index: usize) {
        let before = learner.model().heads.len();
        learner.begin(&self.task(index)).expect("a task");
        if learner.model().heads.len() > before {
            let [weight, bias] = &self.heads[index];
            learner.set_head(index, weight, bias).expect("a head");
        }
    }

    /// Performs step `step` and returns the loss.
    pub(super) fn step(&self, learner: &mut NetworkLearner, index: usize, step: usize) -> f64 {
        let indices = indices(step);
        let batch = batch(&self.tasks[index], &indices, step);
        learner.step(&self.task(index), &batch, STEPS, 1.0).expect("a step")
    }

    /// Learns both tasks.
    pub(super) fn learn(&self, learner: &mut NetworkLearner) {
        for index in 0..2 {
            self.begin(learner, index);
            for step in 0..STEPS {
                self.step(learner, index, step);
            }
            learner.end(&self.task(index)).expect("the end of a task");
        }
    }

    /// Returns the logits of all images of a task.
    pub(super) fn logits(&self, learner: &NetworkLearner, index: usize) -> Vec<f32> {
        let all: Vec<usize> = (0..IMAGES).collect();
        learner
            .logits(index, &self.tasks[index], &all)
            .expect("logits")
            .concat()
    }
}

pub(super) fn indices(step: usize) -> Vec<usize> {
    (0..BATCH).map(|index| (BATCH * step + index) % IMAGES).collect()
}

pub(super) fn batch<'a>(images: &Images, indices: &'a [usize], step: usize) -> Batch<'a> {
    Batch {
        x: images.tensor(indices, &Device::Cpu).expect("images"),
        labels: images.labels(indices),
        indices,
        epoch: step,
        step: step as u64,
    }
}
