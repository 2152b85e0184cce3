//! Learning without forgetting (Li and Hoiem 2016): distillation of the old heads' logits on the new task's images.

use candle_core::Tensor;

use super::{Batch, Method, Task, Trained, train_features};
use crate::{
    error::Result,
    learner::Cost,
    loss::{cross_entropy, distillation},
    model::Model,
    network::NoTransform,
};

/// Loss: `CE + α Σ_s KD_s` over the old tasks `s`, where KD is the distillation of the logits that the old network gave
/// for the same image without augmentation.
pub struct Lwf {
    /// Learning rate.
    pub rate: f32,
    /// α.
    pub strength: f32,
    /// τ.
    pub temperature: f64,
    /// Per old task: logits `[images, K]` of all training images of the current task.
    targets: Vec<Tensor>,
}

impl Lwf {
    /// Creates the method with its learning rate, α and τ.
    pub fn new(rate: f32, strength: f32, temperature: f64) -> Self {
        Self {
            rate,
            strength,
            temperature,
            targets: Vec::new(),
        }
    }
}

impl Method for Lwf {
    fn name(&self) -> &'static str {
        "lwf"
    }

    fn begin(&mut self, model: &mut Model, task: &Task<'_>) -> Result<()> {
        let images: Vec<usize> = (0..task.train.examples().len()).collect();
        let mut rows = vec![Vec::new(); task.index];
        for chunk in images.chunks(50) {
            let x = task.train.tensor(chunk, &model.device)?;
            let features = super::eval_features(model, 0, &NoTransform, &x)?;
            for (rows, head) in rows.iter_mut().zip(&model.heads) {
                rows.push(head.logits(&features)?.detach());
            }
        }
        self.targets = rows
            .iter()
            .map(|rows| Ok(Tensor::cat(rows, 0)?))
            .collect::<Result<_>>()?;
        super::push_head(model, task)
    }

    /// With a strength of 0, the old heads are not part of the loss and do not move.
    fn trained(&self, model: &Model, _: &Task<'_>, _: usize, _: usize) -> Trained {
        let heads = model.heads.iter().flat_map(super::Head::variables);
        Trained::all(model.backbone_variables(0), super::MOMENTUM, self.rate).and(heads, self.rate)
    }

    fn loss(&mut self, model: &mut Model, task: &Task<'_>, batch: &Batch<'_>) -> Result<Tensor> {
        let features = train_features(model, 0, &NoTransform, &batch.x)?;
        let mut loss = cross_entropy(&model.heads[task.index].logits(&features)?, &batch.labels)?;
        if self.strength == 0.0 {
            return Ok(loss);
        }
        let indices: Vec<u32> = batch.indices.iter().map(|&index| index as u32).collect();
        let indices = Tensor::from_slice(&indices, indices.len(), &model.device)?;
        for (targets, head) in self.targets.iter().zip(&model.heads) {
            let target = targets.index_select(&indices, 0)?;
            let kept = distillation(&head.logits(&features)?, &target, self.temperature)?;
            loss = (loss + (kept * f64::from(self.strength))?)?;
        }
        Ok(loss)
    }

    #[cfg(test)]
    fn step_state(&self) -> Result<crate::Vectors> {
        let targets = self.targets.iter();
        targets.map(|rows| Ok(rows.flatten_all()?.to_vec1()?)).collect()
    }

    fn cost(&self, _: &Model) -> Cost {
        Cost {
            training_passes: 3.0,
            // The targets.
            passes_per_image: 1.0,
            ..Cost::default()
        }
    }
}
