//! Fine-tuning of the whole network, task after task: the reference without protection.

use super::{MOMENTUM, Method, Task, Trained};
use crate::{learner::Cost, model::Model};

/// Plain fine-tuning. Norms and their running statistics are shared by all tasks.
pub struct Sgd {
    /// Learning rate.
    pub rate: f32,
}

impl Method for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn trained(&self, model: &Model, task: &Task<'_>, _: usize, _: usize) -> Trained {
        everything(model, task.index, self.rate)
    }

    fn cost(&self, _: &Model) -> Cost {
        Cost {
            training_passes: 3.0,
            ..Cost::default()
        }
    }
}

/// Trains the weights, the first set of norms and the head of a task. The variables of the backbone come first.
pub(super) fn everything(model: &Model, head: usize, rate: f32) -> Trained {
    Trained::all(model.backbone_variables(0), MOMENTUM, rate).and(model.heads[head].variables(), rate)
}
