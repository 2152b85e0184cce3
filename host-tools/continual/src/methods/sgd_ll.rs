//! Fine-tuning of one last layer that all tasks share, on a frozen backbone.

use candle_core::{Tensor, Var};

use super::{Batch, Method, Task, Trained, eval_features};
use crate::{
    error::Result,
    learner::Cost,
    loss::cross_entropy,
    model::{Head, Model},
    network::NoTransform,
    optimiser::OptimiserKind,
    saved::Kept,
};

/// A shared layer as wide as the widest task; a task with K classes uses its first K outputs.
pub struct SgdLastLayer {
    /// Learning rate.
    pub rate: f32,
    /// Classes of the widest task.
    pub widest: usize,
    /// Classes of each task so far.
    classes: Vec<usize>,
}

impl SgdLastLayer {
    /// Creates the method for a sequence whose widest task has `widest` classes.
    pub fn new(rate: f32, widest: usize) -> Self {
        Self {
            rate,
            widest,
            classes: Vec::new(),
        }
    }

    fn first_outputs(&self, model: &Model, task: usize, features: &Tensor) -> Result<Tensor> {
        Ok(model.heads[0].logits(features)?.narrow(1, 0, self.classes[task])?)
    }
}

impl Method for SgdLastLayer {
    fn name(&self) -> &'static str {
        "sgd-ll"
    }

    fn begin(&mut self, model: &mut Model, task: &Task<'_>) -> Result<()> {
        self.classes.push(task.classes);
        if model.heads.is_empty() {
            let features = model.structure.feature_count();
            let head = Head::random(task.seed, 0, self.widest, features, &model.device)?;
            model.heads.push(head);
        }
        Ok(())
    }

    /// A fitted head would overwrite the layer at once.
    fn fits_head(&self) -> bool {
        false
    }

    fn trained(&self, model: &Model, _: &Task<'_>, _: usize, _: usize) -> Trained {
        let variables: Vec<Var> = model.heads[0].variables();
        Trained::all(variables, OptimiserKind::Adam, self.rate)
    }

    fn loss(&mut self, model: &mut Model, task: &Task<'_>, batch: &Batch<'_>) -> Result<Tensor> {
        let features = eval_features(model, 0, &NoTransform, &batch.x)?.detach();
        cross_entropy(&self.first_outputs(model, task.index, &features)?, &batch.labels)
    }

    fn logits(&self, model: &Model, task: usize, x: &Tensor) -> Result<Tensor> {
        self.first_outputs(model, task, &self.features(model, task, x)?)
    }

    fn save(&self) -> Result<Kept> {
        Ok(Kept {
            numbers: self.classes.iter().map(|&classes| classes as u64).collect(),
            ..Kept::default()
        })
    }

    fn restore(&mut self, _: &Model, _: usize, _: u64, kept: Kept) -> Result<()> {
        self.classes = kept.numbers.into_iter().map(|classes| classes as usize).collect();
        Ok(())
    }

    fn cost(&self, _: &Model) -> Cost {
        // The features of a frozen network, in each epoch, because images are augmented.
        Cost {
            training_passes: 1.0,
            ..Cost::default()
        }
    }
}
