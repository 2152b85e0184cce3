//! Images of distinguishable tasks, and adapters for them.

use clr_adapters::{Adapter, Background, Encoding, Preprocessing, Profile, Recipe, decode, encode};
use clr_engine::Engine;
use clr_learning::{Network, learn_background};
use clr_onnx::{Backbone, Preprocess as _, RgbImage};

use crate::seeded::{Random, adapter};

/// Returns an image of a task: stripes with the task's direction, spacing and colour.
pub(crate) fn image(task: u32, index: u64) -> RgbImage {
    let mut random = Random(1 + u64::from(task) * 1_000_003 + index * 7_919);
    let angle = task as f32 * 0.8 + 0.15 * random.value();
    let spacing = 3.0 + 2.5 * task as f32 + 0.5 * random.value();
    let phase = 3.0 * random.value();
    let tint = [0, 1, 2].map(|channel| 60.0 + 150.0 * ((task + channel) % 3) as f32 / 2.0 + 15.0 * random.value());
    RgbImage::from_fn(48, 48, |x, y| {
        let along = x as f32 * angle.cos() + y as f32 * angle.sin();
        let wave = (along * std::f32::consts::TAU / spacing + phase).sin();
        image::Rgb(tint.map(|tint| (tint + 60.0 * wave + 10.0 * random.value()).clamp(0.0, 255.0) as u8))
    })
}

/// An image of none of the tasks.
pub(crate) fn noise(index: u64) -> RgbImage {
    let mut random = Random(1 + index);
    RgbImage::from_fn(48, 48, |_, _| {
        image::Rgb([0; 3].map(|_| (128.0 + 127.0 * random.value()) as u8))
    })
}

/// Returns an adapter for one of these tasks, with a profile of 60 images.
pub(crate) fn with_profile(engine: &Engine, task: u32, side: u32) -> Adapter {
    let mut adapter = adapter(
        engine.backbone(),
        Recipe::Clr,
        &format!("task-{task}"),
        3,
        u64::from(task),
    );
    let preprocessing = &mut adapter.header.preprocessing;
    (preprocessing.height, preprocessing.width) = (side, side);
    let features = |range: std::ops::Range<u64>| -> Vec<Vec<f32>> {
        let of = |index| engine.backbone_features(&adapter.header.preprocessing, &image(task, index));
        range.map(|index| of(index).unwrap()).collect()
    };
    let (training, validation) = (features(0..60), features(60..90));
    adapter.header.profile = Profile::learn(training.iter().map(Vec::as_slice), validation.iter().map(Vec::as_slice));
    assert!(adapter.header.profile.is_some());
    decode(&encode(&adapter, Encoding::Int8).unwrap()).unwrap().adapter
}

fn input(backbone: &Backbone, side: u32) -> Preprocessing {
    Preprocessing {
        height: side,
        width: side,
        ..backbone.preprocessing().clone()
    }
}

/// Returns the block statistics of images.
fn statistics(backbone: &Backbone, side: u32, images: impl Iterator<Item = RgbImage>) -> Vec<Vec<f32>> {
    let network = Network::new(backbone, Recipe::Linear, 1, 0).unwrap();
    let input = input(backbone, side);
    let values: Vec<Vec<f32>> = images.map(|image| input.preprocess(&image)).collect();
    let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
    network.block_statistics(&values, [side as usize; 2]).unwrap()
}

/// Returns a background of six kinds of images: those of five tasks, and noise.
pub(crate) fn background(backbone: &Backbone, side: u32, seed: u64) -> Background {
    let kind = |task: u32| statistics(backbone, side, (900..930).map(|index| image(task, index)));
    let mut kinds: Vec<Vec<Vec<f32>>> = (0..5).map(kind).collect();
    kinds.push(statistics(backbone, side, (900..930).map(noise)));
    learn_background(backbone.digest(), &kinds, seed).unwrap()
}

/// Returns an adapter for one of these tasks, with a profile of 60 images against a background.
pub(crate) fn with_profile_against(backbone: &Backbone, background: &Background, task: u32, side: u32) -> Adapter {
    let mut adapter = adapter(backbone, Recipe::Clr, &format!("task-{task}"), 3, u64::from(task));
    adapter.header.preprocessing = input(backbone, side);
    let points = |range: std::ops::Range<u64>| -> Vec<Vec<f32>> {
        let statistics = statistics(backbone, side, range.map(|index| image(task, index)));
        statistics.iter().map(|image| background.coordinates(image)).collect()
    };
    let (training, validation) = (points(0..60), points(60..100));
    let profile = Profile::learn_against(background, &training).unwrap();
    let scores = validation.iter().map(|point| profile.score_against(background, point));
    let scores = scores.collect();
    adapter.header.profile = profile.with_scores(scores, &[]);
    assert!(adapter.header.profile.is_some());
    adapter
}
