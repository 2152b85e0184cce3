//! The loop that is the same for all methods: batches, steps, schedules.

use clr_learning::{LabelledFeatures, fit_head};
use clr_training::{LogisticOptions, TrainError};
use serde::{Deserialize, Serialize};

use crate::{
    error::{ContinualError, Result},
    gradients::{gradients, set_values, values},
    images::Images,
    learner::{Cost, Learner, LearnerOptions},
    methods::Method,
    model::{Head, Model},
    optimiser::Optimiser,
    saved::{Kept, SavedModel, decode, encode},
    task::{Batch, Task},
};

/// A model with the method that trains it.
pub struct NetworkLearner {
    model: Model,
    method: Box<dyn Method>,
    optimiser: Option<(usize, Optimiser)>,
}

impl NetworkLearner {
    /// Creates a learner that has seen no task.
    pub fn new(model: Model, method: Box<dyn Method>) -> Self {
        Self {
            model,
            method,
            optimiser: None,
        }
    }

    /// Returns the model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    pub(crate) fn model_mut(&mut self) -> &mut Model {
        &mut self.model
    }

    /// Returns the method.
    pub fn method(&self) -> &dyn Method {
        &*self.method
    }

    /// Prepares a task. Its head starts as random values.
    ///
    /// # Errors
    /// [`ContinualError`] of the method.
    pub fn begin(&mut self, task: &Task<'_>) -> Result<()> {
        self.optimiser = None;
        self.method.begin(&mut self.model, task)
    }

    /// Sets the weights `[K, F]` and biases `[K]` of a task's head.
    ///
    /// # Errors
    /// [`ContinualError::Mismatch`] if there is no such head.
    pub fn set_head(&mut self, task: usize, weight: &[f32], bias: &[f32]) -> Result<()> {
        let count = self.model.heads.len();
        let head = self.model.heads.get_mut(task).ok_or_else(|| ContinualError::Mismatch {
            what: "a head",
            expected: format!("a number below {count}"),
            got: task.to_string(),
        })?;
        *head = Head::new(weight, bias, &self.model.device)?;
        Ok(())
    }

    /// Performs a step on a batch with the rates times `factor`, in epoch `batch.epoch` of `epochs`. Returns the loss
    /// with its penalty.
    ///
    /// # Errors
    /// [`ContinualError::Diverged`] if the loss is not finite; another [`ContinualError`] of the method.
    pub fn step(&mut self, task: &Task<'_>, batch: &Batch<'_>, epochs: usize, factor: f32) -> Result<f64> {
        let trained = self.method.trained(&self.model, task, batch.epoch, epochs);
        let mut values = values(&trained.variables)?;
        let optimiser = match &mut self.optimiser {
            Some((count, optimiser)) if *count == values.len() => optimiser,
            // A phase with other variables has a new optimiser.
            other => &mut other.insert((values.len(), Optimiser::new(trained.kind, &values))).1,
        };
        let loss = self.method.loss(&mut self.model, task, batch)?;
        let mut gradients = gradients(&loss, &trained.variables)?;
        let loss = f64::from(loss.to_scalar::<f32>()?) + self.method.penalise(&values, &mut gradients);
        if !loss.is_finite() {
            return Err(ContinualError::Diverged {
                method: self.method.name(),
                task: task.index + 1,
                epoch: batch.epoch + 1,
            });
        }
        let rates: Vec<f32> = trained.rates.iter().map(|rate| rate * factor).collect();
        optimiser.step(&mut values, &gradients, &rates);
        set_values(&trained.variables, &values)?;
        self.method.stepped(task, batch, &values)?;
        Ok(loss)
    }

    /// Trains one epoch, from 0. Returns the mean loss.
    ///
    /// # Errors
    /// As [`NetworkLearner::step`].
    pub fn epoch(&mut self, task: &Task<'_>, epoch: usize, options: &LearnerOptions) -> Result<f64> {
        let batches = task.batches(epoch, options.batch);
        let (steps, mut sum) = (batches.len(), 0.0);
        for (index, indices) in batches.iter().enumerate() {
            let x = task.augmented(indices, epoch, &self.model.device)?;
            let batch = Batch {
                x,
                labels: task.train.labels(indices),
                indices,
                epoch,
                step: (epoch * steps + index) as u64,
            };
            let position = epoch as f64 + (index + 1) as f64 / steps as f64;
            let factor = options.schedule.factor(position, options.epochs);
            sum += self.step(task, &batch, options.epochs, factor as f32)?;
        }
        Ok(sum / steps.max(1) as f64)
    }

    /// Fits the head of a task to the features before training.
    pub(crate) fn fit_head(&mut self, task: &Task<'_>, validation: &Images) -> Result<()> {
        let features = |images: &Images| {
            let indices: Vec<usize> = (0..images.examples().len()).collect();
            let mut features = Vec::with_capacity(indices.len());
            for chunk in indices.chunks(50) {
                let x = images.tensor(chunk, &self.model.device)?;
                let rows = self.method.features(&self.model, task.index, &x)?.detach();
                features.extend(rows.to_vec2::<f32>()?);
            }
            Ok::<_, ContinualError>(LabelledFeatures {
                features,
                labels: images.labels(&indices),
            })
        };
        let (train, validation) = (features(task.train)?, features(validation)?);
        let options = LogisticOptions::default();
        let fitted = fit_head(&train, &validation, task.classes, &options, |_| ()).map_err(TrainError::from)?;
        self.set_head(task.index, &fitted.head.weight, &fitted.head.bias)
    }

    /// Finishes a task.
    ///
    /// # Errors
    /// [`ContinualError`] of the method.
    pub fn end(&mut self, task: &Task<'_>) -> Result<()> {
        self.optimiser = None;
        self.method.end(&mut self.model, task)
    }
}

