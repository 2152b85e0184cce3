//! Dark experience replay++ (Buzzega et al. 2020): images of the buffer keep the logits that they had when they were
//! stored.

use candle_core::{D, Tensor};

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

/// Loss: `CE + α · mean of the squared differences of logits + β · CE of stored images`, on two independent draws.
pub struct DerPlusPlus {
    /// Learning rate.
    pub rate: f32,
    /// α.
    pub logits: f32,
    /// β.
    pub labels: f32,
    buffer: Buffer,
    /// Logits of the current batch before its step.
    current: Vec<Vec<f32>>,
}

impl DerPlusPlus {
    /// Creates the method with its learning rate, α, β and the number of images in its buffer.
    pub fn new(rate: f32, logits: f32, labels: f32, images: usize) -> Self {
        Self {
            rate,
            logits,
            labels,
            buffer: Buffer::new(images),
            current: Vec::new(),
        }
    }
}

impl Method for DerPlusPlus {
    fn name(&self) -> &'static str {
        "der++"
    }

    fn trained(&self, model: &Model, task: &Task<'_>, _: usize, _: usize) -> Trained {
        let older = model.heads[..task.index].iter().flat_map(super::Head::variables);
        everything(model, task.index, self.rate).and(older, self.rate)
    }

    fn loss(&mut self, model: &mut Model, task: &Task<'_>, batch: &Batch<'_>) -> Result<Tensor> {
        let features = train_features(model, 0, &NoTransform, &batch.x)?;
        let logits = model.heads[task.index].logits(&features)?;
        self.current = logits.to_vec2()?;
        let mut loss = cross_entropy(&logits, &batch.labels)?;
        let count = batch.labels.len();
        let drawn = self.buffer.draw(count, task, batch, 0);
        if self.logits != 0.0 && !drawn.is_empty() {
            let old = augmented_draw(&drawn, task, batch, 0, &model.device)?;
            let features = train_features(model, 0, &NoTransform, &old)?;
            let mut sum = Tensor::zeros((), features.dtype(), features.device())?;
            for (row, stored) in drawn.iter().enumerate() {
                let logits = model.heads[stored.task].logits(&features.narrow(0, row, 1)?)?;
                let target = Tensor::from_slice(&stored.logits, logits.shape(), logits.device())?;
                // The mean over the classes of this image, so that tasks with many classes weigh no more.
                sum = (sum + (logits - target)?.sqr()?.mean(D::Minus1)?.sum_all()?)?;
            }
            loss = (loss + (sum * (f64::from(self.logits) / drawn.len() as f64))?)?;
        }
        let drawn = self.buffer.draw(count, task, batch, 1);
        if self.labels != 0.0 && !drawn.is_empty() {
            let old = augmented_draw(&drawn, task, batch, 1, &model.device)?;
            let features = train_features(model, 0, &NoTransform, &old)?;
            let rows: Vec<_> = drawn.iter().map(|stored| (stored.task, stored.example.label)).collect();
            let sum = model.sum_of_cross_entropies(&features, &rows)?;
            loss = (loss + (sum * (f64::from(self.labels) / drawn.len() as f64))?)?;
        }
        Ok(loss)
    }

    fn stepped(&mut self, task: &Task<'_>, batch: &Batch<'_>, _: &[Vec<f32>]) -> Result<()> {
        for (&index, logits) in batch.indices.iter().zip(&self.current) {
            self.buffer.offer(task.seed, || Stored {
                example: task.train.examples()[index].clone(),
                task: task.index,
                logits: logits.clone(),
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
            training_passes: 9.0,
            ..Cost::default()
        }
    }
}
