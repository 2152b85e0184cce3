//! Measuring a network on pictures.

use candle_core::{D, Device, Tensor};
use clr_adapters::Adapter;
use clr_onnx::Backbone;
use serde::Serialize;

use crate::{
    calibrate::log_probability,
    data::{Batch, Dataset, Loading, Pictures, Split, for_each_batch},
    error::{Result, TrainError},
    network::Network,
    observer::{Meter, Observer, Phase},
};

/// Pictures in an evaluation batch.
const BATCH: usize = 32;

/// How a network did on a split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Share of pictures whose highest logit is their class.
    pub accuracy: f32,
    /// Mean cross-entropy in nats.
    pub loss: f32,
    /// Number of pictures.
    pub pictures: usize,
    /// One entry per class, in logit order.
    pub per_class: Vec<ClassScore>,
    /// `confusion[true class][predicted class]`: number of pictures.
    pub confusion: Vec<Vec<u32>>,
    /// `[pictures][classes]`, in the split's order.
    #[serde(skip)]
    pub logits: Vec<Vec<f32>>,
    /// The classes, in the split's order.
    #[serde(skip)]
    pub labels: Vec<u32>,
}

/// How one class fared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassScore {
    /// The class.
    pub label: String,
    /// Pictures of the class.
    pub pictures: usize,
    /// Share of them that were recognised; 0 without pictures.
    pub recall: f32,
    /// Share of the pictures taken for this class that are of it; 0 if there are none.
    pub precision: f32,
}

impl Evaluation {
    /// From `logits` `[n][classes]` and the true classes.
    pub fn from_logits(logits: Vec<Vec<f32>>, labels: Vec<u32>, names: &[String]) -> Self {
        let classes = names.len();
        let mut confusion = vec![vec![0_u32; classes]; classes];
        let mut loss = 0.0_f64;
        for (row, &label) in logits.iter().zip(&labels) {
            confusion[label as usize][argmax(row)] += 1;
            loss -= log_probability(row, label as usize, 1.0);
        }
        let pictures = labels.len();
        let count = pictures.max(1) as f32;
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
                    pictures: own as usize,
                    recall,
                    precision,
                }
            })
            .collect();
        let loss = (loss / f64::from(count)) as f32;
        Self {
            accuracy: correct as f32 / count,
            loss,
            pictures,
            per_class,
            confusion,
            logits,
            labels,
        }
    }

    /// Whether each picture is classified correctly.
    pub(crate) fn hits(&self) -> Vec<bool> {
        self.logits
            .iter()
            .zip(&self.labels)
            .map(|(row, &label)| argmax(row) == label as usize)
            .collect()
    }
}

/// The first index of the highest value.
pub fn argmax(row: &[f32]) -> usize {
    (row.iter().enumerate())
        .fold((0, f32::NEG_INFINITY), |best, (index, &value)| {
            if value > best.1 { (index, value) } else { best }
        })
        .0
}

/// Runs the pictures through `network`, in order.
pub fn evaluate(
    network: &Network,
    pictures: &Pictures,
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
    let mut meter = Meter::new(Phase::Evaluate, pictures.len());
    let logits = in_batches(
        network,
        pictures,
        workers,
        false,
        |x| network.logits(x),
        |n| meter.advance(n, observer),
    )?;
    Ok(Evaluation::from_logits(logits.to_vec2()?, pictures.labels(), names))
}

/// The frozen features `[N, F]` of the pictures, in order.
pub(crate) fn features(
    network: &Network,
    pictures: &Pictures,
    workers: usize,
    mirrored: bool,
    progress: impl FnMut(usize),
) -> Result<Tensor> {
    in_batches(network, pictures, workers, mirrored, |x| network.features(x), progress)
}

fn in_batches(
    network: &Network,
    pictures: &Pictures,
    workers: usize,
    mirrored: bool,
    compute: impl Fn(&Tensor) -> Result<Tensor>,
    mut progress: impl FnMut(usize),
) -> Result<Tensor> {
    let order: Vec<usize> = (0..pictures.len()).collect();
    let mut rows = Vec::new();
    let loading = Loading {
        batch: BATCH,
        workers,
        augmentation: None,
        mirrored,
    };
    for_each_batch(pictures, &order, loading, |batch| {
        let x = input(network.device(), pictures, &batch)?;
        rows.push(compute(&x)?);
        progress(batch.labels.len());
        Ok(())
    })?;
    if rows.is_empty() {
        return Err(TrainError::NoSuchSplit {
            path: "the pictures".into(),
            split: "non-empty",
        });
    }
    Ok(Tensor::cat(&rows, 0)?)
}

/// The batch as a tensor `[n, 3, height, width]`.
pub(crate) fn input(device: &Device, pictures: &Pictures, batch: &Batch) -> Result<Tensor> {
    let preprocessing = pictures.preprocessing();
    let shape = (
        batch.labels.len(),
        3,
        preprocessing.height as usize,
        preprocessing.width as usize,
    );
    Ok(Tensor::from_slice(&batch.input, shape, device)?)
}

/// Runs a split of a data set through an adapter. `threads`: all cores if not given.
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
        let pictures = Pictures::load(dataset, split, &adapter.header.preprocessing, 2 << 30, observer)?;
        let network = Network::from_adapter(backbone, adapter, &Device::Cpu)?;
        evaluate(&network, &pictures, labels, (threads / 2).max(1), observer)
    })
}

/// Targets `[N, K]`: `1 − smoothing` on each label, the rest spread evenly over all classes.
pub(crate) fn targets(labels: &[u32], classes: usize, smoothing: f32, device: &Device) -> Result<Tensor> {
    let n = labels.len();
    let spread = smoothing / classes as f32;
    let mut targets = vec![spread; n * classes];
    for (row, &label) in targets.chunks_exact_mut(classes).zip(labels) {
        row[label as usize] += 1.0 - smoothing;
    }
    Ok(Tensor::from_vec(targets, (n, classes), device)?)
}

/// Mean cross-entropy of `logits` `[N, K]` with `targets` `[N, K]` (differentiable).
pub(crate) fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let n = logits.dim(0)?;
    let log = candle_nn::ops::log_softmax(logits, D::Minus1)?;
    Ok(((log * targets)?.sum_all()? * (-1.0 / n as f64))?)
}
