//! Evaluation of a network on a split.

use candle_core::Device;
use clr_adapters::Adapter;
use clr_learning::{Network, argmax, log_probability};
use clr_onnx::Backbone;
use serde::Serialize;

use crate::{
    batches::{Loading, SplitImages, for_each_batch},
    data::{Dataset, Split},
    error::{Result, TrainError},
    executor::{Executor, Images},
    observer::{Meter, Observer, Phase},
};

/// Number of images in an evaluation batch.
const BATCH: usize = 32;

/// Result of a network on a split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Fraction of images whose highest logit is their class.
    pub accuracy: f32,
    /// Mean cross-entropy in nats.
    pub loss: f32,
    /// Number of images.
    #[serde(rename = "pictures")]
    pub images: usize,
    /// One entry per class, in the order of the logits.
    pub per_class: Vec<ClassScore>,
    /// `confusion[true class][predicted class]` is a number of images.
    pub confusion: Vec<Vec<u32>>,
    /// The logits, `[images][classes]`, in the split's order.
    #[serde(skip)]
    pub logits: Vec<Vec<f32>>,
    /// Index of each image's true class, in the split's order.
    #[serde(skip)]
    pub labels: Vec<u32>,
}

/// Result for one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassScore {
    /// The class.
    pub label: String,
    /// Number of images of the class.
    #[serde(rename = "pictures")]
    pub images: usize,
    /// Fraction of the class's images that are classified correctly; 0 without images.
    pub recall: f32,
    /// Fraction of the images classified as this class that belong to it; 0 if there are none.
    pub precision: f32,
}

impl Evaluation {
    /// Evaluates `logits` `[n][classes]` with the true classes `labels`.
    pub fn from_logits(logits: Vec<Vec<f32>>, labels: Vec<u32>, names: &[String]) -> Self {
        let classes = names.len();
        let mut confusion = vec![vec![0_u32; classes]; classes];
        let mut loss = 0.0_f64;
        for (row, &label) in logits.iter().zip(&labels) {
            confusion[label as usize][argmax(row)] += 1;
            loss -= log_probability(row, label as usize, 1.0);
        }
        let images = labels.len();
        let count = images.max(1) as f32;
        let correct: u32 = (0..classes).map(|class| confusion[class][class]).sum();
        let share = |part: u32, whole: u32| if whole == 0 { 0.0 } else { part as f32 / whole as f32 };
        let per_class = (names.iter().enumerate())
            .map(|(class, label)| {
                let own: u32 = confusion[class].iter().sum();
                let taken: u32 = confusion.iter().map(|row| row[class]).sum();
                let hits = confusion[class][class];
                let (recall, precision) = (share(hits, own), share(hits, taken));
                ClassScore {
                    label: label.clone(),
                    images: own as usize,
                    recall,
                    precision,
                }
            })
            .collect();
        let loss = (loss / f64::from(count)) as f32;
        Self {
            accuracy: correct as f32 / count,
            loss,
            images,
            per_class,
            confusion,
            logits,
            labels,
        }
    }

    /// Returns whether each image is classified correctly.
    pub(crate) fn hits(&self) -> Vec<bool> {
        self.logits
            .iter()
            .zip(&self.labels)
            .map(|(row, &label)| argmax(row) == label as usize)
            .collect()
    }
}

/// Runs the images through `network` on the CPU, in order.
pub fn evaluate(
    network: &Network,
    images: &SplitImages,
    names: &[String],
    workers: usize,
    observer: &mut dyn Observer,
) -> Result<Evaluation> {
    let executor = Executor::new(network.backbone(), &Device::Cpu)?;
    evaluate_with(&executor, network, images, names, workers, observer)
}

