//! Conversion of an adapter to a quantised backbone: new values of the sites, and everything in the header that was measured.

use clr_adapters::{Adapter, ClassFeatures, Decoded, Encoding, Metrics, Recipe, StepSize, Steps, decode, encode};
use clr_learning::{LabelledFeatures, Network};
use clr_onnx::{Backbone, convert_adapter};

use super::{
    ParitySample,
    canaries::{canaries, parity},
    class_features::{MOST_CLASS_GROWTH, Measured},
    conversion_loss::ConversionLoss,
    finish::now,
    profile::TaskProfile,
};
use crate::{
    Evaluation,
    batches::SplitImages,
    data::{Dataset, Split},
    error::Result,
    evaluate::{evaluate_with, features},
    executor::Executor,
    observer::{Meter, Observer, Phase},
    options::TrainOptions,
};

/// Bytes of decoded images that are kept.
const IMAGE_CACHE: usize = 2 << 30;

/// A converted adapter.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The adapter decoded from `bytes`.
    pub adapter: Adapter,
    /// The adapter file, without a signature, in the encoding of the parent.
    pub bytes: Vec<u8>,
    /// Loss on the validation split.
    pub validation: ConversionLoss,
    /// Loss on the test split, if there is one.
    pub test: Option<ConversionLoss>,
    /// Some validation images with their logits, for a comparison with another engine.
    pub parity: Vec<ParitySample>,
}

/// Converts `parent`, an adapter of `float`, to `quantised`, which was made from `float`. Temperature, metrics, canaries,
/// feature profile and class features are measured on the quantised backbone, with the images of `dataset`. The version is
/// the parent's plus one. `threads` defaults to all CPU cores.
///
/// # Errors
/// [`TrainError::Conversion`](crate::TrainError::Conversion) if the adapter or the backbones do not belong together;
/// [`TrainError::Mismatch`](crate::TrainError::Mismatch) if the data have other classes; another
/// [`TrainError`](crate::TrainError) if the data, the network or a file fails.
pub fn convert(
    float: &Backbone,
    quantised: &Backbone,
    parent: &Decoded,
    dataset: &Dataset,
    threads: Option<usize>,
    observer: &mut dyn Observer,
) -> Result<Converted> {
    let converted = convert_adapter(float, quantised, &parent.adapter).map_err(Box::new)?;
    let dataset = dataset.with_classes(&parent.adapter.header.labels)?;
    let options = TrainOptions::default()
        .with_threads(threads)
        .with_encoding(parent.encoding);
    crate::with_threads(options.threads(), || {
        let run = Run {
            float,
            quantised,
            parent,
            workers: options.workers(),
            executor: Executor::new(quantised, &options.device)?,
            train: load(&dataset, Split::Train, parent, observer)?,
            validation: load(&dataset, Split::Validation, parent, observer)?,
        };
        run.run(converted, &dataset, &options, observer)
    })
}

/// Measures what the conversion of `parent` from `float` to `quantised` changes on the validation split of `dataset`.
///
/// # Errors
/// As [`convert`].
pub fn conversion_loss(
    float: &Backbone,
    quantised: &Backbone,
    parent: &Decoded,
    dataset: &Dataset,
    threads: Option<usize>,
    observer: &mut dyn Observer,
) -> Result<ConversionLoss> {
    let converted = convert_adapter(float, quantised, &parent.adapter).map_err(Box::new)?;
    let converted = decode(&encode(&converted, parent.encoding)?)?.adapter;
    let labels = &parent.adapter.header.labels;
    let dataset = dataset.with_classes(labels)?;
    let options = TrainOptions::default().with_threads(threads);
    crate::with_threads(options.threads(), || {
        let images = load(&dataset, Split::Validation, parent, observer)?;
        let mut evaluate = |backbone: &Backbone, adapter: &Adapter| -> Result<Evaluation> {
            let network = Network::from_adapter(backbone, adapter)?;
            let executor = Executor::new(backbone, &options.device)?;
            evaluate_with(&executor, &network, &images, labels, options.workers(), observer)
        };
        let before = evaluate(float, &parent.adapter)?;
        Ok(ConversionLoss::new(&before, &evaluate(quantised, &converted)?))
    })
}

fn load(dataset: &Dataset, split: Split, parent: &Decoded, observer: &mut dyn Observer) -> Result<SplitImages> {
    SplitImages::load(
        dataset,
        split,
        &parent.adapter.header.preprocessing,
        IMAGE_CACHE,
        observer,
    )
}

/// A conversion in progress.
struct Run<'a> {
    float: &'a Backbone,
    quantised: &'a Backbone,
    parent: &'a Decoded,
    workers: usize,
    /// Of the quantised backbone.
    executor: Executor,
    train: SplitImages,
    validation: SplitImages,
}

