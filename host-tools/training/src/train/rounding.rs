//! Epochs with rounded values, for files whose values are multiples of steps.
//!
//! The trained sites become differences from the backbone's own norm. Each site gets a step from its importance, the
//! mean square of its gradients (an estimate of the Fisher information: the loss that an error of its values costs). In
//! the forward pass all values are rounded to their steps, gradients pass the rounding unchanged, and an L1 penalty moves
//! differences without a use to exactly zero, where they cost next to no bytes.

use std::time::Instant;

use clr_adapters::{
    Calibration, Canary, ClassFeatures, Digest, Encoding, Header, Metrics, SiteSteps, StepSize, Steps, encode,
    noise_image,
};
use clr_learning::{Adam, AdamOptions, LrSchedule, Network, PerGroup, smoothed_target};

use super::{
    CANARIES, CANARY_SIDE, Outcome,
    class_features::{MOST_CLASS_GROWTH, Measured},
    epoch::{Epoch, mean_cross_entropy},
    prepare::Prepared,
};
use crate::{
    CompactOptions, Record,
    batches::{Loading, for_each_batch, shuffled},
    error::{Result, TrainError},
    evaluate::input_images,
    network::Mode,
    observer::{Meter, Observer, Phase},
};

/// Number of training images from which importances are estimated.
const IMPORTANCE_IMAGES: usize = 256;
/// Largest factor between a site's step and the step of a site of mean importance, and its inverse.
const MOST_SPREAD: f64 = 4.0;
/// Quarters of an octave by which steps may grow until the file fits, a factor of 64.
const MOST_GROWTH: i8 = 24;

/// A network whose values are multiples of steps.
pub(super) struct Rounded {
    pub(super) network: Network,
    /// The steps for the header.
    pub(super) steps: Steps,
    /// The records of the epochs with rounded values.
    pub(super) history: Vec<Record>,
    /// The class features for the header.
    pub(super) class_features: Option<ClassFeatures>,
}

/// Steps of a network, all of which grow together.
#[derive(Clone)]
struct Grid {
    sites: Vec<SiteSteps>,
    head: StepSize,
}

impl Grid {
    fn larger(&self, quarters: i8) -> Self {
        let grow = |steps: &SiteSteps| SiteSteps {
            weights: steps.weights.larger(quarters),
            bias: steps.bias.larger(quarters),
        };
        Self {
            sites: self.sites.iter().map(grow).collect(),
            head: self.head.larger(quarters),
        }
    }
}

/// Drops the recipes whose file cannot have the number of bytes asked for, with a warning.
///
/// # Errors
/// [`TrainError::Bytes`] if no recipe's file can.
pub(super) fn small_enough(
    prepared: &Prepared<'_>,
    outcomes: Vec<Outcome>,
    header: &Header,
    observer: &mut dyn Observer,
) -> Result<Vec<Outcome>> {
    if prepared.options.compact.bytes.is_none() || outcomes.len() < 2 {
        return Ok(outcomes);
    }
    let (mut kept, mut refused) = (Vec::with_capacity(outcomes.len()), Vec::new());
    for outcome in outcomes {
        match round(prepared, &outcome, header, false, observer) {
            Ok(_) => kept.push(outcome),
            Err(error @ TrainError::Bytes { .. }) => refused.push(error),
            Err(error) => return Err(error),
        }
    }
    let mut refused = refused.into_iter();
    if kept.is_empty() {
        return refused.next().map_or(Ok(kept), Err);
    }
    for error in refused {
        let text = error.to_string();
        tracing::warn!("a recipe is left out: {}", text.lines().next().unwrap_or_default());
    }
    Ok(kept)
}