/// Runs the images through `network`, in order.
pub(crate) fn evaluate_with(
    executor: &Executor,
    network: &Network,
    images: &SplitImages,
    names: &[String],
    workers: usize,
    observer: &mut dyn Observer,
) -> Result<Evaluation> {
    if names.len() != network.classes() {
        return Err(TrainError::Mismatch {
            what: "classes".to_owned(),
            expected: network.classes().to_string(),
            got: names.len().to_string(),
        });
    }
    let mut meter = Meter::new(Phase::Evaluate, images.len());
    let order: Vec<usize> = (0..images.len()).collect();
    let logits = in_batches(
        images,
        &order,
        workers,
        false,
        |images| executor.logits(network, images),
        |n| meter.advance(n, observer),
    )?;
    Ok(Evaluation::from_logits(logits, images.labels(), names))
}

/// Returns the frozen features `[F]` of each image, in order.
pub(crate) fn features(
    executor: &Executor,
    network: &Network,
    images: &SplitImages,
    workers: usize,
    mirrored: bool,
    progress: impl FnMut(usize),
) -> Result<Vec<Vec<f32>>> {
    let compute = |images: Images<'_>| executor.features(network, images);
    let order: Vec<usize> = (0..images.len()).collect();
    in_batches(images, &order, workers, mirrored, compute, progress)
}

/// Returns the features `[F]` of the images with these indices.
pub(crate) fn features_of(
    executor: &Executor,
    network: &Network,
    images: &SplitImages,
    order: &[usize],
    workers: usize,
) -> Result<Vec<Vec<f32>>> {
    let compute = |images: Images<'_>| executor.features(network, images);
    in_batches(images, order, workers, false, compute, |_| ())
}

/// Returns the block statistics `[S]` of the images with these indices, as the unmodified backbone computes them. The
/// runtime computes them, also if a GPU trains.
pub(crate) fn block_statistics_of(
    network: &Network,
    images: &SplitImages,
    order: &[usize],
    workers: usize,
    progress: impl FnMut(usize),
) -> Result<Vec<Vec<f32>>> {
    let compute = |images: Images<'_>| Ok(network.block_statistics(&images.each(), images.size)?);
    in_batches(images, order, workers, false, compute, progress)
}

fn in_batches(
    images: &SplitImages,
    order: &[usize],
    workers: usize,
    mirrored: bool,
    compute: impl Fn(Images<'_>) -> Result<Vec<Vec<f32>>>,
    mut progress: impl FnMut(usize),
) -> Result<Vec<Vec<f32>>> {
    let mut rows = Vec::with_capacity(order.len());
    let loading = Loading {
        batch: BATCH,
        workers,
        augmentation: None,
        mirrored,
    };
    for_each_batch(images, order, loading, |batch| {
        rows.extend(compute(input_images(&batch.input, images))?);
        progress(batch.labels.len());
        Ok(())
    })?;
    if rows.is_empty() {
        return Err(TrainError::NoSuchSplit {
            path: "the images".into(),
            split: "non-empty",
        });
    }
    Ok(rows)
}

/// Wraps preprocessed values with the input size of `images`.
pub(crate) fn input_images<'a>(values: &'a [f32], images: &SplitImages) -> Images<'a> {
    let preprocessing = images.preprocessing();
    Images {
        values,
        size: [preprocessing.height as usize, preprocessing.width as usize],
    }
}

/// Evaluates an adapter on a split of a data set. `threads` defaults to all CPU cores.
///
/// # Errors
/// [`TrainError`] if the data set has no such split, if the data do not match the adapter, or if an image or the
/// network fails.
pub fn evaluate_adapter(
    backbone: &Backbone,
    adapter: &Adapter,
    dataset: &Dataset,
    split: Split,
    threads: Option<usize>,
    observer: &mut dyn Observer,
) -> Result<Evaluation> {
    let labels = &adapter.header.labels;
    if labels != dataset.classes() {
        return Err(TrainError::Mismatch {
            what: "labels".to_owned(),
            expected: labels.join(", "),
            got: dataset.classes().join(", "),
        });
    }
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    crate::with_threads(threads, || {
        let images = SplitImages::load(dataset, split, &adapter.header.preprocessing, 2 << 30, observer)?;
        let network = Network::from_adapter(backbone, adapter)?;
        evaluate(&network, &images, labels, (threads / 2).max(1), observer)
    })
}
