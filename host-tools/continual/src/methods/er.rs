//! Experience replay (Chaudhry et al. 2019): each batch is joined by images of a replay buffer.

use candle_core::Tensor;

use super::{Batch, Method, Task, Trained, sgd::everything, train_features};
use crate::{
    buffer::{Buffer, Stored, augmented_draw},
    error::Result,
    learner::Cost,
    loss::cross_entropy,
    model::Model,
    network::NoTransform,
    saved::Kept,
};

/// Loss: the mean cross-entropy over the batch and as many images of the buffer, each through the head of its task.
pub struct ExperienceReplay {
    /// Learning rate.
    pub rate: f32,
    buffer: Buffer,
}

impl ExperienceReplay {
    /// Creates the method with its learning rate and the number of images in its buffer.
    pub fn new(rate: f32, images: usize) -> Self {
        Self {
            rate,
            buffer: Buffer::new(images),
        }
    }

    /// Returns the buffer.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }
}

impl Method for ExperienceReplay {
    fn name(&self) -> &'static str {
        "er"
    }

    /// Trains all heads: the loss moves those of old tasks that the buffer has images of.
    fn trained(&self, model: &Model, task: &Task<'_>, _: usize, _: usize) -> Trained {
        let older = model.heads[..task.index].iter().flat_map(super::Head::variables);
        everything(model, task.index, self.rate).and(older, self.rate)
    }

    fn loss(&mut self, model: &mut Model, task: &Task<'_>, batch: &Batch<'_>) -> Result<Tensor> {
        let drawn = self.buffer.draw(batch.labels.len(), task, batch, 0);
        if drawn.is_empty() {
            let features = train_features(model, 0, &NoTransform, &batch.x)?;
            return cross_entropy(&model.heads[task.index].logits(&features)?, &batch.labels);
        }
        let old = augmented_draw(&drawn, task, batch, 0, &model.device)?;
        let features = train_features(model, 0, &NoTransform, &Tensor::cat(&[&batch.x, &old], 0)?)?;
        let mut rows: Vec<(usize, u32)> = batch.labels.iter().map(|&label| (task.index, label)).collect();
        rows.extend(drawn.iter().map(|stored| (stored.task, stored.example.label)));
        let sum = model.sum_of_cross_entropies(&features, &rows)?;
        Ok((sum / rows.len() as f64)?)
    }

    fn stepped(&mut self, task: &Task<'_>, batch: &Batch<'_>, _: &[Vec<f32>]) -> Result<()> {
        for &index in batch.indices {
            self.buffer.offer(task.seed, || Stored {
                example: task.train.examples()[index].clone(),
                task: task.index,
                logits: Vec::new(),
            });
        }
        Ok(())
    }

    fn save(&self) -> Result<Kept> {
        Ok(self.buffer.save())
    }

    fn restore(&mut self, _: &Model, _: usize, _: u64, kept: Kept) -> Result<()> {
        self.buffer.restore(kept)
    }

    fn cost(&self, _: &Model) -> Cost {
        Cost {
            training_bytes: self.buffer.bytes(),
            training_passes: 6.0,
            ..Cost::default()
        }
    }
}
