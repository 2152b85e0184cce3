//! Supermasks in superposition (Wortsman et al. 2020): a random network that never changes, and one mask of its weights
//! per task.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor, Var};
use rand::RngExt as _;

use super::{Batch, Method, Task, Trained, eval_features, train_features};
use crate::{
    error::Result,
    gradients::set_values,
    learner::Cost,
    loss::cross_entropy,
    model::Model,
    network::{ConvLayer, Norms, RunningStatistics, Transform},
    optimiser::OptimiserKind,
    random::{Purpose, stream},
    saved::{Kept, check},
};

/// Forward pass: every weight is `±√(2 / fan_in)`; a task has a score per weight, keeps the weights with the largest scores in
/// absolute value, and `y = conv(x, W ⊙ M)`. The gradient of a score is `∂L/∂(W ⊙ M) ⊙ W ⊙ sign S`.
///
/// Norms have statistics of each task, and no scale or bias.
pub struct SupSup {
    /// Learning rate of scores and heads.
    pub rate: f32,
    /// s: a layer keeps `s (C_out + C_in / groups)` of its weights, at most half.
    pub density: usize,
    /// Scores of the current task.
    scores: Vec<Var>,
    /// Masks of finished tasks: per convolution, whether each weight is kept.
    masks: Vec<Vec<Vec<bool>>>,
    /// Norms with scale 1, bias 0, mean 0 and variance 1.
    start: Option<Norms>,
}

impl SupSup {
    /// Creates the method with its learning rate and s.
    pub fn new(rate: f32, density: usize) -> Self {
        Self {
            rate,
            density,
            scores: Vec::new(),
            masks: Vec::new(),
            start: None,
        }
    }

    /// Returns the masks of finished tasks.
    pub fn masks(&self) -> &[Vec<Vec<bool>>] {
        &self.masks
    }
}

/// Returns the number of weights that a layer keeps.
pub(crate) fn kept(layer: &ConvLayer, density: usize) -> usize {
    let [outputs, inputs, ..] = layer.shape;
    let count: usize = layer.shape.iter().product();
    (count - count / 2).min(density * (outputs + inputs))
}

/// Returns the mask of the `keep` scores with the largest absolute value. Of equal ones, the first are kept.
pub(crate) fn mask(scores: &[f32], keep: usize) -> Vec<bool> {
    if keep >= scores.len() {
        return vec![true; scores.len()];
    }
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    let size = |index: &u32| scores[*index as usize].abs();
    order.select_nth_unstable_by(keep, |a, b| size(b).total_cmp(&size(a)).then(a.cmp(b)));
    let mut mask = vec![false; scores.len()];
    for &index in &order[..keep] {
        mask[index as usize] = true;
    }
    mask
}

/// Returns the constants of a convolution: `±√(2 / fan_in)` with random signs.
pub(crate) fn constants(seed: u64, index: usize, layer: &ConvLayer) -> Vec<f32> {
    let [_, inputs, rows, columns] = layer.shape;
    let size = (2.0 / (inputs * rows * columns) as f32).sqrt();
    let mut random = stream(seed, Purpose::Constants, 0, index, 0);
    let count = layer.shape.iter().product();
    (0..count).map(|_| if random.random() { size } else { -size }).collect()
}

/// Returns the first scores of a convolution: uniform in `±1 / √fan_in`.
pub(crate) fn scores(seed: u64, task: usize, index: usize, layer: &ConvLayer) -> Vec<f32> {
    let [_, inputs, rows, columns] = layer.shape;
    let bound = 1.0 / ((inputs * rows * columns) as f32).sqrt();
    let mut random = stream(seed, Purpose::Scores, task, index, 0);
    let count: usize = layer.shape.iter().product();
    (0..count).map(|_| random.random_range(-bound..bound)).collect()
}

