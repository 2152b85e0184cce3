//! Joint training on all tasks at once: what a network could learn without forgetting.

use candle_core::Device;
use clr_onnx::Backbone;
use rand::seq::SliceRandom as _;

use crate::{
    error::{ContinualError, Result},
    gradients::{gradients, set_values, values},
    images::{Images, augmented},
    learner::{Cost, Learner, LearnerOptions},
    methods::MOMENTUM,
    model::Model,
    network::{Mode, NoTransform},
    network_learner::NetworkLearner,
    optimiser::Optimiser,
    random::{Purpose, stream},
    saved::check,
    task::{Task, batches},
};

/// Collects the tasks, and trains on their union when the last one comes. Each image goes through the head of its task.
pub struct JointLearner {
    network: NetworkLearner,
    rate: f32,
    tasks: usize,
    seen: Vec<Images>,
}

impl JointLearner {
    /// Creates a learner for a sequence of `tasks` tasks.
    ///
    /// # Errors
    /// [`ContinualError::Operator`](crate::ContinualError::Operator) if the weights of an operator cannot be trained.
    pub fn new(backbone: &Backbone, rate: f32, tasks: usize, device: &Device) -> Result<Self> {
        let model = Model::new(backbone, device)?;
        let method = Box::new(crate::methods::Sgd { rate });
        Ok(Self {
            network: NetworkLearner::new(model, method),
            rate,
            tasks,
            seen: Vec::new(),
        })
    }

    fn train(&mut self, task: &Task<'_>, options: &LearnerOptions, progress: &mut dyn FnMut(usize, f64)) -> Result<()> {
        let model = self.network.model_mut();
        let mut variables = model.backbone_variables(0);
        variables.extend(model.heads.iter().flat_map(crate::model::Head::variables));
        let mut current = values(&variables)?;
        let mut optimiser = Optimiser::new(MOMENTUM, &current);
        let all: Vec<(usize, usize)> = (self.seen.iter().enumerate())
            .flat_map(|(task, images)| (0..images.examples().len()).map(move |index| (task, index)))
            .collect();
        for epoch in 0..options.epochs {
            let mut order: Vec<usize> = (0..all.len()).collect();
            order.shuffle(&mut stream(task.seed, Purpose::Order, self.tasks, epoch, 0));
            let batches = batches(&order, options.batch);
            let (steps, mut sum) = (batches.len(), 0.0);
            for (step, batch) in batches.into_iter().enumerate() {
                let pairs: Vec<(usize, usize)> = batch.iter().map(|&index| all[index]).collect();
                let images = pairs.iter().map(|&(of, index)| {
                    let random = stream(task.seed, Purpose::Augment, of, epoch, index as u64);
                    (&*self.seen[of].examples()[index].image, random)
                });
                let x = augmented(self.seen[0].preprocessing(), task.augmentation, images, &model.device)?;
                let features =
                    model
                        .structure
                        .forward(&model.weights, &model.norms[0], &NoTransform, Mode::Train, &x)?;
                features.update(&mut model.norms[0]);
                let class = |&(of, index): &(usize, usize)| (of, self.seen[of].examples()[index].label);
                let rows: Vec<(usize, u32)> = pairs.iter().map(class).collect();
                let loss = model.sum_of_cross_entropies(&features.values, &rows)?;
                let loss = (loss / pairs.len() as f64)?;
                let value = f64::from(loss.to_scalar::<f32>()?);
                if !value.is_finite() {
                    return Err(ContinualError::Diverged {
                        method: "joint",
                        task: self.tasks,
                        epoch: epoch + 1,
                    });
                }
                sum += value;
                let position = epoch as f64 + (step + 1) as f64 / steps as f64;
                let rate = self.rate * options.schedule.factor(position, options.epochs) as f32;
                let gradients = gradients(&loss, &variables)?;
                optimiser.step(&mut current, &gradients, &vec![rate; variables.len()]);
                set_values(&variables, &current)?;
            }
            progress(epoch + 1, sum / steps.max(1) as f64);
        }
        Ok(())
    }
}

impl Learner for JointLearner {
    fn learn(
        &mut self,
        task: &Task<'_>,
        validation: &Images,
        options: &LearnerOptions,
        progress: &mut dyn FnMut(usize, f64),
    ) -> Result<()> {
        self.network.begin(task)?;
        self.network.fit_head(task, validation)?;
        self.seen.push(task.train.clone());
        if self.seen.len() == self.tasks {
            self.train(task, options, progress)?;
        }
        Ok(())
    }

    fn logits(&self, task: usize, images: &Images, indices: &[usize]) -> Result<Vec<Vec<f32>>> {
        self.network.logits(task, images, indices)
    }

    fn has_constant_logits(&self) -> bool {
        false
    }

    fn learns_all_at_once(&self) -> bool {
        true
    }

    fn cost(&self) -> Cost {
        Cost {
            training_passes: 3.0,
            ..Cost::default()
        }
    }

    fn head_values(&self) -> usize {
        self.network.head_values()
    }

    fn save(&self) -> Result<Vec<u8>> {
        self.network.save()
    }

    /// Joint training has no state before its end.
    fn restore(&mut self, tasks: usize, _: u64, _: &[u8]) -> Result<()> {
        check("tasks of a saved state of joint training", 0, tasks)
    }
}
