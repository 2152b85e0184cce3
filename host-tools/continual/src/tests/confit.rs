//! The corrected means of `ConFiT` against those of the convolution itself.

use std::sync::Arc;

use candle_core::Device;
use clr_onnx::{BatchNorm, Conv, Op, Padding, RgbImage, Tensor};
use clr_training::Augmentation;

use super::fixture::{RATE, SEED, batch, chain, preprocessing};
use crate::{Example, Images, Mode, Model, NetworkLearner, NoTransform, Task, methods::Confit, set_values, values};

const CHANNELS: usize = 4;

/// A network of one convolution, a norm and a mean over space.
struct Case {
    size: [u32; 2],
    kernel: usize,
    stride: usize,
    padding: Padding,
    bias: bool,
}

/// Returns values in ±1 that look random.
fn spread(count: usize, phase: f32) -> Vec<f32> {
    (0..count).map(|index| (1.7 * index as f32 + phase).sin()).collect()
}

impl Case {
    fn backbone(&self) -> clr_onnx::Backbone {
        let shape = [CHANNELS, 3, self.kernel, self.kernel];
        let vector = |values: Vec<f32>| Tensor::new([CHANNELS], values);
        let conv = Conv {
            weight: Tensor::new(shape, spread(shape.iter().product(), 0.0)).into(),
            bias: self.bias.then(|| vector(spread(CHANNELS, 1.0))),
            stride: [self.stride; 2],
            dilation: [1; 2],
            group: 1,
            padding: self.padding,
        };
        let norm = BatchNorm {
            scale: vector(vec![0.5, 1.0, 1.5, 2.0]),
            bias: vector(spread(CHANNELS, 2.0)),
            mean: vector(vec![0.0; CHANNELS]),
            variance: vector(vec![1.0; CHANNELS]),
            epsilon: 1e-3,
        };
        let ops = [
            ("conv", Op::Conv(conv)),
            ("norm", Op::BatchNorm(norm)),
            ("pool", Op::GlobalAveragePool),
            ("flatten", Op::Flatten),
        ];
        chain(
            ops.map(|(name, op)| (name.to_owned(), op)).into(),
            &preprocessing(self.size, 127.5, 63.75),
        )
    }

    /// Returns images whose pixels depend on the channel and the phase of the stride only.
    fn images(&self) -> Images {
        let [height, width] = self.size;
        let stride = self.stride as u32;
        let pixels = (0..height).flat_map(|row| (0..width).map(move |column| row % stride * stride + column % stride));
        let bytes =
            pixels.flat_map(|phase| [40 + 60 * phase, 200 - 50 * phase, 10 + 70 * phase].map(|value| value as u8));
        let image = RgbImage::from_raw(width, height, bytes.collect()).expect("an image");
        let image = Arc::new(image);
        let example = |label| Example {
            image: image.clone(),
            label,
        };
        Images::new(
            preprocessing(self.size, 127.5, 63.75),
            (0..4).map(|index| example(index % 2)).collect(),
        )
    }

    /// Changes the weights in a second task. Returns the first task's features with corrected means, those with stored
    /// means, and β.
    fn features_after_another_task(&self) -> [Vec<f32>; 3] {
        let images = self.images();
        let model = Model::new(&self.backbone(), &Device::Cpu).expect("a model");
        let mut learner = NetworkLearner::new(model, Box::new(Confit::new(RATE)));
        let task = |index| Task {
            index,
            classes: 2,
            train: &images,
            seed: SEED,
            augmentation: &Augmentation::NONE,
        };
        let all = batch(&images, &[0, 1, 2, 3], 0);
        learner.begin(&task(0)).expect("a task");
        for _ in 0..3 {
            learner.step(&task(0), &all, 3, 1.0).expect("a step");
        }
        learner.end(&task(0)).expect("the end of a task");
        learner.begin(&task(1)).expect("a task");
        let variables = learner.model().weights.variables();
        let others: Vec<Vec<f32>> = (values(&variables).expect("values").iter())
            .map(|values| spread(values.len(), 5.0))
            .collect();
        set_values(&variables, &others).expect("values");
        let model = learner.model();
        let corrected = learner.method().features(model, 0, &all.x).expect("features");
        let stored = (model.structure).forward(&model.weights, &model.norms[0], &NoTransform, Mode::Eval, &all.x);
        let first = |features: candle_core::Tensor| features.get(0).and_then(|row| row.to_vec1()).expect("a row");
        let [_, beta] = model.norms[0].affine(0);
        [
            first(corrected),
            first(stored.expect("features").values),
            beta.to_vec1().expect("β"),
        ]
    }
}

/// A feature is the mean of a channel over space: β if the norm's μ is the true mean.
#[test]
fn the_corrected_mean_is_the_true_one_on_phase_constant_inputs() {
    let case = |size, kernel, stride, padding| Case {
        size,
        kernel,
        stride,
        padding,
        bias: false,
    };
    let cases = [
        case([8, 8], 3, 1, Padding::Explicit([1; 4])),
        case([8, 8], 3, 2, Padding::Explicit([1; 4])),
        // On an even size, the padding is below and to the right only.
        case([8, 8], 3, 2, Padding::SameUpper),
        case([8, 8], 3, 2, Padding::SameLower),
        case([8, 10], 5, 2, Padding::SameUpper),
        case([7, 9], 3, 2, Padding::SameUpper),
        case([7, 8], 3, 2, Padding::Explicit([0, 1, 1, 0])),
        Case {
            bias: true,
            ..case([8, 8], 3, 2, Padding::SameUpper)
        },
    ];
    for (index, case) in cases.iter().enumerate() {
        let [corrected, stored, beta] = case.features_after_another_task();
        let apart = |features: &[f32]| {
            let apart = features.iter().zip(&beta).map(|(feature, beta)| (feature - beta).abs());
            apart.fold(0.0, f32::max)
        };
        assert!(apart(&corrected) < 1e-5, "case {index}: {corrected:?} {beta:?}");
        assert!(apart(&stored) > 0.1, "case {index}: {stored:?} {beta:?}");
    }
}
