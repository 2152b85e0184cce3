//! End of a run: folds and encodes the adapter, reads it back, evaluates it, and adds the metrics to the file.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clr_adapters::{Adapter, Encoding, Header, Metrics, Provenance, decode, encode};
use clr_learning::Flip;

use super::{
    Outcome, RecipeResult, Trained,
    canaries::{canaries, parity},
    choose::choose,
    prepare::Prepared,
    profile::TaskProfile,
    rounding,
};
use crate::{batches::SplitImages, data::Dataset, error::Result, evaluate::evaluate_with, observer::Observer};

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

pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

/// Validates a full-precision adapter by the rules for files.
fn adapter_check(adapter: &Adapter) -> Result<()> {
    adapter
        .validate()
        .map_err(|error| clr_adapters::EncodeError::from(error).into())
}
