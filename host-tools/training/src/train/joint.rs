//! Training sites and head together.

use std::{ops::Range, time::Instant};

use candle_core::{Device, Tensor};
use clr_adapters::Recipe;
use rand::RngExt as _;

use super::{
    checkpoint::{Checkpoint, Resumed, State},
    prepare::Prepared,
};
use crate::{
    Evaluation, Record,
    data::{Loading, for_each_batch, prepare_batch, shuffled},
    error::{Result, TrainError},
    evaluate::{argmax, cross_entropy, evaluate, input, targets},
    network::{Learned, Mode, Network},
    observer::{Meter, Observer, Phase},
    optimise::{Adam, AdamOptions, Average},
    options::{Keep, Statistics},
    random::{Purpose, stream},
    uncertainty::standard_error,
};

/// A trained recipe, at its best epoch.
pub(super) struct Outcome {
    pub(super) network: Network,
    pub(super) validation: Evaluation,
    pub(super) history: Vec<Record>,
    pub(super) seconds: f64,
}

/// Trains `recipe` from the prepared head, or goes on from its resume file.
pub(super) fn joint(prepared: &Prepared<'_>, recipe: Recipe, observer: &mut dyn Observer) -> Result<Outcome> {
    let start = Instant::now();
    let (options, schedule) = (prepared.options, &prepared.schedule);
    let workers = options.workers();
    let mut network = prepared.base.sibling(recipe, prepared.names.len(), options.seed)?;
    let mode = match schedule.statistics {
        Statistics::Fixed { .. } => Mode::Train,
        Statistics::Batch { momentum } => Mode::TrainOnBatch { momentum },
    };
    let checkpoint = Checkpoint::new(options.resume.as_deref(), recipe, prepared.fingerprint);
    let resumed = checkpoint.load()?;
    if resumed.is_none() {
        if let Statistics::Fixed { blend } = schedule.statistics
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
    let measure = |network: &Network| evaluate(network, &prepared.validation, &prepared.names, workers, &mut ());
    let adam_options = AdamOptions {
        rates: schedule.rates,
        decay: schedule.decay,
        relative: schedule.relative_rates,
        l2_norm: schedule.l2_norm,
        clip: schedule.clip,
        beta2: schedule.beta2,
    };
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
        adam = Adam::new(network.parameters()?, adam_options, Some(moments))?;
        average = schedule.average.map(|decay| Average::new(averaged, decay));
        state = saved;
        meter.skip(state.epoch * steps);
        state.history.iter().for_each(|record| observer.record(record));
    } else {
        adam = Adam::new(network.parameters()?, adam_options, None)?;
        average = schedule
            .average
            .map(|decay| Average::new(adam.values().to_vec(), decay));
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
        let current = network.snapshot()?;
        state = State {
            epoch: 0,
            stale: 0,
            best_score: score(&validation),
            best: current.clone(),
            current,
            history: vec![record],
        };
    }

    let patience = schedule.patience.filter(|_| schedule.keep == Keep::Best);
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
            // Batch statistics of a single picture are no statistics.
            if mode != Mode::Train && batch.labels.len() < 2 {
                return Ok(());
            }
            let address = (epoch * steps + step) as u64;
            let mut x = input(network.device(), &prepared.train, &batch)?;
            let device = &network.device().clone();
            let mut targets = targets(&batch.labels, network.classes(), schedule.smoothing, device)?;
            if schedule.mixup > 0.0 {
                (x, targets) = mix(&x, &targets, schedule.mixup, options.seed, address)?;
            }
            let n = batch.labels.len();
            let mask = (schedule.dropout > 0.0)
                .then(|| {
                    drop_some(
                        (n, network.feature_count()),
                        schedule.dropout,
                        options.seed,
                        address,
                        device,
                    )
                })
                .transpose()?;
            let learned = network.learn(
                &x,
                mode,
                &|network: &Network, range: Range<usize>, features: &Tensor| {
                    let part = |tensor: &Tensor| tensor.narrow(0, range.start, range.len());
                    let features = match &mask {
                        Some(mask) => (features * part(mask)?)?,
                        None => features.clone(),
                    };
                    let logits = network.classify(&features, true)?;
                    let share = range.len() as f64 / n as f64;
                    let loss = (cross_entropy(&logits, &part(&targets)?)? * share)?;
                    Ok((logits, loss))
                },
            )?;
            totals.add(&learned, &batch.labels);
            if !totals.loss.is_finite() {
                return Err(TrainError::Diverged { recipe, epoch });
            }
            let position = state.epoch as f64 + (step + 1) as f64 / steps as f64;
            adam.step(&learned.gradients, schedule.rate.factor(position, epochs))?;
            if let Some(average) = &mut average {
                average.update(adam.values(), adam.state().step);
            }
            step += 1;
            meter.advance(1, observer);
            Ok(())
        })?;

        let current = network.snapshot()?;
        if let Some(average) = &average {
            adam.show(&average.values)?;
        }
        let validation = measure(&network)?;
        let better = match schedule.keep {
            Keep::Best => score(&validation) > state.best_score,
            Keep::Last => epoch == epochs && no_worse(state.history[0].validation_accuracy, &validation),
        };
        if better {
            state.best = network.snapshot()?;
            state.best_score = score(&validation);
            state.stale = 0;
        } else {
            state.stale += 1;
        }
        adam.show(adam.values())?;
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
        checkpoint.save(
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

/// Whether a result is within two standard errors of the accuracy at the `start`: below, training has clearly done harm.
fn no_worse(start: f32, last: &Evaluation) -> bool {
    last.accuracy >= start - 2.0 * standard_error(start, last.pictures)
}

/// Accuracy first, then the lower loss.
fn score(evaluation: &Evaluation) -> (f32, f32) {
    (evaluation.accuracy, -evaluation.loss)
}

fn move_statistics(prepared: &Prepared<'_>, network: &mut Network, blend: f32) -> Result<()> {
    // All pictures of a batch are looked at together; the order is shuffled so that batches mix the classes.
    let order = shuffled(prepared.train.len(), prepared.options.seed, 0);
    let loading = Loading {
        batch: 64,
        workers: 0,
        augmentation: None,
        mirrored: false,
    };
    let device = network.device().clone();
    // One batch at a time: all of them together could be larger than the memory.
    let batches = order.chunks(loading.batch).map(|chunk| {
        let batch = prepare_batch(&prepared.train, chunk, loading)?;
        input(&device, &prepared.train, &batch)
    });
    network.estimate_statistics(batches, blend)
}

#[derive(Default)]
struct Totals {
    loss: f64,
    hits: usize,
    pictures: usize,
}

impl Totals {
    fn add(&mut self, learned: &Learned, labels: &[u32]) {
        self.loss += f64::from(learned.loss) * labels.len() as f64;
        let hits = learned.logits.iter().zip(labels);
        self.hits += hits.filter(|(row, label)| argmax(row) == **label as usize).count();
        self.pictures += labels.len();
    }

    fn mean_loss(&self) -> f32 {
        (self.loss / self.pictures.max(1) as f64) as f32
    }

    fn accuracy(&self) -> f32 {
        self.hits as f32 / self.pictures.max(1) as f32
    }
}

/// Factors of an inverted dropout on features of `shape` `[N, F]`.
fn drop_some(shape: (usize, usize), share: f32, seed: u64, address: u64, device: &Device) -> Result<Tensor> {
    let mut random = stream(seed, Purpose::Dropout, address, 0);
    let keep = 1.0 / (1.0 - share);
    let mask: Vec<f32> = (0..shape.0 * shape.1)
        .map(|_| if random.random::<f32>() < share { 0.0 } else { keep })
        .collect();
    Ok(Tensor::from_vec(mask, shape, device)?)
}

/// Mixes each picture with the one at the mirrored place of the batch, all in one proportion; targets likewise.
fn mix(x: &Tensor, targets: &Tensor, alpha: f32, seed: u64, address: u64) -> Result<(Tensor, Tensor)> {
    let mut random = stream(seed, Purpose::Mix, address, 0);
    // Jöhnk's method for the Beta distribution, the share of the first picture taken as the larger one.
    let share = loop {
        let [u, v] = [random.random::<f32>(), random.random()].map(|value: f32| value.powf(1.0 / alpha));
        if u + v > 0.0 && u + v <= 1.0 {
            break f64::from((u / (u + v)).max(v / (u + v)));
        }
    };
    let n = x.dim(0)? as u32;
    let others = Tensor::from_iter((0..n).rev(), x.device())?;
    let mixed = |tensor: &Tensor| (tensor * share)? + (tensor.index_select(&others, 0)? * (1.0 - share))?;
    Ok((mixed(x)?, mixed(targets)?))
}
