//! Batches, prepared in advance on worker threads. Their order does not depend on the number of threads.

use std::sync::mpsc::sync_channel;

use clr_onnx::Preprocess as _;
use rand::seq::SliceRandom as _;

use super::SplitImages;
use crate::{Augmentation, Purpose, error::Result, stream};

/// Preprocessed images, `[n, 3, height, width]` row-major, with their classes.
pub(crate) struct Batch {
    pub(crate) input: Vec<f32>,
    pub(crate) labels: Vec<u32>,
}

/// Options of the batches.
#[derive(Clone, Copy)]
pub(crate) struct Loading<'a> {
    /// Number of images per batch.
    pub(crate) batch: usize,
    /// Number of threads that prepare batches in advance; with 0, the calling thread prepares them.
    pub(crate) workers: usize,
    /// Augmentation, with the seed and epoch of its random numbers.
    pub(crate) augmentation: Option<(&'a Augmentation, u64, u64)>,
    /// Whether every image is mirrored.
    pub(crate) mirrored: bool,
}

/// Returns the order of `count` training images in an epoch.
pub(crate) fn shuffled(count: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut stream(seed, Purpose::Order, epoch, 0));
    order
}

/// Calls `step` with each batch of `images` in the given `order`. With n workers, each prepares every n-th batch, and
/// has at most two finished ones waiting.
pub(crate) fn for_each_batch(
    images: &SplitImages,
    order: &[usize],
    loading: Loading<'_>,
    mut step: impl FnMut(Batch) -> Result<()>,
) -> Result<()> {
    let batches: Vec<&[usize]> = order.chunks(loading.batch.max(1)).collect();
    let workers = loading.workers.min(batches.len());
    if workers == 0 {
        return batches
            .into_iter()
            .try_for_each(|indices| step(prepare_batch(images, indices, loading)?));
    }
    std::thread::scope(|scope| {
        let receivers: Vec<_> = (0..workers)
            .map(|worker| {
                let (sender, receiver) = sync_channel(1);
                let share: Vec<&[usize]> = batches.iter().copied().skip(worker).step_by(workers).collect();
                scope.spawn(move || {
                    for indices in share {
                        // The channel is closed if a step has failed.
                        if sender.send(prepare_batch(images, indices, loading)).is_err() {
                            return;
                        }
                    }
                });
                receiver
            })
            .collect();
        for index in 0..batches.len() {
            let Ok(batch) = receivers[index % workers].recv() else {
                return Err(crate::TrainError::Threads {
                    threads: workers,
                    reason: "a worker ended early".into(),
                });
            };
            step(batch?)?;
        }
        Ok(())
    })
}

/// Prepares a batch on the calling thread.
pub(crate) fn prepare_batch(images: &SplitImages, indices: &[usize], loading: Loading<'_>) -> Result<Batch> {
    let preprocessing = images.preprocessing();
    let size = 3 * preprocessing.height as usize * preprocessing.width as usize;
    let mut input = vec![0.0; indices.len() * size];
    let mut labels = Vec::with_capacity(indices.len());
    for (&index, out) in indices.iter().zip(input.chunks_exact_mut(size)) {
        let image = images.image(index)?;
        match loading.augmentation {
            Some((augmentation, seed, epoch)) if !augmentation.is_none() => {
                let mut random = stream(seed, Purpose::Augment, epoch, index as u64);
                preprocessing.to_tensor(&augmentation.apply(&image, &mut random), out);
            }
            _ if loading.mirrored => preprocessing.to_tensor(&clr_learning::mirror(&image), out),
            _ => preprocessing.to_tensor(&image, out),
        }
        labels.push(images.samples()[index].class as u32);
    }
    Ok(Batch { input, labels })
}
