//! One pass over the training images.

use clr_adapters::Recipe;
use clr_learning::{Adam, Ema, LossFn, Network, Purpose, StepOutput, argmax, cross_entropy, smoothed_target, stream};
use rand::RngExt as _;

use super::prepare::Prepared;
use crate::{
    batches::{Loading, for_each_batch, shuffled},
    error::{Result, TrainError},
    evaluate::input_images,
    network::Mode,
    observer::{Meter, Observer},
};

/// Which epoch it is, and how it updates the network.
pub(super) struct Epoch<'a, F> {
    pub(super) recipe: Recipe,
    /// Number of the epoch, from 1.
    pub(super) number: usize,
    pub(super) mode: Mode,
    /// Returns the factor on the learning rates at a position, in epochs since the start.
    pub(super) factor: &'a F,
}

impl<F: Fn(f64) -> f64> Epoch<'_, F> {
    /// Trains `network` on all training images, in an order that depends on the seed and the epoch.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] if the loss is not finite; another [`TrainError`] if an image or the network fails.
    pub(super) fn run(
        &self,
        prepared: &Prepared<'_>,
        network: &mut Network,
        adam: &mut Adam,
        mut average: Option<&mut Ema>,
        meter: &mut Meter,
        observer: &mut dyn Observer,
    ) -> Result<Totals> {
        let (options, schedule) = (prepared.options, &prepared.schedule);
        let steps = prepared.train.len().div_ceil(schedule.batch);
        let mut totals = Totals::default();
        let mut step = 0;
        let order = shuffled(prepared.train.len(), options.seed, self.number as u64);
        let loading = Loading {
            batch: schedule.batch,
            workers: options.workers(),
            augmentation: Some((&schedule.augmentation, options.seed, self.number as u64)),
            mirrored: false,
        };
        for_each_batch(&prepared.train, &order, loading, |batch| {
            // A single image has no batch statistics.
            if self.mode != Mode::Train && batch.labels.len() < 2 {
                return Ok(());
            }
            let address = (self.number * steps + step) as u64;
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
            let loss = mean_cross_entropy(&targets, classes);
            let x = input_images(&input, &prepared.train);
            let output = (prepared.executor).forward_backward(network, x, self.mode, mask.as_deref(), &loss)?;
            totals.add(&output, &batch.labels);
            if !totals.loss.is_finite() {
                let (recipe, epoch) = (self.recipe, self.number);
                return Err(TrainError::Diverged { recipe, epoch });
            }
            let position = (self.number - 1) as f64 + (step + 1) as f64 / steps as f64;
            network.set_values(adam.step(&output.gradients, (self.factor)(position)))?;
            if let Some(average) = &mut average {
                average.update(adam.values(), adam.state().step);
            }
            step += 1;
            meter.advance(1, observer);
            Ok(())
        })?;
        Ok(totals)
    }
}

/// Returns the loss of a batch with these targets `[N, K]`: the mean cross-entropy, as a share of each image.
pub(super) fn mean_cross_entropy(targets: &[f32], classes: usize) -> impl LossFn + '_ {
    let share = classes as f64 / targets.len() as f64;
    move |index: usize, logits: &[f32]| {
        let target = &targets[index * classes..(index + 1) * classes];
        let (loss, gradient) = cross_entropy(logits, target, 1.0);
        let gradient = gradient.into_iter().map(|value| (value * share) as f32);
        ((loss * share) as f32, gradient.collect())
    }
}

/// Sums over the images of an epoch.
#[derive(Default)]
pub(super) struct Totals {
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

    pub(super) fn mean_loss(&self) -> f32 {
        (self.loss / self.images.max(1) as f64) as f32
    }

    pub(super) fn accuracy(&self) -> f32 {
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
