//! Preparation shared by all recipes of a run: images, frozen features and the fitted head.

use std::time::Instant;

use clr_adapters::{Digest, Fit, Head, Preprocessing, Recipe, StepSize};
use clr_learning::{FittedHead, Flip, LabelledFeatures, Network, fit_head};
use clr_onnx::Backbone;

use super::{Outcome, profile::TaskProfile};
use crate::{
    Evaluation, Record, Warning,
    batches::SplitImages,
    data::{Dataset, Split, inspect},
    error::{Result, TrainError},
    evaluate::{evaluate_with, features},
    executor::Executor,
    observer::{Meter, Observer, Phase},
    options::{Schedule, TrainOptions},
};

/// Maximum number of images in the search for similar ones. Its time is quadratic; with this limit it takes a few
/// seconds at most.
const NEAR: usize = 10_000;

pub(super) struct Prepared<'a> {
    pub(super) options: &'a TrainOptions,
    /// The schedule from the options, with [`Flip::Auto`] resolved.
    pub(super) schedule: Schedule,
    pub(super) preprocessing: Preprocessing,
    pub(super) names: Vec<String>,
    pub(super) train: SplitImages,
    pub(super) validation: SplitImages,
    /// The test images, decoded at the start and evaluated only at the end.
    pub(super) test: Option<SplitImages>,
    pub(super) warnings: Vec<Warning>,
    pub(super) executor: Executor,
    /// The unmodified backbone with the fitted head.
    pub(super) base: Network,
    pub(super) fitted: FittedHead,
    pub(super) linear: Evaluation,
    /// Feature profile of the training images; `None` if there are too few.
    pub(super) profile: Option<TaskProfile>,
    /// Digest of everything that a resume file depends on, except the recipe.
    pub(super) fingerprint: Digest,
    pub(super) head_seconds: f64,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(
        backbone: &Backbone,
        dataset: &Dataset,
        options: &'a TrainOptions,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let mut preprocessing = backbone.preprocessing().clone();
        if let Some([height, width]) = options.resolution {
            (preprocessing.height, preprocessing.width) = (height, width);
        }
        if options.schedule.stretch {
            preprocessing.fit = Fit::Stretch;
        }
        // Checks that the graph runs at this size before any image is decoded.
        backbone.value_shapes(preprocessing.height as usize, preprocessing.width as usize)?;
        let names = dataset.classes().to_vec();
        let budget = options.image_cache_bytes;
        let train = SplitImages::load(dataset, Split::Train, &preprocessing, budget, observer)?;
        let validation = SplitImages::load(dataset, Split::Validation, &preprocessing, budget, observer)?;
        // Decoded here, so that errors are reported before training starts.
        let test = if options.test && dataset.has_test() {
            Some(SplitImages::load(
                dataset,
                Split::Test,
                &preprocessing,
                budget,
                observer,
            )?)
        } else {
            None
        };
        let mut warnings = dataset.warnings();
        let all = || [Some(&train), Some(&validation), test.as_ref()].into_iter().flatten();
        let skipped = all().flat_map(SplitImages::unreadable);
        warnings.extend(skipped.cloned().map(Warning::Unreadable));
        let properties: Vec<_> = all().flat_map(|images| images.properties().iter().cloned()).collect();
        warnings.extend(Warning::of_findings(inspect::findings(&properties, NEAR)));
        for warning in &warnings {
            observer.warning(warning);
        }
        if train.is_empty() || validation.is_empty() {
            let split = if train.is_empty() {
                Split::Train
            } else {
                Split::Validation
            };
            return Err(TrainError::NoSuchSplit {
                path: dataset.root().to_owned(),
                split: split.name(),
            });
        }

        let start = Instant::now();
        let executor = Executor::new(backbone, &options.device)?;
        let mut base = Network::new(backbone, Recipe::Linear, names.len(), options.seed)?;
        let (train_set, validation_set) = frozen_features(&executor, &base, (&train, &validation), options, observer)?;
        let sets = (&train_set, &validation_set);
        let profile = TaskProfile::learn(&base, (&train, &validation), sets, options, observer)?;
        let mut meter = Meter::new(Phase::Head, options.head.penalties.len());
        let fitted = fit_head(&train_set, &validation_set, names.len(), &options.head, |_| {
            meter.advance(1, observer);
        })?;
        base.set_head(&fitted.head)?;
        let classify = |features: &[Vec<f32>]| features.iter().map(|features| base.classify(features)).collect();
        let linear = Evaluation::from_logits(classify(&validation_set.features), validation.labels(), &names);
        let head_seconds = start.elapsed().as_secs_f64();

        let mut schedule = options.schedule.clone();
        if schedule.augmentation.flip == Flip::Auto {
            let mirrored = features(&executor, &base, &validation, options.workers(), true, |_| ())?;
            let mirrored = Evaluation::from_logits(classify(&mirrored), validation.labels(), &names);
            let safe = crate::uncertainty::as_good(&linear.hits(), &mirrored.hits());
            schedule.augmentation.flip = if safe { Flip::On } else { Flip::Off };
        }
        let fingerprint = fingerprint(backbone, options, &schedule, &preprocessing, [&train, &validation]);
        Ok(Self {
            options,
            schedule,
            preprocessing,
            names,
            train,
            validation,
            test,
            warnings,
            executor,
            base,
            fitted,
            linear,
            profile,
            fingerprint,
            head_seconds,
        })
    }

    /// Returns the steps of the profile's mean and factor in a compact file.
    pub(super) fn profile_steps(&self) -> [StepSize; 2] {
        self.profile.as_ref().map_or([StepSize(0); 2], |profile| profile.steps)
    }

    /// Measures a network on the validation images.
    pub(super) fn validate(&self, network: &Network) -> Result<Evaluation> {
        let workers = self.options.workers();
        evaluate_with(&self.executor, network, &self.validation, &self.names, workers, &mut ())
    }

    /// Returns the outcome of the head alone.
    pub(super) fn linear(&self, observer: &mut dyn Observer) -> Result<Outcome> {
        let mut network = self.base.sibling(Recipe::Linear, self.names.len(), self.options.seed);
        network.set_head(&self.fitted.head)?;
        let record = Record {
            recipe: Recipe::Linear,
            epoch: 0,
            epochs: 0,
            train_loss: None,
            train_accuracy: None,
            validation_loss: self.linear.loss,
            validation_accuracy: self.linear.accuracy,
            rate: 0.0,
            seconds: self.head_seconds,
            best: true,
        };
        observer.record(&record);
        Ok(Outcome {
            network,
            validation: self.linear.clone(),
            history: vec![record],
            seconds: self.head_seconds,
        })
    }

    /// Returns the head fitted to the features of a network whose statistics were changed.
    pub(super) fn refit(&self, network: &Network, observer: &mut dyn Observer) -> Result<Head> {
        let images = (&self.train, &self.validation);
        let (train, validation) = frozen_features(&self.executor, network, images, self.options, observer)?;
        Ok(fit_head(&train, &validation, self.names.len(), &self.options.head, |_| ())?.head)
    }
}