/// Sets norms to scale 1, bias 0, mean 0 and variance 1.
fn without_affine(norms: &mut Norms) -> Result<()> {
    for index in 0..norms.len() {
        let [gamma, beta] = norms.affine(index);
        gamma.set(&gamma.ones_like()?)?;
        beta.set(&beta.zeros_like()?)?;
        let channels = gamma.elem_count();
        norms.running_mut()[index] = RunningStatistics {
            mean: vec![0.0; channels],
            variance: vec![1.0; channels],
        };
    }
    Ok(())
}

fn as_factors(mask: &[bool]) -> Vec<f32> {
    mask.iter().map(|&kept| f32::from(kept)).collect()
}

/// The masks of the current task, from its scores.
struct Scored<'a> {
    scores: &'a [Var],
    keep: Vec<usize>,
}

impl Transform for Scored<'_> {
    fn weight(&self, conv: usize, weight: &Tensor) -> candle_core::Result<Tensor> {
        let (scores, keep) = (&self.scores[conv], self.keep[conv]);
        if weight.device().is_cpu() {
            let constants = weight.detach();
            return scores.apply_op1(StraightThrough { constants, keep });
        }
        let values: Vec<f32> = scores.flatten_all()?.to_vec1()?;
        let mask = Tensor::from_vec(as_factors(&mask(&values, keep)), weight.shape(), weight.device())?;
        // The value is that of the mask, the gradient that of |S|.
        let size = scores.abs()?;
        weight.detach() * ((&size - size.detach())? + mask)?
    }
}

/// `W ⊙ M` of the scores, with the gradient `∂L/∂(W ⊙ M) ⊙ W ⊙ sign S`.
struct StraightThrough {
    constants: Tensor,
    keep: usize,
}

impl CustomOp1 for StraightThrough {
    fn name(&self) -> &'static str {
        "masked weight"
    }

    fn cpu_fwd(&self, scores: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("masked weight: expected contiguous scores");
        };
        let mask = mask(&scores.as_slice::<f32>()?[start..end], self.keep);
        let constants: Vec<f32> = self.constants.flatten_all()?.to_vec1()?;
        let kept = constants
            .iter()
            .zip(mask)
            .map(|(value, kept)| if kept { *value } else { 0.0 });
        Ok((CpuStorage::F32(kept.collect()), layout.shape().clone()))
    }

    fn bwd(&self, scores: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(((gradient * &self.constants)? * scores.sign()?)?))
    }
}

/// The masks of a finished task.
struct Masked(Vec<Tensor>);

impl Transform for Masked {
    fn weight(&self, conv: usize, weight: &Tensor) -> candle_core::Result<Tensor> {
        weight.detach() * &self.0[conv]
    }
}

impl SupSup {
    fn scored(&self, model: &Model) -> Scored<'_> {
        let layers = model.structure.convs().iter();
        Scored {
            scores: &self.scores,
            keep: layers.map(|layer| kept(layer, self.density)).collect(),
        }
    }
}