/// Rounds the trained network of `outcome`. `header` is that of the file, as far as it is known. Without `learn`, the
/// epochs with rounded values are left out.
pub(super) fn round(
    prepared: &Prepared<'_>,
    outcome: &Outcome,
    header: &Header,
    learn: bool,
    observer: &mut dyn Observer,
) -> Result<Rounded> {
    let start = Instant::now();
    let options = &prepared.options.compact;
    let mut network = outcome.network.clone();
    network.make_differences()?;
    let importance = if network.differences().next().is_some() {
        importance(prepared, &mut network)?
    } else {
        Vec::new()
    };
    let grid = grid(&network, &importance, options);
    let measure = |network: &Network| -> Result<Option<Measured>> {
        let images = (&prepared.train, &prepared.validation);
        let (seed, workers) = (prepared.options.seed, prepared.options.workers());
        options
            .class_features
            .then(|| Measured::new(&prepared.executor, network, images, seed, workers))
            .transpose()
    };
    let known = |measured: &Option<Measured>, quarters: i8| -> Result<Option<ClassFeatures>> {
        let growth = (f64::from(quarters) / 8.0).exp2().min(MOST_CLASS_GROWTH);
        let known = measured.as_ref().map(|measured| measured.class_features(growth));
        Ok(known.transpose()?.flatten())
    };
    let size = |network: &Network, quarters: i8, known: &Option<ClassFeatures>| -> Result<usize> {
        let (mut rounded, grid) = (network.clone(), grid.larger(quarters));
        rounded.round(&grid.sites, grid.head);
        let mut header = with_stand_ins(header.clone());
        header.steps = Some(steps(prepared, &grid));
        header.class_features.clone_from(known);
        Ok(encode(&rounded.to_adapter(header)?, Encoding::Compact)?.len())
    };
    let fits = |network: &Network, quarters: i8, known: &Option<ClassFeatures>| -> Result<bool> {
        let Some(bytes) = options.bytes else { return Ok(true) };
        let least = size(network, quarters, known)?;
        if least > bytes && quarters == MOST_GROWTH {
            let recipe = network.recipe();
            return Err(TrainError::Bytes { recipe, bytes, least });
        }
        Ok(least <= bytes)
    };
    let mut grown = 0;
    if options.bytes.is_some() {
        let measured = measure(&network)?;
        while !fits(&network, grown, &known(&measured, grown)?)? {
            grown += 1;
        }
    }
    let mut used = grid.larger(grown);
    network.round(&used.sites, used.head);
    let history = if learn && !importance.is_empty() {
        train(prepared, &mut network, outcome, start, observer)?
    } else {
        Vec::new()
    };
    // Training changes the size by a few per cent.
    loop {
        let class_features = known(&measure(&network)?, grown)?;
        if fits(&network, grown, &class_features)? {
            return Ok(Rounded {
                network,
                steps: steps(prepared, &used),
                class_features,
                history,
            });
        }
        grown += 1;
        used = grid.larger(grown);
        network.round(&used.sites, used.head);
    }
}

/// Returns the header with the longest values of the fields that are measured with the finished file.
fn with_stand_ins(mut header: Header) -> Header {
    header.metrics = Some(Metrics {
        accuracy: 1.0,
        quantised_accuracy: 1.0,
        validation_images: u32::MAX,
        training_images: u32::MAX,
        data: Digest([0; 32]),
        seed: u64::MAX,
        created: u64::MAX,
    });
    header.calibration = Some(Calibration {
        before: 1.0,
        after: 1.0,
    });
    let canary = Canary {
        size: [CANARY_SIDE as u16; 2],
        pixels: noise_image(0, [CANARY_SIDE as u16; 2]),
        seed: Some(0),
        class: 0,
        probability: 1.0,
    };
    header.canaries = vec![canary; CANARIES];
    header
}

/// Returns the header's steps.
fn steps(prepared: &Prepared<'_>, grid: &Grid) -> Steps {
    let profile = prepared.profile_steps();
    Steps {
        head: grid.head,
        profile_mean: profile[0],
        profile_factor: profile[1],
    }
}

fn grid(network: &Network, importance: &[[f64; 2]], options: &CompactOptions) -> Grid {
    // Geometric means, because importances span several orders of magnitude.
    let mean = |part: usize| {
        let logs = importance.iter().map(|parts| parts[part].max(1e-30).ln());
        (logs.sum::<f64>() / importance.len().max(1) as f64).exp()
    };
    let means = [mean(0), mean(1)];
    let step = |base: f64, part: usize, own: f64| {
        let ratio = (means[part] / own.max(1e-30)).powf(options.importance / 2.0);
        StepSize::at_most(base * ratio.clamp(1.0 / MOST_SPREAD, MOST_SPREAD))
    };
    let sites = importance.iter().map(|&[weights, bias]| SiteSteps {
        weights: step(options.weights, 0, weights),
        bias: step(options.bias, 1, bias),
    });
    Grid {
        sites: sites.collect(),
        head: network.head().step(options.head),
    }
}

