//! End of a run: folds and encodes the adapter, reads it back, evaluates it, and adds the metrics to the file.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clr_adapters::{Adapter, Canary, Encoding, Header, Metrics, Provenance, decode, encode, noise_image};
use clr_learning::{Flip, Network, argmax, log_probability};
use clr_onnx::{Preprocess as _, RgbImage};

use super::{
    CANARIES, CANARY_SIDE, Outcome, ParitySample, RecipeResult, Trained, choose::choose, prepare::Prepared,
    profile::TaskProfile, rounding,
};
use crate::{
    Evaluation,
    batches::SplitImages,
    data::Dataset,
    error::Result,
    evaluate::{evaluate_with, input_images},
    executor::Executor,
    observer::Observer,
};

/// Number of validation images that are tried as canaries.
const CANARY_TRIALS: usize = 24;
/// Number of validation images that are returned with their logits.
const PARITY_SAMPLES: usize = 4;

pub(super) fn finish(
    prepared: Prepared<'_>,
    dataset: &Dataset,
    outcomes: Vec<Outcome>,
    start: Instant,
    observer: &mut dyn Observer,
) -> Result<Trained> {
    let options = prepared.options;
    let workers = options.workers();
    let task = options.task.clone().unwrap_or_else(|| {
        let folder = dataset.root().canonicalize().ok();
        folder
            .and_then(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .unwrap_or_else(|| "task".to_owned())
    });
    // Backbone and recipe are set later, from the network.
    let mut header = Header::new(
        task,
        prepared.names.clone(),
        prepared.fingerprint,
        prepared.preprocessing.clone(),
        Provenance::HostTrained,
    );
    header.version = options.version;
    header.profile = prepared.profile.as_ref().map(TaskProfile::without_head);
    let mut outcomes = match options.encoding {
        Encoding::Compact => rounding::small_enough(&prepared, outcomes, &header, observer)?,
        _ => outcomes,
    };
    let chosen = choose(&outcomes);
    let mut candidates = Vec::with_capacity(outcomes.len());
    let mut files = Vec::with_capacity(outcomes.len());
    for (index, outcome) in outcomes.iter_mut().enumerate() {
        let for_file = if options.encoding == Encoding::Compact {
            let rounded = rounding::round(&prepared, outcome, &header, index == chosen, observer)?;
            outcome.history.extend(rounded.history);
            (rounded.network, Some(rounded.steps), rounded.class_features)
        } else {
            (outcome.network.clone(), None, None)
        };
        (header.steps, header.class_features) = (for_file.1, for_file.2.clone());
        let file = encode(&for_file.0.to_adapter(header.clone())?, options.encoding)?;
        files.push(for_file);
        candidates.push(RecipeResult {
            recipe: outcome.network.recipe(),
            accuracy: outcome.validation.accuracy,
            loss: outcome.validation.loss,
            bytes: file.len(),
            file,
            seconds: outcome.seconds,
            chosen: index == chosen,
        });
    }
    let history = outcomes
        .iter()
        .flat_map(|outcome| outcome.history.iter().cloned())
        .collect();
    let outcome = outcomes.swap_remove(chosen);
    drop(outcomes);

    // Metrics and canaries are computed with the file's quantised weights.
    let first = decode(&candidates[chosen].file)?.adapter;
    let network = prepared.base.sibling_from_adapter(&first)?;
    let executor = &prepared.executor;
    let mut measure =
        |images: &SplitImages| evaluate_with(executor, &network, images, &prepared.names, workers, observer);
    let quantised_validation = measure(&prepared.validation)?;
    header.metrics = Some(Metrics {
        accuracy: outcome.validation.accuracy,
        quantised_accuracy: quantised_validation.accuracy,
        validation_images: prepared.validation.len() as u32,
        training_images: prepared.train.len() as u32,
        data: prepared.train.digest(),
        seed: options.seed,
        created: options.created.unwrap_or_else(now),
    });
    let profile = prepared.profile.as_ref();
    header.profile = profile.and_then(|profile| profile.finished(&quantised_validation.logits));
    header.temperature = quantised_validation.temperature();
    header.calibration = Some(quantised_validation.calibration(header.temperature));
    let temperature = f64::from(header.temperature);
    header.canaries = canaries(
        executor,
        &network,
        &prepared.validation,
        &quantised_validation,
        temperature,
        options.encoding == Encoding::Compact,
    )?;
    let (in_file, steps, class_features) = files.swap_remove(chosen);
    (header.steps, header.class_features) = (steps, class_features);
    let bytes = encode(&in_file.to_adapter(header.clone())?, options.encoding)?;
    (header.steps, header.class_features) = (None, None);
    let adapter = outcome.network.to_adapter(header)?;
    adapter_check(&adapter)?;
    let quantised = decode(&bytes)?.adapter;
    let parity = parity(executor, &network, &prepared.validation)?;
    let test = match &prepared.test {
        Some(images) => Some(measure(images)?),
        None => None,
    };
    Ok(Trained {
        adapter,
        quantised,
        bytes,
        validation: outcome.validation,
        quantised_validation,
        test,
        history,
        candidates,
        parity,
        warnings: prepared.warnings,
        penalty: prepared.fitted.penalty,
        mirrored: prepared.schedule.augmentation.flip == Flip::On,
        seconds: start.elapsed().as_secs_f64(),
        peak_memory: crate::peak_memory(),
    })
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

/// Returns the canaries with the highest confidence, of different classes if possible: noise images in a compact file,
/// which stores only their seeds, and validation images in small size in other files.
fn canaries(
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
        let logits = executor.device_logits(network, input_images(&input, images))?;
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

fn parity(executor: &Executor, network: &Network, images: &SplitImages) -> Result<Vec<ParitySample>> {
    let count = PARITY_SAMPLES.min(images.len());
    (0..count)
        .map(|sample| {
            let image = images.image(sample * images.len() / count)?;
            let preprocessing = images.preprocessing();
            let mut input = vec![0.0; 3 * preprocessing.height as usize * preprocessing.width as usize];
            preprocessing.to_tensor(&image, &mut input);
            let logits = executor.device_logits(network, input_images(&input, images))?;
            Ok(ParitySample { input, logits })
        })
        .collect()
}

/// Validates a full-precision adapter by the rules for files.
fn adapter_check(adapter: &Adapter) -> Result<()> {
    adapter
        .validate()
        .map_err(|error| clr_adapters::EncodeError::from(error).into())
}