impl Run<'_> {
    fn run(
        &self,
        mut adapter: Adapter,
        dataset: &Dataset,
        options: &TrainOptions,
        observer: &mut dyn Observer,
    ) -> Result<Converted> {
        let given = &self.parent.adapter.header;
        let profile = match &given.profile {
            Some(_) => self.profile(options, observer)?,
            None => None,
        };
        adapter.header.profile = profile.as_ref().map(TaskProfile::without_head);
        adapter.header.steps = given.steps.map(|steps| {
            let [profile_mean, profile_factor] = profile.as_ref().map_or([StepSize(0); 2], |profile| profile.steps);
            Steps {
                profile_mean,
                profile_factor,
                ..steps
            }
        });
        // Measured with the values of the file.
        adapter.header.class_features = None;
        let network = Network::from_adapter(
            self.quantised,
            &decode(&encode(&adapter, self.parent.encoding)?)?.adapter,
        )?;
        if let Some(class_features) = &given.class_features {
            adapter.header.class_features = self.class_features(&network, class_features)?;
        }
        let parent = Network::from_adapter(self.float, &self.parent.adapter)?;
        let reference = Executor::new(self.float, &options.device)?;
        let mut evaluate = |images: &SplitImages| -> Result<[Evaluation; 2]> {
            let (names, workers) = (&given.labels[..], self.workers);
            Ok([
                evaluate_with(&reference, &parent, images, names, workers, observer)?,
                evaluate_with(&self.executor, &network, images, names, workers, observer)?,
            ])
        };
        let [before, after] = evaluate(&self.validation)?;
        let header = &mut adapter.header;
        header.profile = profile.and_then(|profile| profile.finished(&after.logits));
        header.version = header.version.saturating_add(1);
        header.revision = 0;
        header.parent = Some(self.parent.digest);
        header.metrics = Some(self.metrics(&before, &after));
        header.temperature = after.temperature();
        header.calibration = Some(after.calibration(header.temperature));
        header.canaries = canaries(
            &self.executor,
            &network,
            &self.validation,
            &after,
            f64::from(header.temperature),
            self.parent.encoding == Encoding::Compact,
        )?;
        let bytes = encode(&adapter, self.parent.encoding)?;
        let test = if dataset.has_test() {
            let [before, after] = evaluate(&load(dataset, Split::Test, self.parent, &mut ())?)?;
            Some(ConversionLoss::new(&before, &after))
        } else {
            None
        };
        Ok(Converted {
            adapter: decode(&bytes)?.adapter,
            bytes,
            validation: ConversionLoss::new(&before, &after),
            test,
            parity: parity(&self.executor, &network, &self.validation)?,
        })
    }

    /// Returns the profile of the training images in the features of the quantised backbone.
    fn profile(&self, options: &TrainOptions, observer: &mut dyn Observer) -> Result<Option<TaskProfile>> {
        let base = Network::new(self.quantised, Recipe::Linear, self.parent.adapter.head.classes(), 0)?;
        let mut meter = Meter::new(Phase::Features, self.train.len() + self.validation.len());
        let mut of = |images: &SplitImages| -> Result<LabelledFeatures> {
            let progress = |n| meter.advance(n, observer);
            Ok(LabelledFeatures {
                features: features(&self.executor, &base, images, self.workers, false, progress)?,
                labels: images.labels(),
            })
        };
        let sets = (of(&self.train)?, of(&self.validation)?);
        let images = (&self.train, &self.validation);
        TaskProfile::learn(&base, images, (&sets.0, &sets.1), options, observer)
    }

    /// Returns class features with steps of about the size of the parent's.
    fn class_features(&self, network: &Network, parent: &ClassFeatures) -> Result<Option<ClassFeatures>> {
        let seed = self
            .parent
            .adapter
            .header
            .metrics
            .as_ref()
            .map_or(0, |metrics| metrics.seed);
        let images = (&self.train, &self.validation);
        let measured = Measured::new(&self.executor, network, images, seed, self.workers)?;
        let usual = measured.class_features(1.0)?;
        let growth = usual
            .as_ref()
            .map_or(1.0, |usual| parent.deviation_step.size() / usual.deviation_step.size());
        // Steps of one file differ from another's by up to a quarter of an octave without a reason.
        if growth < 1.25 {
            return Ok(usual);
        }
        measured.class_features(growth.min(MOST_CLASS_GROWTH))
    }

    fn metrics(&self, before: &Evaluation, after: &Evaluation) -> Metrics {
        let given = self.parent.adapter.header.metrics.as_ref();
        Metrics {
            accuracy: before.accuracy,
            quantised_accuracy: after.accuracy,
            validation_images: self.validation.len() as u32,
            training_images: given.map_or(self.train.len() as u32, |metrics| metrics.training_images),
            data: given.map_or_else(|| self.train.digest(), |metrics| metrics.data),
            seed: given.map_or(0, |metrics| metrics.seed),
            created: now(),
        }
    }
}
