//! Online elastic weight consolidation (Schwarz et al. 2018): one penalty around the newest values.

use super::{
    Method, Task, Trained,
    ewc::{Anchor, IMAGES, fisher_information, fisher_passes},
    sgd::everything,
};
use crate::{error::Result, gradients::values, learner::Cost, model::Model, saved::Kept};

/// Loss: `CE + (λ/2) Σᵢ γF̃ᵢ (θᵢ − θ*ᵢ)²`. After a task, `F̃ ← γF̃ + F` and `θ* ← θ`.
pub struct OnlineEwc {
    /// Learning rate.
    pub rate: f32,
    /// λ.
    pub strength: f32,
    /// γ: how much of the older information is kept.
    pub keep: f32,
    anchor: Anchor,
}

impl OnlineEwc {
    /// Creates the method with its learning rate, λ and γ.
    pub fn new(rate: f32, strength: f32, keep: f32) -> Self {
        Self {
            rate,
            strength,
            keep,
            anchor: Anchor::default(),
        }
    }
}

impl Method for OnlineEwc {
    fn name(&self) -> &'static str {
        "online-ewc"
    }

    fn trained(&self, model: &Model, task: &Task<'_>, _: usize, _: usize) -> Trained {
        everything(model, task.index, self.rate)
    }

    fn penalise(&mut self, values: &[Vec<f32>], gradients: &mut [Vec<f32>]) -> f64 {
        let strength = self.strength * self.keep;
        self.anchor.penalise(strength, self.rate, values, gradients)
    }

    fn end(&mut self, model: &mut Model, task: &Task<'_>) -> Result<()> {
        let fisher = fisher_information(model, task)?;
        let anchor = &mut self.anchor;
        if anchor.importance.is_empty() {
            anchor.importance = fisher;
        } else {
            for (old, new) in anchor.importance.iter_mut().zip(fisher) {
                for (old, new) in old.iter_mut().zip(new) {
                    *old = self.keep * *old + new;
                }
            }
        }
        anchor.centre = values(&model.backbone_variables(0))?;
        Ok(())
    }

    fn save(&self) -> Result<Kept> {
        Ok(self.anchor.save())
    }

    fn restore(&mut self, _: &Model, _: usize, _: u64, kept: Kept) -> Result<()> {
        self.anchor = Anchor::restore(kept)?;
        Ok(())
    }

    fn cost(&self, model: &Model) -> Cost {
        Cost {
            training_values: 2 * model.values(),
            sampled_images: IMAGES,
            passes_per_sampled_image: fisher_passes(model),
            capped: self.anchor.capped,
            training_passes: 3.0,
            ..Cost::default()
        }
    }
}
