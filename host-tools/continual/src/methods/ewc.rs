//! Elastic weight consolidation (Kirkpatrick et al. 2017): a quadratic penalty around the values after every old task,
//! weighted by the Fisher information of each value.

use candle_core::{Tensor, Var};
use rand::seq::SliceRandom as _;

use super::{Method, Task, Trained, sgd::everything};
use crate::{
    error::Result,
    gradients::{Vectors, gradients, values},
    learner::Cost,
    loss::log_softmax,
    model::Model,
    network::{Mode, NoTransform},
    random::{Purpose, stream},
    saved::{Kept, check},
};

/// Images that a Fisher information is the mean of.
pub(super) const IMAGES: usize = 200;

/// Loss: `CE + (λ/2) Σ_s Σᵢ Fᵢˢ (θᵢ − θ*ᵢˢ)²` over the old tasks `s`.
///
/// The penalties of all tasks are one: `(λ/2) Σᵢ (Aᵢ (θᵢ − θ̄ᵢ)² + rest)` with `A = ΣFˢ` and `θ̄ = ΣFˢθ*ˢ / A`.
pub struct Ewc {
    /// Learning rate.
    pub rate: f32,
    /// λ.
    pub strength: f32,
    anchor: Anchor,
}

/// A quadratic penalty around a point.
#[derive(Clone, Debug, Default)]
pub(super) struct Anchor {
    /// A.
    pub(super) importance: Vectors,
    /// θ̄.
    pub(super) centre: Vectors,
    /// The part of the penalty that does not depend on θ.
    pub(super) rest: f64,
    /// Values of A that were reduced so that a step cannot diverge.
    pub(super) capped: usize,
}

impl Anchor {
    pub(super) fn save(&self) -> Kept {
        Kept {
            vectors: self.importance.iter().chain(&self.centre).cloned().collect(),
            numbers: vec![self.rest.to_bits()],
            images: Vec::new(),
        }
    }

    pub(super) fn restore(kept: Kept) -> Result<Self> {
        let [rest] = *kept.numbers else {
            return Err(check("numbers of a penalty", 1, kept.numbers.len()).expect_err("they differ"));
        };
        let mut importance = kept.vectors;
        let centre = importance.split_off(importance.len() / 2);
        Ok(Self {
            importance,
            centre,
            rest: f64::from_bits(rest),
            capped: 0,
        })
    }

    /// Adds the gradient `strength · A (θ − θ̄)`, and returns the penalty. Without an anchor, nothing changes.
    ///
    /// A step diverges if `rate · strength · A > 2`; A counts as at most `1 / (rate · strength)`.
    pub(super) fn penalise(
        &mut self,
        strength: f32,
        rate: f32,
        values: &[Vec<f32>],
        gradients: &mut [Vec<f32>],
    ) -> f64 {
        if strength == 0.0 {
            return 0.0;
        }
        let most = 1.0 / (rate * strength);
        self.capped = 0;
        let mut penalty = self.rest;
        for (index, importance) in self.importance.iter().enumerate() {
            let anchors = importance.iter().zip(&self.centre[index]);
            for ((value, gradient), (importance, centre)) in
                values[index].iter().zip(&mut gradients[index]).zip(anchors)
            {
                self.capped += usize::from(*importance > most);
                let (importance, apart) = (importance.min(most), value - centre);
                *gradient += strength * importance * apart;
                penalty += f64::from(importance * apart * apart);
            }
        }
        0.5 * f64::from(strength) * penalty
    }
}

impl Ewc {
    /// Creates the method with its learning rate and λ.
    pub fn new(rate: f32, strength: f32) -> Self {
        Self {
            rate,
            strength,
            anchor: Anchor::default(),
        }
    }
}

impl Method for Ewc {
    fn name(&self) -> &'static str {
        "ewc"
    }

    fn trained(&self, model: &Model, task: &Task<'_>, _: usize, _: usize) -> Trained {
        everything(model, task.index, self.rate)
    }

    fn penalise(&mut self, values: &[Vec<f32>], gradients: &mut [Vec<f32>]) -> f64 {
        self.anchor.penalise(self.strength, self.rate, values, gradients)
    }

    fn end(&mut self, model: &mut Model, task: &Task<'_>) -> Result<()> {
        let fisher = fisher_information(model, task)?;
        let now = values(&model.backbone_variables(0))?;
        let anchor = &mut self.anchor;
        if anchor.importance.is_empty() {
            anchor.importance = fisher.iter().map(|values| vec![0.0; values.len()]).collect();
            anchor.centre = anchor.importance.clone();
        }
        for (index, fisher) in fisher.iter().enumerate() {
            let old = anchor.importance[index].iter_mut().zip(&mut anchor.centre[index]);
            for ((old, centre), (new, value)) in old.zip(fisher.iter().zip(&now[index])) {
                let sum = *old + new;
                if sum > 0.0 {
                    let apart = *centre - value;
                    anchor.rest += f64::from(*old * new / sum * apart * apart);
                    *centre = (*old * *centre + new * value) / sum;
                }
                *old = sum;
            }
        }
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
        // A and θ̄ only. The paper stores F and θ* of every task, which grows with the tasks.
        Cost {
            training_values: 2 * model.values(),
            reference_values: 2 * model.values() * model.heads.len(),
            sampled_images: IMAGES,
            passes_per_sampled_image: fisher_passes(model),
            capped: self.anchor.capped,
            training_passes: 3.0,
            ..Cost::default()
        }
    }
}

/// Returns the passes of an image in [`fisher_information`], in the mean over the tasks: one forward pass, and per class a
/// backward pass of twice its multiplications.
pub(super) fn fisher_passes(model: &Model) -> f64 {
    let classes: usize = model.heads.iter().map(|head| head.bias.elem_count()).sum();
    1.0 + 2.0 * classes as f64 / model.heads.len().max(1) as f64
}

/// Returns the exact Fisher information of the backbone's values: the mean over images of
/// `Σ_c p_c (∂ log p_c / ∂θ)²`, in inference mode.
pub(super) fn fisher_information(model: &Model, task: &Task<'_>) -> Result<Vectors> {
    let variables: Vec<Var> = model.backbone_variables(0);
    let mut sums: Vec<Vec<f64>> = variables
        .iter()
        .map(|variable| vec![0.0; variable.elem_count()])
        .collect();
    let mut order: Vec<usize> = (0..task.train.examples().len()).collect();
    order.shuffle(&mut stream(task.seed, Purpose::Fisher, task.index, 0, 0));
    order.truncate(IMAGES);
    for &image in &order {
        let x = task.train.tensor(&[image], &model.device)?;
        let features = (model.structure).forward(
            &model.weights,
            &model.norms[0],
            &NoTransform,
            Mode::EvalWithGradient,
            &x,
        )?;
        let features = features.values;
        let log_p: Tensor = log_softmax(&model.heads[task.index].logits(&features)?)?.squeeze(0)?;
        for (class, log_p_class) in log_p.to_vec1::<f32>()?.into_iter().enumerate() {
            let p = f64::from(log_p_class).exp();
            for (sums, gradient) in sums.iter_mut().zip(gradients(&log_p.get(class)?, &variables)?) {
                for (sum, gradient) in sums.iter_mut().zip(gradient) {
                    *sum += p * f64::from(gradient).powi(2);
                }
            }
        }
    }
    let count = order.len().max(1) as f64;
    let mean = |sums: Vec<f64>| sums.into_iter().map(|sum| (sum / count) as f32).collect();
    Ok(sums.into_iter().map(mean).collect())
}
