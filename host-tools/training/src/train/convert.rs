//! Conversion of an adapter to a quantised backbone: new values of the sites, and everything in the header that was measured.

use clr_adapters::{Adapter, ClassFeatures, Decoded, Encoding, Metrics, Recipe, StepSize, Steps, decode, encode};
use clr_learning::Network;
use clr_onnx::{Backbone, convert_adapter};

use super::{
    ParitySample,
    canaries::{canaries, parity},
    class_features::{MOST_CLASS_GROWTH, Measured},
    conversion_loss::ConversionLoss,
    finish::now,
    prepare::frozen_features,
    profile::TaskProfile,
};
use crate::{
    Evaluation,
    batches::SplitImages,
    data::{Dataset, Split},
    error::Result,
    evaluate::evaluate_with,
    executor::Executor,
    observer::Observer,
    options::TrainOptions,
};

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
            parent,
            pair: Pair::new(float, quantised, parent, &converted, &options)?,
            train: load(&dataset, Split::Train, parent, &options, observer)?,
            validation: load(&dataset, Split::Validation, parent, &options, observer)?,
            options: &options,
        };
        run.run(converted, &dataset, observer)
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
    let labels = &parent.adapter.header.labels;
    let dataset = dataset.with_classes(labels)?;
    let options = TrainOptions::default().with_threads(threads);
    crate::with_threads(options.threads(), || {
        let images = load(&dataset, Split::Validation, parent, &options, observer)?;
        let pair = Pair::new(float, quantised, parent, &converted, &options)?;
        let [before, after] = pair.evaluate(&images, labels, &options, observer)?;
        Ok(ConversionLoss::new(&before, &after))
    })
}

fn load(
    dataset: &Dataset,
    split: Split,
    parent: &Decoded,
    options: &TrainOptions,
    observer: &mut dyn Observer,
) -> Result<SplitImages> {
    let preprocessing = &parent.adapter.header.preprocessing;
    SplitImages::load(dataset, split, preprocessing, options.image_cache_bytes, observer)
}

/// The networks of the parent on the float backbone and of the converted adapter on the quantised one.
struct Pair {
    before: (Executor, Network),
    after: (Executor, Network),
}

impl Pair {
    /// Creates the networks, that of `converted` with the values of its file.
    fn new(
        float: &Backbone,
        quantised: &Backbone,
        parent: &Decoded,
        converted: &Adapter,
        options: &TrainOptions,
    ) -> Result<Self> {
        let converted = decode(&encode(converted, parent.encoding)?)?.adapter;
        let of = |backbone: &Backbone, adapter: &Adapter| -> Result<(Executor, Network)> {
            Ok((
                Executor::new(backbone, &options.device)?,
                Network::from_adapter(backbone, adapter)?,
            ))
        };
        Ok(Self {
            before: of(float, &parent.adapter)?,
            after: of(quantised, &converted)?,
        })
    }

    /// Evaluates both networks.
    fn evaluate(
        &self,
        images: &SplitImages,
        labels: &[String],
        options: &TrainOptions,
        observer: &mut dyn Observer,
    ) -> Result<[Evaluation; 2]> {
        let mut evaluate = |(executor, network): &(Executor, Network)| {
            evaluate_with(executor, network, images, labels, options.workers(), observer)
        };
        Ok([evaluate(&self.before)?, evaluate(&self.after)?])
    }
}

/// A conversion in progress.
struct Run<'a> {
    parent: &'a Decoded,
    pair: Pair,
    train: SplitImages,
    validation: SplitImages,
    options: &'a TrainOptions,
}

impl Run<'_> {
    fn run(&self, mut adapter: Adapter, dataset: &Dataset, observer: &mut dyn Observer) -> Result<Converted> {
        let given = &self.parent.adapter.header;
        let (executor, network) = &self.pair.after;
        let profile = match &given.profile {
            Some(_) => self.profile(observer)?,
            None => None,
        };
        let class_features = given.class_features.as_ref();
        let class_features = class_features.map(|given| self.class_features(given)).transpose()?;
        let [before, after] = self.evaluate(&self.validation, observer)?;
        let header = &mut adapter.header;
        header.steps = given.steps.map(|steps| {
            let [profile_mean, profile_factor] = profile.as_ref().map_or([StepSize(0); 2], |profile| profile.steps);
            Steps {
                profile_mean,
                profile_factor,
                ..steps
            }
        });
        header.profile = profile.and_then(|profile| profile.finished(&after.logits));
        header.class_features = class_features.flatten();
        header.version = header.version.saturating_add(1);
        header.revision = 0;
        header.parent = Some(self.parent.digest);
        header.metrics = Some(self.metrics(&before, &after));
        header.temperature = after.temperature();
        header.calibration = Some(after.calibration(header.temperature));
        header.canaries = canaries(
            executor,
            network,
            &self.validation,
            &after,
            f64::from(header.temperature),
            self.parent.encoding == Encoding::Compact,
        )?;
        let bytes = encode(&adapter, self.parent.encoding)?;
        let test = if dataset.has_test() {
            let images = load(dataset, Split::Test, self.parent, self.options, &mut ())?;
            let [before, after] = self.evaluate(&images, observer)?;
            Some(ConversionLoss::new(&before, &after))
        } else {
            None
        };
        Ok(Converted {
            adapter: decode(&bytes)?.adapter,
            bytes,
            validation: ConversionLoss::new(&before, &after),
            test,
            parity: parity(executor, network, &self.validation)?,
        })
    }

    fn evaluate(&self, images: &SplitImages, observer: &mut dyn Observer) -> Result<[Evaluation; 2]> {
        let labels = &self.parent.adapter.header.labels;
        self.pair.evaluate(images, labels, self.options, observer)
    }

    /// Returns the profile of the training images in the features of the quantised backbone.
    fn profile(&self, observer: &mut dyn Observer) -> Result<Option<TaskProfile>> {
        let (executor, network) = &self.pair.after;
        let quantised = network.backbone();
        let base = Network::new(quantised, Recipe::Linear, self.parent.adapter.head.classes(), 0)?;
        let images = (&self.train, &self.validation);
        let (train, validation) = if TaskProfile::reads_features(quantised, self.options) {
            frozen_features(executor, &base, images, self.options, observer)?
        } else {
            Default::default()
        };
        TaskProfile::learn(&base, images, (&train, &validation), self.options, observer)
    }

    /// Returns class features with steps of about the size of the parent's.
    fn class_features(&self, parent: &ClassFeatures) -> Result<Option<ClassFeatures>> {
        let (executor, network) = &self.pair.after;
        let metrics = self.parent.adapter.header.metrics.as_ref();
        let seed = metrics.map_or(0, |metrics| metrics.seed);
        let images = (&self.train, &self.validation);
        let measured = Measured::new(executor, network, images, seed, self.options.workers())?;
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
