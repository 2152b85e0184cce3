//! Images with their results, by which a device checks an adapter: canaries in the file, and samples for the comparison of
//! engines before it is written.

use clr_adapters::{Canary, noise_image};
use clr_learning::{Network, argmax, log_probability};
use clr_onnx::{Preprocess as _, RgbImage};

use super::{CANARIES, CANARY_SIDE, ParitySample};
use crate::{Evaluation, batches::SplitImages, error::Result, evaluate::input_images, executor::Executor};

/// Number of validation images that are tried as canaries.
const CANARY_TRIALS: usize = 24;
/// Number of validation images that are returned with their logits.
const PARITY_SAMPLES: usize = 4;

/// Returns the canaries with the highest confidence, of different classes if possible: noise images in a compact file,
/// which stores only their seeds, and validation images in small size in other files.
pub(super) fn canaries(
    executor: &Executor,
    network: &Network,
    images: &SplitImages,
    evaluation: &Evaluation,
    temperature: f64,
    from_seeds: bool,
) -> Result<Vec<Canary>> {
    let mut order: Vec<usize> = (0..images.len()).collect();
    let sure = |index: &usize| {
        -log_probability(
            &evaluation.logits[*index],
            evaluation.labels[*index] as usize,
            temperature,
        )
    };
    order.sort_by(|a, b| sure(a).total_cmp(&sure(b)));
    let mut tried: Vec<(bool, f64, Canary)> = Vec::new();
    let side = CANARY_SIDE as u16;
    for (index, seed) in order.into_iter().cycle().take(CANARY_TRIALS).zip(0_u64..) {
        let seed = from_seeds.then_some(seed);
        let small = match seed {
            Some(seed) => RgbImage::from_raw(CANARY_SIDE, CANARY_SIDE, noise_image(seed, [side, side])),
            None => Some(shrink(&images.original(index)?)),
        };
        let Some(small) = small else { continue };
        let input = images.preprocessing().preprocess(&small);
        let logits = executor.reference_logits(network, input_images(&input, images))?;
        let class = argmax(&logits);
        let probability = log_probability(&logits, class, temperature).exp();
        let right = seed.is_some() || class == evaluation.labels[index] as usize;
        let size = [small.width() as u16, small.height() as u16];
        let canary = Canary {
            size,
            pixels: small.into_raw(),
            class: class as u32,
            probability: probability as f32,
            seed,
        };
        tried.push((right, probability, canary));
    }
    tried.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)));
    let mut chosen: Vec<Canary> = Vec::with_capacity(CANARIES);
    for distinct in [true, false] {
        for (_, _, canary) in &tried {
            let known = chosen.iter().any(|other| {
                if distinct {
                    other.class == canary.class
                } else {
                    other == canary
                }
            });
            if chosen.len() < CANARIES && !known {
                chosen.push(canary.clone());
            }
        }
    }
    Ok(chosen)
}

fn shrink(image: &RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    let factor = (f64::from(CANARY_SIDE) / f64::from(width.max(height))).min(1.0);
    let side = |side: u32| ((f64::from(side) * factor).round() as u32).clamp(1, CANARY_SIDE);
    image::imageops::resize(image, side(width), side(height), image::imageops::FilterType::Triangle)
}

/// Returns some images with their logits, for a comparison with another engine.
pub(super) fn parity(executor: &Executor, network: &Network, images: &SplitImages) -> Result<Vec<ParitySample>> {
    let count = PARITY_SAMPLES.min(images.len());
    (0..count)
        .map(|sample| {
            let image = images.image(sample * images.len() / count)?;
            let preprocessing = images.preprocessing();
            let mut input = vec![0.0; 3 * preprocessing.height as usize * preprocessing.width as usize];
            preprocessing.to_tensor(&image, &mut input);
            let logits = executor.reference_logits(network, input_images(&input, images))?;
            Ok(ParitySample { input, logits })
        })
        .collect()
}
