//! A separate network for each task, fine-tuned from the backbone: a reference that forgets nothing and stores everything.

use candle_core::Tensor;

use super::{Method, Task, Trained, eval_features, sgd::everything};
use crate::{
    error::Result,
    gradients::{set_values, values},
    learner::Cost,
    model::Model,
    network::{NoTransform, Norms, Weights},
    saved::{Kept, check},
};

/// Fine-tuning from the backbone in every task.
pub struct Independent {
    /// Learning rate.
    pub rate: f32,
    /// The backbone.
    start: Option<(Weights, Norms)>,
    /// The networks of finished tasks.
    finished: Vec<(Weights, Norms)>,
}

impl Independent {
    /// Creates the method with its learning rate.
    pub fn new(rate: f32) -> Self {
        Self {
            rate,
            start: None,
            finished: Vec::new(),
        }
    }
}

impl Method for Independent {
    fn name(&self) -> &'static str {
        "independent"
    }

    fn begin(&mut self, model: &mut Model, task: &Task<'_>) -> Result<()> {
        super::push_head(model, task)?;
        let (weights, norms) = match &self.start {
            Some(start) => start,
            None => self.start.insert((model.weights.copied()?, model.norms[0].copied()?)),
        };
        (model.weights, model.norms[0]) = (weights.copied()?, norms.copied()?);
        Ok(())
    }

    fn trained(&self, model: &Model, task: &Task<'_>, _: usize, _: usize) -> Trained {
        everything(model, task.index, self.rate)
    }

    fn end(&mut self, model: &mut Model, _: &Task<'_>) -> Result<()> {
        self.finished.push((model.weights.copied()?, model.norms[0].copied()?));
        Ok(())
    }

    fn features(&self, model: &Model, task: usize, x: &Tensor) -> Result<Tensor> {
        let Some((weights, norms)) = self.finished.get(task) else {
            return eval_features(model, 0, &NoTransform, x);
        };
        let mode = crate::network::Mode::Eval;
        Ok(model.structure.forward(weights, norms, &NoTransform, mode, x)?.values)
    }

    fn has_constant_logits(&self) -> bool {
        true
    }

    fn save(&self) -> Result<Kept> {
        let mut kept = Kept::default();
        for (weights, norms) in &self.finished {
            kept.vectors.extend(values(&weights.variables())?);
            kept.vectors.extend(values(&norms.variables())?);
            let running = norms.running().iter();
            kept.vectors
                .extend(running.flat_map(|one| [one.mean.clone(), one.variance.clone()]));
        }
        Ok(kept)
    }

    fn restore(&mut self, start: &Model, tasks: usize, _: u64, kept: Kept) -> Result<()> {
        self.start = Some((start.weights.copied()?, start.norms[0].copied()?));
        let mut vectors = kept.vectors.into_iter();
        for _ in 0..tasks {
            let (weights, mut norms) = (start.weights.copied()?, start.norms[0].copied()?);
            for variables in [weights.variables(), norms.variables()] {
                let values: Vec<_> = vectors.by_ref().take(variables.len()).collect();
                check("vectors of a network", variables.len(), values.len())?;
                set_values(&variables, &values)?;
            }
            for running in norms.running_mut() {
                running.mean = vectors.next().unwrap_or_default();
                running.variance = vectors.next().unwrap_or_default();
            }
            self.finished.push((weights, norms));
        }
        Ok(())
    }

    fn cost(&self, model: &Model) -> Cost {
        Cost {
            values: (model.values() + 2 * model.norm_channels()) as f64,
            training_passes: 3.0,
            ..Cost::default()
        }
    }
}