/// Returns the mean square of the gradients of weights and bias at every site with differences.
fn importance(prepared: &Prepared<'_>, network: &mut Network) -> Result<Vec<[f64; 2]>> {
    let (options, schedule) = (prepared.options, &prepared.schedule);
    let mut order = shuffled(prepared.train.len(), options.seed, 0);
    order.truncate(IMPORTANCE_IMAGES);
    let loading = Loading {
        batch: schedule.batch,
        workers: options.workers(),
        augmentation: None,
        mirrored: false,
    };
    let sites = network.differences().count();
    let mut sums = vec![[0.0_f64; 2]; sites];
    let names = network.site_names();
    let places: Vec<Option<(usize, usize)>> = (network.parameters().iter())
        .map(|parameter| {
            let (site, part) = parameter.name.rsplit_once('.')?;
            let index = names.iter().position(|name| name == site)?;
            Some((index, usize::from(part == "bias")))
        })
        .collect();
    for_each_batch(&prepared.train, &order, loading, |batch| {
        let classes = network.classes();
        let targets = batch
            .labels
            .iter()
            .flat_map(|&label| smoothed_target(label as usize, classes, 0.0));
        let targets: Vec<f32> = targets.collect();
        let loss = mean_cross_entropy(&targets, classes);
        let x = input_images(&batch.input, &prepared.train);
        let output = (prepared.executor).forward_backward(network, x, Mode::Train, None, &loss)?;
        for (place, gradient) in places.iter().zip(&output.gradients) {
            if let (Some((site, part)), Some(gradient)) = (place, gradient) {
                let squares: f64 = gradient.iter().map(|&value| f64::from(value).powi(2)).sum();
                sums[*site][*part] += squares / gradient.len().max(1) as f64;
            }
        }
        Ok(())
    })?;
    Ok(sums)
}

fn train(
    prepared: &Prepared<'_>,
    network: &mut Network,
    outcome: &Outcome,
    start: Instant,
    observer: &mut dyn Observer,
) -> Result<Vec<Record>> {
    let (options, schedule) = (&prepared.options.compact, &prepared.schedule);
    let recipe = network.recipe();
    let adam_options = AdamOptions::new(schedule.rates)
        .with_relative(schedule.relative_rates)
        .with_l1(PerGroup {
            head: 0.0,
            norm: options.penalty,
            kernel: options.penalty,
        })
        .with_clip(schedule.clip)
        .with_beta2(schedule.beta2);
    let mut history = Vec::with_capacity(options.epochs);
    let mut adam = Adam::new(network.parameters(), adam_options, None);
    let decay = LrSchedule::Cosine {
        warmup: 0.2,
        min_factor: 0.0,
    };
    let first = outcome.history.last().map_or(0, |record| record.epoch);
    let steps = prepared.train.len().div_ceil(schedule.batch);
    let mut meter = Meter::new(Phase::Round(recipe), options.epochs * steps);
    for number in 1..=options.epochs {
        let position_before = first as f64;
        let pass = Epoch {
            recipe,
            number: first + number,
            mode: Mode::Train,
            factor: &|position| options.rate * decay.factor(position - position_before, options.epochs),
        };
        let totals = pass.run(prepared, network, &mut adam, None, &mut meter, observer)?;
        let validation = prepared.validate(network)?;
        let record = Record {
            recipe,
            epoch: first + number,
            epochs: first + options.epochs,
            train_loss: Some(totals.mean_loss()),
            train_accuracy: Some(totals.accuracy()),
            validation_loss: validation.loss,
            validation_accuracy: validation.accuracy,
            rate: schedule.rates.head * options.rate * decay.factor(number as f64, options.epochs),
            seconds: start.elapsed().as_secs_f64(),
            best: number == options.epochs,
        };
        observer.record(&record);
        history.push(record);
    }
    Ok(history)
}
