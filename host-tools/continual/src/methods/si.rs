//! Synaptic intelligence (Zenke et al. 2017): a quadratic penalty, weighted by how much each value reduced the loss on
//! its way.

use super::{Batch, Method, Task, Trained, sgd::everything};
use crate::{
    error::Result,
    gradients::{Vectors, values},
    learner::Cost,
    model::Model,
    saved::Kept,
};

/// Loss: `CE + c Σᵢ Ωᵢ (θᵢ − θ*ᵢ)²`. Each step adds `−gᵢ Δθᵢ` to ωᵢ, where g is the gradient of CE alone; after a task,
/// `Ωᵢ ← max(0, Ωᵢ + ωᵢ / ((θᵢ − θ*ᵢ)² + ξ))` and `θ* ← θ`.
pub struct SynapticIntelligence {
    /// Learning rate.
    pub rate: f32,
    /// c.
    pub strength: f32,
    /// ξ.
    pub damping: f32,
    /// Ω.
    importance: Vectors,
    /// θ*.
    anchor: Vectors,
    /// ω of the current task.
    path: Vectors,
    /// g of the current step.
    gradient: Vectors,
    /// θ before the current step.
    before: Vectors,
}

impl SynapticIntelligence {
    /// Creates the method with its learning rate, c and ξ.
    pub fn new(rate: f32, strength: f32, damping: f32) -> Self {
        Self {
            rate,
            strength,
            damping,
            importance: Vec::new(),
            anchor: Vec::new(),
            path: Vec::new(),
            gradient: Vec::new(),
            before: Vec::new(),
        }
    }
}

impl Method for SynapticIntelligence {
    fn name(&self) -> &'static str {
        "si"
    }

    fn begin(&mut self, model: &mut Model, task: &Task<'_>) -> Result<()> {
        super::push_head(model, task)?;
        if self.anchor.is_empty() {
            self.anchor = values(&model.backbone_variables(0))?;
            self.importance = self.anchor.iter().map(|values| vec![0.0; values.len()]).collect();
        }
        self.path = self.anchor.iter().map(|values| vec![0.0; values.len()]).collect();
        Ok(())
    }

    fn trained(&self, model: &Model, task: &Task<'_>, _: usize, _: usize) -> Trained {
        everything(model, task.index, self.rate)
    }

    fn penalise(&mut self, values: &[Vec<f32>], gradients: &mut [Vec<f32>]) -> f64 {
        self.gradient = gradients[..self.anchor.len()].to_vec();
        self.before = values[..self.anchor.len()].to_vec();
        if self.strength == 0.0 {
            return 0.0;
        }
        let mut penalty = 0.0;
        for (index, importance) in self.importance.iter().enumerate() {
            let anchors = importance.iter().zip(&self.anchor[index]);
            for ((value, gradient), (importance, anchor)) in
                values[index].iter().zip(&mut gradients[index]).zip(anchors)
            {
                let apart = value - anchor;
                *gradient += 2.0 * self.strength * importance * apart;
                penalty += f64::from(importance * apart * apart);
            }
        }
        f64::from(self.strength) * penalty
    }

    fn stepped(&mut self, _: &Task<'_>, _: &Batch<'_>, after: &[Vec<f32>]) -> Result<()> {
        for (index, path) in self.path.iter_mut().enumerate() {
            let moves = self.before[index].iter().zip(&after[index]);
            for ((path, gradient), (before, after)) in path.iter_mut().zip(&self.gradient[index]).zip(moves) {
                *path -= gradient * (after - before);
            }
        }
        Ok(())
    }

    #[cfg(test)]
    fn step_state(&self) -> Result<Vectors> {
        Ok(self.path.clone())
    }

    fn end(&mut self, model: &mut Model, _: &Task<'_>) -> Result<()> {
        let now = values(&model.backbone_variables(0))?;
        for (index, importance) in self.importance.iter_mut().enumerate() {
            let moves = now[index].iter().zip(&self.anchor[index]);
            for ((importance, path), (now, anchor)) in importance.iter_mut().zip(&self.path[index]).zip(moves) {
                let apart = now - anchor;
                *importance = (*importance + path / (apart * apart + self.damping)).max(0.0);
            }
        }
        self.anchor = now;
        Ok(())
    }

    fn save(&self) -> Result<Kept> {
        Ok(Kept {
            vectors: self.importance.iter().chain(&self.anchor).cloned().collect(),
            ..Kept::default()
        })
    }

    fn restore(&mut self, _: &Model, _: usize, _: u64, kept: Kept) -> Result<()> {
        self.importance = kept.vectors;
        self.anchor = self.importance.split_off(self.importance.len() / 2);
        Ok(())
    }

    fn cost(&self, model: &Model) -> Cost {
        Cost {
            training_values: 2 * model.values(),
            training_passes: 3.0,
            ..Cost::default()
        }
    }
}