impl Method for SupSup {
    fn name(&self) -> &'static str {
        "supsup"
    }

    fn begin(&mut self, model: &mut Model, task: &Task<'_>) -> Result<()> {
        super::push_head(model, task)?;
        if let Some(start) = &self.start {
            model.norms.push(start.copied()?);
        } else {
            let convs = model.structure.convs().iter().enumerate();
            let constants: Vec<_> = convs.map(|(index, layer)| constants(task.seed, index, layer)).collect();
            set_values(model.weights.convs(), &constants)?;
            for index in 0..constants.len() {
                if let Some(bias) = model.weights.bias(index) {
                    bias.set(&bias.zeros_like()?)?;
                }
            }
            without_affine(&mut model.norms[0])?;
            self.start = Some(model.norms[0].copied()?);
        }
        let layers = model.structure.convs().iter().enumerate();
        let scores = layers.map(|(index, layer)| {
            let values = scores(task.seed, task.index, index, layer);
            Ok(Var::from_vec(values, &layer.shape, &model.device)?)
        });
        self.scores = scores.collect::<Result<_>>()?;
        Ok(())
    }

    /// Features of a random network are no start for a head.
    fn fits_head(&self) -> bool {
        false
    }

    fn trained(&self, model: &Model, task: &Task<'_>, _: usize, _: usize) -> Trained {
        Trained::all(self.scores.clone(), OptimiserKind::Adam, self.rate)
            .and(model.heads[task.index].variables(), self.rate)
    }

    fn loss(&mut self, model: &mut Model, task: &Task<'_>, batch: &Batch<'_>) -> Result<Tensor> {
        let transform = self.scored(model);
        let features = train_features(model, task.index, &transform, &batch.x)?;
        cross_entropy(&model.heads[task.index].logits(&features)?, &batch.labels)
    }

    #[cfg(test)]
    fn step_state(&self) -> Result<crate::Vectors> {
        crate::values(&self.scores)
    }

    fn end(&mut self, model: &mut Model, _: &Task<'_>) -> Result<()> {
        let layers = self.scores.iter().zip(model.structure.convs());
        let masks = layers.map(|(scores, layer)| {
            let scores: Vec<f32> = scores.flatten_all()?.to_vec1()?;
            Ok(mask(&scores, kept(layer, self.density)))
        });
        self.masks.push(masks.collect::<Result<_>>()?);
        self.scores.clear();
        Ok(())
    }

    fn norms(&self, task: usize) -> usize {
        task
    }

    fn features(&self, model: &Model, task: usize, x: &Tensor) -> Result<Tensor> {
        let Some(masks) = self.masks.get(task) else {
            return eval_features(model, task, &self.scored(model), x);
        };
        let masks = masks.iter().zip(model.structure.convs());
        let masks = masks.map(|(mask, layer)| Ok(Tensor::from_vec(as_factors(mask), &layer.shape, &model.device)?));
        eval_features(model, task, &Masked(masks.collect::<Result<_>>()?), x)
    }

    fn has_constant_logits(&self) -> bool {
        true
    }

    /// Sixty-four weights of a mask are one number.
    fn save(&self) -> Result<Kept> {
        let bits = |mask: &Vec<bool>| {
            let words = mask.chunks(64);
            words
                .map(|word| word.iter().rev().fold(0, |bits, &kept| bits << 1 | u64::from(kept)))
                .collect::<Vec<u64>>()
        };
        Ok(Kept {
            numbers: self.masks.iter().flatten().flat_map(bits).collect(),
            ..Kept::default()
        })
    }

    fn restore(&mut self, start: &Model, tasks: usize, _: u64, kept: Kept) -> Result<()> {
        let mut norms = start.norms[0].copied()?;
        without_affine(&mut norms)?;
        self.start = Some(norms);
        let counts = start
            .structure
            .convs()
            .iter()
            .map(|layer| layer.shape.iter().product::<usize>());
        let counts: Vec<usize> = counts.collect();
        let words: usize = counts.iter().map(|count| count.div_ceil(64)).sum();
        check("words of masks", tasks * words, kept.numbers.len())?;
        let mut numbers = kept.numbers.into_iter();
        let mask = |&count: &usize| {
            let words: Vec<u64> = numbers.by_ref().take(count.div_ceil(64)).collect();
            (0..count)
                .map(|index| words[index / 64] >> (index % 64) & 1 == 1)
                .collect()
        };
        let all: Vec<Vec<bool>> = counts.iter().cycle().take(tasks * counts.len()).map(mask).collect();
        self.masks = all.chunks(counts.len().max(1)).map(<[_]>::to_vec).collect();
        Ok(())
    }

    fn cost(&self, model: &Model) -> Cost {
        let weights = model
            .structure
            .convs()
            .iter()
            .map(|layer| layer.shape.iter().product::<usize>());
        Cost {
            values: 2.0 * model.norm_channels() as f64,
            bits: weights.sum::<usize>() as f64,
            training_passes: 3.0,
            ..Cost::default()
        }
    }
}
