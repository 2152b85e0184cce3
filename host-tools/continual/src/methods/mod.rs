//! The methods: one file each, after the paper that it comes from.
//!
//! A [`Method`] defines its trained variables, its loss and its state between tasks. The default implementations are those
//! of full fine-tuning ([`Sgd`]) with one head per task. The loop around it is the same for all
//! ([`NetworkLearner`](crate::NetworkLearner)).

mod ccll;
mod confit;
mod der;
mod eft;
mod er;
mod ewc;
mod independent;
mod lwf;
mod online_ewc;
mod psp;
mod sgd;
mod sgd_ll;
mod si;
mod supsup;

#[cfg(test)]
pub(crate) use self::{
    psp::signs,
    supsup::{constants, kept, mask, scores},
};

use candle_core::{Tensor, Var};

pub use ccll::{Ccll, LaterRates};
pub use confit::Confit;
pub use der::DerPlusPlus;
pub use eft::Eft;
pub use er::ExperienceReplay;
pub use ewc::Ewc;
pub use independent::Independent;
pub use lwf::Lwf;
pub use online_ewc::OnlineEwc;
pub use psp::Psp;
pub use sgd::Sgd;
pub use sgd_ll::SgdLastLayer;
pub use si::SynapticIntelligence;
pub use supsup::SupSup;

use crate::{
    error::Result,
    learner::Cost,
    loss::cross_entropy,
    model::{Head, Model},
    network::{Mode, NoTransform, Transform},
    optimiser::OptimiserKind,
    saved::Kept,
    task::{Batch, Task},
};

/// Trained variables, their optimiser and learning rates.
pub struct Trained {
    /// The variables.
    pub variables: Vec<Var>,
    /// The optimiser.
    pub kind: OptimiserKind,
    /// Learning rate of each variable, at its largest.
    pub rates: Vec<f32>,
}

impl Trained {
    /// Trains all variables with the same optimiser and learning rate.
    pub fn all(variables: Vec<Var>, kind: OptimiserKind, rate: f32) -> Self {
        Self {
            rates: vec![rate; variables.len()],
            variables,
            kind,
        }
    }

    /// Trains further variables with the same optimiser, at their own learning rate.
    #[must_use]
    pub fn and(mut self, variables: impl IntoIterator<Item = Var>, rate: f32) -> Self {
        self.variables.extend(variables);
        self.rates.resize(self.variables.len(), rate);
        self
    }
}

/// The optimiser for full networks.
pub const MOMENTUM: OptimiserKind = OptimiserKind::Sgd {
    momentum: 0.9,
    decay: 0.0,
};

/// A method of continual learning. Sets of norms, heads and variables are those of the [`Model`].
pub trait Method {
    /// Returns the name, as in options and reports.
    fn name(&self) -> &'static str;

    /// Prepares a task before its first batch. The head starts as random values; the caller may fit it.
    ///
    /// # Errors
    /// [`ContinualError`](crate::ContinualError) of the network.
    fn begin(&mut self, model: &mut Model, task: &Task<'_>) -> Result<()> {
        push_head(model, task)
    }

    /// Returns whether a new head starts as the logistic regression on the features before training.
    fn fits_head(&self) -> bool {
        true
    }

    /// Returns what is trained in epoch `epoch` (from 0) of `epochs`.
    fn trained(&self, model: &Model, task: &Task<'_>, epoch: usize, epochs: usize) -> Trained;

    /// Returns the loss of a batch, and moves running statistics.
    ///
    /// # Errors
    /// [`ContinualError`](crate::ContinualError) of the network.
    fn loss(&mut self, model: &mut Model, task: &Task<'_>, batch: &Batch<'_>) -> Result<Tensor> {
        let features = train_features(model, self.norms(task.index), &NoTransform, &batch.x)?;
        cross_entropy(&model.heads[task.index].logits(&features)?, &batch.labels)
    }

    /// Adds the gradient of a penalty on the trained values, and returns the penalty.
    fn penalise(&mut self, values: &[Vec<f32>], gradients: &mut [Vec<f32>]) -> f64 {
        let _ = (values, gradients);
        0.0
    }

    /// Called after each step with the new values.
    ///
    /// # Errors
    /// [`ContinualError`](crate::ContinualError) of the network.
    fn stepped(&mut self, task: &Task<'_>, batch: &Batch<'_>, after: &[Vec<f32>]) -> Result<()> {
        let _ = (task, batch, after);
        Ok(())
    }

    /// Returns what a step changes besides the model and a buffer, to be compared with PyTorch.
    #[cfg(test)]
    fn step_state(&self) -> Result<crate::Vectors> {
        Ok(Vec::new())
    }

    /// Finishes a task after its last batch.
    ///
    /// # Errors
    /// [`ContinualError`](crate::ContinualError) of the network.
    fn end(&mut self, model: &mut Model, task: &Task<'_>) -> Result<()> {
        let _ = (model, task);
        Ok(())
    }

    /// Returns what the method keeps between tasks, apart from the model.
    ///
    /// # Errors
    /// [`ContinualError`](crate::ContinualError) of the network.
    fn save(&self) -> Result<Kept> {
        Ok(Kept::default())
    }

    /// Continues after `tasks` tasks. `start` is the model of the backbone as it was before the first.
    ///
    /// # Errors
    /// [`ContinualError::Mismatch`](crate::ContinualError::Mismatch) if the state is of another network.
    fn restore(&mut self, start: &Model, tasks: usize, seed: u64, kept: Kept) -> Result<()> {
        let _ = (start, tasks, seed, kept);
        Ok(())
    }

    /// Returns whether the logits of a task stay bit-identical after it was learned.
    fn has_constant_logits(&self) -> bool {
        false
    }

    /// Returns what is stored and computed.
    fn cost(&self, model: &Model) -> Cost;

    /// Returns the index of the set of norms that a task uses.
    fn norms(&self, task: usize) -> usize {
        let _ = task;
        0
    }

    /// Returns the features `[N, F]` that a task's head reads, in inference mode.
    ///
    /// # Errors
    /// [`ContinualError`](crate::ContinualError) of the network.
    fn features(&self, model: &Model, task: usize, x: &Tensor) -> Result<Tensor> {
        eval_features(model, self.norms(task), &NoTransform, x)
    }

    /// Returns the logits `[N, K]` of a task, in inference mode.
    ///
    /// # Errors
    /// [`ContinualError`](crate::ContinualError) of the network.
    fn logits(&self, model: &Model, task: usize, x: &Tensor) -> Result<Tensor> {
        model.heads[task].logits(&self.features(model, task, x)?)
    }
}

/// Adds a random head for a task.
fn push_head(model: &mut Model, task: &Task<'_>) -> Result<()> {
    let features = model.structure.feature_count();
    let head = Head::random(task.seed, task.index, task.classes, features, &model.device)?;
    model.heads.push(head);
    Ok(())
}

/// Computes features with the statistics of the batch, and moves the running ones of set `norms`.
fn train_features(model: &mut Model, norms: usize, transform: &dyn Transform, x: &Tensor) -> Result<Tensor> {
    let features = model
        .structure
        .forward(&model.weights, &model.norms[norms], transform, Mode::Train, x)?;
    features.update(&mut model.norms[norms]);
    Ok(features.values)
}

/// Computes features with the running statistics of set `norms`, without gradients.
fn eval_features(model: &Model, norms: usize, transform: &dyn Transform, x: &Tensor) -> Result<Tensor> {
    let norms = &model.norms[norms];
    let features = model
        .structure
        .forward(&model.weights, norms, transform, Mode::Eval, x)?;
    Ok(features.values)
}