/// What is saved after a task.
#[derive(Serialize, Deserialize)]
struct Saved {
    method: String,
    model: SavedModel,
    kept: Kept,
}

impl Learner for NetworkLearner {
    fn learn(
        &mut self,
        task: &Task<'_>,
        validation: &Images,
        options: &LearnerOptions,
        progress: &mut dyn FnMut(usize, f64),
    ) -> Result<()> {
        self.begin(task)?;
        if self.method.fits_head() {
            self.fit_head(task, validation)?;
        }
        for epoch in 0..options.epochs {
            let loss = self.epoch(task, epoch, options)?;
            progress(epoch + 1, loss);
        }
        self.end(task)
    }

    fn logits(&self, task: usize, images: &Images, indices: &[usize]) -> Result<Vec<Vec<f32>>> {
        let x = images.tensor(indices, &self.model.device)?;
        Ok(self.method.logits(&self.model, task, &x)?.detach().to_vec2()?)
    }

    fn has_constant_logits(&self) -> bool {
        self.method.has_constant_logits()
    }

    fn cost(&self) -> Cost {
        self.method.cost(&self.model)
    }

    fn head_values(&self) -> usize {
        let heads = self.model.heads.iter();
        heads
            .map(|head| head.weight.elem_count() + head.bias.elem_count())
            .sum()
    }

    fn save(&self) -> Result<Vec<u8>> {
        let saved = Saved {
            method: self.method.name().to_owned(),
            model: SavedModel::of(&self.model)?,
            kept: self.method.save()?,
        };
        encode(&saved)
    }

    fn restore(&mut self, tasks: usize, seed: u64, state: &[u8]) -> Result<()> {
        let saved: Saved = decode(state)?;
        if saved.method != self.method.name() {
            return Err(ContinualError::Mismatch {
                what: "the method of a saved state",
                expected: self.method.name().to_owned(),
                got: saved.method,
            });
        }
        self.method.restore(&self.model, tasks, seed, saved.kept)?;
        saved.model.restore(&mut self.model)
    }
}
