//! Joint training of sites and head.

use std::time::Instant;

use clr_adapters::Recipe;
use clr_learning::{
    Adam, AdamOptions, Ema, Network, Purpose, StepOutput, argmax, cross_entropy, smoothed_target, stream,
};
use rand::RngExt as _;

use super::{
    prepare::Prepared,
    resume_file::{ResumeFile, Resumed, State},
};
use crate::{
    Evaluation, Record,
    batches::{Loading, for_each_batch, prepare_batch, shuffled},
    error::{Result, TrainError},
    evaluate::{evaluate_with, input_images},
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
    let workers = options.workers();
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
    let executor = &prepared.executor;
    let measure = |network: &Network| {
        let (images, names) = (&prepared.validation, &prepared.names);
        evaluate_with(executor, network, images, names, workers, &mut ())
    };
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
        let validation = measure(&network)?;
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
        let mut totals = Totals::default();
        let mut step = 0;
        let order = shuffled(prepared.train.len(), options.seed, epoch as u64);
        let augmentation = Some((&schedule.augmentation, options.seed, epoch as u64));
        let loading = Loading {
            batch: schedule.batch,
            workers,
            augmentation,
            mirrored: false,
        };
        for_each_batch(&prepared.train, &order, loading, |batch| {
            // A single image has no batch statistics.
            if mode != Mode::Train && batch.labels.len() < 2 {
                return Ok(());
            }
            let address = (epoch * steps + step) as u64;
            let (n, classes) = (batch.labels.len(), network.classes());
            let labels = batch.labels.iter();
            let mut targets = labels
                .flat_map(|&label| smoothed_target(label as usize, classes, schedule.smoothing))
                .collect::<Vec<_>>();
            let mut input = batch.input;
            if schedule.mixup > 0.0 {
                let share = mixing_share(schedule.mixup, options.seed, address);
                (input, targets) = (mix(&input, n, share), mix(&targets, n, share));
            }
            let features = n * network.feature_count();
            let mask = (schedule.dropout > 0.0).then(|| drop_some(features, schedule.dropout, options.seed, address));
            let loss = |index: usize, logits: &[f32]| {
                let target = &targets[index * classes..(index + 1) * classes];
                let (loss, gradient) = cross_entropy(logits, target, 1.0);
                let share = 1.0 / n as f64;
                let gradient = gradient.into_iter().map(|value| (value * share) as f32);
                ((loss * share) as f32, gradient.collect())
            };
            let x = input_images(&input, &prepared.train);
            let output = executor.forward_backward(&mut network, x, mode, mask.as_deref(), &loss)?;
            totals.add(&output, &batch.labels);
            if !totals.loss.is_finite() {
                return Err(TrainError::Diverged { recipe, epoch });
            }
            let position = state.epoch as f64 + (step + 1) as f64 / steps as f64;
            network.set_values(adam.step(&output.gradients, schedule.rate.factor(position, epochs)))?;
            if let Some(average) = &mut average {
                average.update(adam.values(), adam.state().step);
            }
            step += 1;
            meter.advance(1, observer);
            Ok(())
        })?;

        let current = network.snapshot();
        if let Some(average) = &average {
            network.set_values(&average.values)?;
        }
        let validation = measure(&network)?;
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
    let validation = measure(&network)?;
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

#[derive(Default)]
struct Totals {
    loss: f64,
    hits: usize,
    images: usize,
}

impl Totals {
    fn add(&mut self, output: &StepOutput, labels: &[u32]) {
        self.loss += f64::from(output.loss) * labels.len() as f64;
        let hits = output.logits.iter().zip(labels);
        self.hits += hits.filter(|(row, label)| argmax(row) == **label as usize).count();
        self.images += labels.len();
    }

    fn mean_loss(&self) -> f32 {
        (self.loss / self.images.max(1) as f64) as f32
    }

    fn accuracy(&self) -> f32 {
        self.hits as f32 / self.images.max(1) as f32
    }
}

/// Returns the factors of an inverted dropout on `count` features.
fn drop_some(count: usize, share: f32, seed: u64, address: u64) -> Vec<f32> {
    let mut random = stream(seed, Purpose::Dropout, address, 0);
    let keep = 1.0 / (1.0 - share);
    (0..count)
        .map(|_| if random.random::<f32>() < share { 0.0 } else { keep })
        .collect()
}

/// Draws the weight of the first image of a pair, at least one half, from a Beta distribution (mixup, Zhang et al.
/// 2018).
fn mixing_share(alpha: f32, seed: u64, address: u64) -> f64 {
    let mut random = stream(seed, Purpose::Mix, address, 0);
    // Jöhnk's method. The larger of the two weights is the first image's.
    loop {
        let [u, v] = [random.random::<f32>(), random.random()].map(|value: f32| value.powf(1.0 / alpha));
        if u + v > 0.0 && u + v <= 1.0 {
            return f64::from((u / (u + v)).max(v / (u + v)));
        }
    }
}

/// Mixes each of `count` rows with the row at the mirrored index in the batch.
fn mix(rows: &[f32], count: usize, share: f64) -> Vec<f32> {
    let length = (rows.len() / count.max(1)).max(1);
    let pairs = rows.chunks_exact(length).zip(rows.chunks_exact(length).rev());
    let (first, second) = (share as f32, (1.0 - share) as f32);
    pairs
        .flat_map(|(row, other)| row.iter().zip(other).map(move |(a, b)| first * a + second * b))
        .collect()
}
