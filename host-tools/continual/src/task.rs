//! A task of a sequence, and batches of its training images.

use candle_core::{Device, Tensor};
use clr_training::{Augmentation, Flip};
use rand::seq::SliceRandom as _;

use crate::{
    error::Result,
    images::{Images, augmented},
    random::{Purpose, stream},
};

/// Augmentation of training images: that of `clr train`, without mirroring, which it decides per task.
pub const AUGMENTATION: Augmentation = Augmentation {
    flip: Flip::Off,
    ..Augmentation::MILD
};

/// A task of a sequence.
pub struct Task<'a> {
    /// Number of the task, from 0.
    pub index: usize,
    /// Number of its classes.
    pub classes: usize,
    /// Its training images.
    pub train: &'a Images,
    /// Seed of every random choice.
    pub seed: u64,
    /// Augmentation of training images.
    pub augmentation: &'a Augmentation,
}

/// A batch of training images of the current task.
pub struct Batch<'a> {
    /// Augmented and preprocessed images, `[N, 3, H, W]`.
    pub x: Tensor,
    /// Their classes.
    pub labels: Vec<u32>,
    /// Their indices in the task's training images.
    pub indices: &'a [usize],
    /// Number of the epoch, from 0.
    pub epoch: usize,
    /// Number of the step in the task, from 0.
    pub step: u64,
}

impl Task<'_> {
    /// Returns the training images of an epoch, from 0, in batches of `size`, in an order that depends on the seed. A
    /// single image at the end joins the batch before, because statistics of one image are none.
    pub(crate) fn batches(&self, epoch: usize, size: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.train.examples().len()).collect();
        order.shuffle(&mut stream(self.seed, Purpose::Order, self.index, epoch, 0));
        batches(&order, size).into_iter().map(<[_]>::to_vec).collect()
    }

    /// Returns training images as an epoch augments them, preprocessed, `[N, 3, H, W]`.
    pub(crate) fn augmented(&self, indices: &[usize], epoch: usize, device: &Device) -> Result<Tensor> {
        let images = indices.iter().map(|&index| {
            let random = stream(self.seed, Purpose::Augment, self.index, epoch, index as u64);
            (&*self.train.examples()[index].image, random)
        });
        augmented(self.train.preprocessing(), self.augmentation, images, device)
    }
}

/// Divides an order into batches. A single image at the end joins the batch before.
pub(crate) fn batches(order: &[usize], size: usize) -> Vec<&[usize]> {
    let size = size.max(2);
    let mut batches: Vec<&[usize]> = order.chunks(size).collect();
    if batches.len() > 1 && order.len() % size == 1 {
        let from = (batches.len() - 2) * size;
        batches.truncate(batches.len() - 2);
        batches.push(&order[from..]);
    }
    batches
}