/// Returns the features of both splits by `network`.
pub(super) fn frozen_features(
    executor: &Executor,
    network: &Network,
    (train, validation): (&SplitImages, &SplitImages),
    options: &TrainOptions,
    observer: &mut dyn Observer,
) -> Result<(LabelledFeatures, LabelledFeatures)> {
    let mut meter = Meter::new(Phase::Features, train.len() + validation.len());
    let mut compute = |images: &SplitImages| -> Result<LabelledFeatures> {
        let progress = |n| meter.advance(n, observer);
        Ok(LabelledFeatures {
            features: features(executor, network, images, options.workers(), false, progress)?,
            labels: images.labels(),
        })
    };
    Ok((compute(train)?, compute(validation)?))
}

fn fingerprint(
    backbone: &Backbone,
    options: &TrainOptions,
    schedule: &Schedule,
    preprocessing: &Preprocessing,
    images: [&SplitImages; 2],
) -> Digest {
    // The `Debug` output of plain numbers and enums is stable within a version, and a new version must not resume an
    // old run.
    let text = format!(
        "{} {} {} {} {schedule:?} {:?} {} {} {preprocessing:?}",
        env!("CARGO_PKG_VERSION"),
        backbone.digest(),
        images[0].digest(),
        images[1].digest(),
        options.head,
        options.seed,
        options.first_site,
    );
    Digest::of(text.as_bytes())
}
