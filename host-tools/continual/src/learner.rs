//! The loop that is the same for all methods: batches, steps, schedules.

use candle_core::Tensor;
use clr_training::LrSchedule;
use rand::seq::SliceRandom as _;

use crate::{
    error::{ContinualError, Result},
    gradients::{gradients, set_values, values},
    images::{Images, augmented},
    methods::Method,
    model::{Head, Model},
    optimiser::Optimiser,
    random::{Purpose, stream},
    task::{Batch, Task},
};

/// Options that are the same for all methods and tasks.
#[derive(Clone, Debug)]
pub struct LearnerOptions {
    /// Passes over a task's training images.
    pub epochs: usize,
    /// Images in a batch.
    pub batch: usize,
    /// Factor on the rates over a task.
    pub schedule: LrSchedule,
}

impl Default for LearnerOptions {
    /// Eight epochs in batches of 16, one epoch of warm-up, then half a cosine.
    fn default() -> Self {
        Self {
            epochs: 8,
            batch: 16,
            schedule: LrSchedule::Cosine {
                warmup: 1.0,
                min_factor: 0.0,
            },
        }
    }
}

/// A model with the method that trains it.
pub struct Learner {
    model: Model,
    method: Box<dyn Method>,
    optimiser: Option<(usize, Optimiser)>,
}

impl Learner {
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
            // A phase with other variables starts anew.
            other => &mut other.insert((values.len(), Optimiser::new(trained.rule, &values))).1,
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
        let before = values.clone();
        let rates: Vec<f32> = trained.rates.iter().map(|rate| rate * factor).collect();
        optimiser.step(&mut values, &gradients, &rates);
        set_values(&trained.variables, &values)?;
        self.method.stepped(task, batch, &before, &values)?;
        Ok(loss)
    }

    /// Trains one epoch, from 0. Returns the mean loss.
    ///
    /// # Errors
    /// As [`Learner::step`].
    pub fn epoch(&mut self, task: &Task<'_>, epoch: usize, options: &LearnerOptions) -> Result<f64> {
        let mut order: Vec<usize> = (0..task.train.examples().len()).collect();
        order.shuffle(&mut stream(task.seed, Purpose::Order, task.index, epoch, 0));
        let batches = batches(&order, options.batch);
        let (steps, mut sum) = (batches.len(), 0.0);
        for (index, indices) in batches.into_iter().enumerate() {
            let images = indices.iter().map(|&index| {
                let random = stream(task.seed, Purpose::Augment, task.index, epoch, index as u64);
                (&*task.train.examples()[index].image, random)
            });
            let x = augmented(
                task.train.preprocessing(),
                task.augmentation,
                images,
                &self.model.device,
            )?;
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

    /// Finishes a task.
    ///
    /// # Errors
    /// [`ContinualError`] of the method.
    pub fn end(&mut self, task: &Task<'_>) -> Result<()> {
        self.optimiser = None;
        self.method.end(&mut self.model, task)
    }

    /// Returns logits `[N, K]` of preprocessed images for a task that was learned.
    ///
    /// # Errors
    /// [`ContinualError`] of the method.
    pub fn logits(&self, task: usize, x: &Tensor) -> Result<Tensor> {
        Ok(self.method.logits(&self.model, task, x)?.detach())
    }

    /// Returns the number of images of a set that a task classifies correctly.
    ///
    /// # Errors
    /// [`ContinualError`] of the method.
    pub fn correct(&self, task: usize, images: &Images) -> Result<usize> {
        let indices: Vec<usize> = (0..images.examples().len()).collect();
        let mut correct = 0;
        for chunk in indices.chunks(50) {
            let x = images.tensor(chunk, &self.model.device)?;
            let rows: Vec<Vec<f32>> = self.logits(task, &x)?.to_vec2()?;
            let labels = images.labels(chunk);
            let hits = rows.iter().zip(labels);
            correct += hits
                .filter(|(row, label)| clr_training::argmax(row) == *label as usize)
                .count();
        }
        Ok(correct)
    }
}

/// Divides an order into batches. A single image at the end joins the batch before, because statistics of one image are
/// none.
fn batches(order: &[usize], size: usize) -> Vec<&[usize]> {
    let size = size.max(2);
    let mut batches: Vec<&[usize]> = order.chunks(size).collect();
    if batches.len() > 1 && order.len() % size == 1 {
        let from = (batches.len() - 2) * size;
        batches.truncate(batches.len() - 2);
        batches.push(&order[from..]);
    }
    batches
}
