//! Joint training of sites and head.

use std::time::Instant;

use clr_adapters::Recipe;
use clr_learning::{Adam, AdamOptions, Ema, Network};

use super::{
    epoch::Epoch,
    prepare::Prepared,
    resume_file::{ResumeFile, Resumed, State},
};
use crate::{
    Evaluation, Record,
    batches::{Loading, prepare_batch, shuffled},
    error::{Result, TrainError},
    evaluate::input_images,
    network::Mode,
    observer::{Meter, Observer, Phase},
    options::{EpochSelection, NormStatistics},
    uncertainty::standard_error,
};

/// A trained recipe at the selected epoch.
pub(super) struct Outcome {
    pub(super) network: Network,
    pub(super) validation: Evaluation,
    pub(super) history: Vec<Record>,
    pub(super) seconds: f64,
}

/// Trains `recipe` from the prepared head, or resumes from its resume file.
pub(super) fn joint(prepared: &Prepared<'_>, recipe: Recipe, observer: &mut dyn Observer) -> Result<Outcome> {
    let start = Instant::now();
    let (options, schedule) = (prepared.options, &prepared.schedule);
    let mut network = prepared.base.sibling(recipe, prepared.names.len(), options.seed);
    network.begin_at(options.first_site);
    let size = [prepared.preprocessing.height, prepared.preprocessing.width].map(|side| side as usize);
    prepared.executor.freeze_untrainable(&mut network, size)?;
    let mode = match schedule.statistics {
        NormStatistics::Fixed { .. } => Mode::Train,
        NormStatistics::Batch { momentum } => Mode::TrainOnBatch { momentum },
    };
    let resume_file = ResumeFile::new(options.resume.as_deref(), recipe, prepared.fingerprint);
    let resumed = resume_file.load()?;
    if resumed.is_none() {
        if let NormStatistics::Fixed { blend } = schedule.statistics
            && blend > 0.0
        {
            move_statistics(prepared, &mut network, blend)?;
            if schedule.head_first {
                let head = prepared.refit(&network, observer)?;
                network.set_head(&head)?;
            }
        } else if schedule.head_first {
            network.set_head(&prepared.fitted.head)?;
        }
    }
    let adam_options = AdamOptions::new(schedule.rates)
        .with_decay(schedule.decay)
        .with_relative(schedule.relative_rates)
        .with_l2_norm(schedule.l2_norm)
        .with_clip(schedule.clip)
        .with_beta2(schedule.beta2);
    let epochs = schedule.epochs;
    let steps = prepared.train.len().div_ceil(schedule.batch);
    let mut meter = Meter::new(Phase::Train(recipe), epochs * steps);
    let (mut adam, mut average, mut state);
    if let Some(resumed) = resumed {
        let Resumed {
            adam: moments,
            average: averaged,
            state: saved,
        } = resumed;
        network.restore(&saved.current)?;
        adam = Adam::new(network.parameters(), adam_options, Some(moments));
        average = schedule.average.map(|decay| Ema::new(averaged, decay));
        state = saved;
        meter.skip(state.epoch * steps);
        state.history.iter().for_each(|record| observer.record(record));
    } else {
        adam = Adam::new(network.parameters(), adam_options, None);
        average = schedule.average.map(|decay| Ema::new(adam.values().to_vec(), decay));
        let validation = prepared.validate(&network)?;
        let record = Record {
            recipe,
            epoch: 0,
            epochs,
            train_loss: None,
            train_accuracy: None,
            validation_loss: validation.loss,
            validation_accuracy: validation.accuracy,
            rate: 0.0,
            seconds: start.elapsed().as_secs_f64(),
            best: true,
        };
        observer.record(&record);
        let current = network.snapshot();
        state = State {
            epoch: 0,
            stale: 0,
            best_score: score(&validation),
            best: current.clone(),
            current,
            history: vec![record],
        };
    }

    let patience = schedule.patience.filter(|_| schedule.keep == EpochSelection::Best);
    while state.epoch < epochs && patience.is_none_or(|patience| state.stale <= patience) {
        let epoch = state.epoch + 1;
        let pass = Epoch {
            recipe,
            number: epoch,
            mode,
            factor: &|position| schedule.rate.factor(position, epochs),
        };
        let totals = pass.run(
            prepared,
            &mut network,
            &mut adam,
            average.as_mut(),
            &mut meter,
            observer,
        )?;

        let current = network.snapshot();
        if let Some(average) = &average {
            network.set_values(&average.values)?;
        }
        let validation = prepared.validate(&network)?;
        let better = match schedule.keep {
            EpochSelection::Best => score(&validation) > state.best_score,
            EpochSelection::Last => epoch == epochs && no_worse(state.history[0].validation_accuracy, &validation),
        };
        if better {
            state.best = network.snapshot();
            state.best_score = score(&validation);
            state.stale = 0;
        } else {
            state.stale += 1;
        }
        network.set_values(adam.values())?;
        let record = Record {
            recipe,
            epoch,
            epochs,
            train_loss: Some(totals.mean_loss()),
            train_accuracy: Some(totals.accuracy()),
            validation_loss: validation.loss,
            validation_accuracy: validation.accuracy,
            rate: schedule.rates.head * schedule.rate.factor(epoch as f64, epochs),
            seconds: start.elapsed().as_secs_f64(),
            best: better,
        };
        observer.record(&record);
        state.history.push(record);
        state.epoch = epoch;
        state.current = current;
        resume_file.save(
            &state,
            adam.state(),
            average.as_ref().map(|average| average.values.as_slice()),
        )?;
        if observer.should_stop() {
            return Err(TrainError::Stopped);
        }
    }
    network.restore(&state.best)?;
    let validation = prepared.validate(&network)?;
    Ok(Outcome {
        network,
        validation,
        history: state.history,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Returns whether the accuracy is at most two standard errors below that at the `start`.
fn no_worse(start: f32, last: &Evaluation) -> bool {
    last.accuracy >= start - 2.0 * standard_error(start, last.images)
}

/// Returns a score that orders evaluations by accuracy and then by lower loss.
fn score(evaluation: &Evaluation) -> (f32, f32) {
    (evaluation.accuracy, -evaluation.loss)
}

fn move_statistics(prepared: &Prepared<'_>, network: &mut Network, blend: f32) -> Result<()> {
    // The order is shuffled, because statistics are taken per batch and each batch should contain all classes.
    let order = shuffled(prepared.train.len(), prepared.options.seed, 0);
    let loading = Loading {
        batch: 64,
        workers: 0,
        augmentation: None,
        mirrored: false,
    };
    // One batch at a time, because all of them together may exceed the memory.
    let batches = order
        .chunks(loading.batch)
        .map(|chunk| Ok(prepare_batch(&prepared.train, chunk, loading)?.input));
    let size = input_images(&[], &prepared.train).size;
    prepared.executor.estimate_statistics(network, batches, size, blend)
}
