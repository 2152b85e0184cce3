//! Parameter superposition (Cheung et al. 2019): each task multiplies the shared weights by its own random
//! signs.

use candle_core::{Tensor, Var};
use rand::RngExt as _;

use super::{Batch, Method, Task, Trained, eval_features, train_features};
use crate::{
    error::Result,
    gradients::set_values,
    learner::Cost,
    loss::cross_entropy,
    model::Model,
    network::{ConvLayer, Norms, Transform},
    random::{Purpose, stream},
    saved::Kept,
};

/// Forward pass: `y = conv(x, W ⊙ oₜ)` with one sign per input channel and kernel tap, the same for all output channels. The first
/// convolution has no context, and norms are separate for each task.
///
/// The stored weights start as `W ⊙ o₁`, so that the first task begins at the backbone.
pub struct Psp {
    /// Learning rate.
    pub rate: f32,
    /// Whether tasks have signs.
    contexts_used: bool,
    /// Contexts of all tasks so far, one tensor per convolution.
    contexts: Vec<Context>,
    /// The backbone's norms.
    start: Option<Norms>,
}

impl Psp {
    /// Creates the method with its learning rate.
    pub fn new(rate: f32) -> Self {
        Self {
            rate,
            contexts_used: true,
            contexts: Vec::new(),
            start: None,
        }
    }

    fn context(&self, model: &Model, seed: u64, task: usize) -> Result<Context> {
        let layers = model.structure.convs().iter().enumerate();
        let signs = layers.map(|(index, layer)| {
            if index == 0 || !self.contexts_used {
                return Ok(None);
            }
            let signs = signs(seed, task, index, layer);
            Ok(Some(Tensor::from_vec(signs, &layer.shape, &model.device)?))
        });
        Ok(Context(signs.collect::<Result<_>>()?))
    }

    /// Makes all signs +1, which is fine-tuning with norms of each task.
    #[must_use]
    pub fn without_contexts(mut self) -> Self {
        self.contexts_used = false;
        self
    }
}

/// Signs of a task, of the shapes of the weights; `None` for the first convolution.
struct Context(Vec<Option<Tensor>>);

impl Transform for Context {
    fn weight(&self, conv: usize, weight: &Tensor) -> candle_core::Result<Tensor> {
        match &self.0[conv] {
            Some(signs) => weight * signs,
            None => Ok(weight.clone()),
        }
    }
}

/// Returns the signs of a convolution in a task, in the order of its weight `[O, I / groups, kh, kw]`: output channels of
/// one group share them.
pub(crate) fn signs(seed: u64, task: usize, index: usize, layer: &ConvLayer) -> Vec<f32> {
    let [outputs, inputs, rows, columns] = layer.shape;
    let groups = layer.options.groups;
    let each = inputs * rows * columns;
    let mut random = stream(seed, Purpose::Context, task, index, 0);
    let drawn: Vec<f32> = (0..groups * each)
        .map(|_| if random.random() { 1.0 } else { -1.0 })
        .collect();
    let of_output = |output: usize| &drawn[output / (outputs / groups) * each..][..each];
    (0..outputs)
        .flat_map(|output| of_output(output).iter().copied())
        .collect()
}

impl Method for Psp {
    fn name(&self) -> &'static str {
        "psp"
    }

    fn begin(&mut self, model: &mut Model, task: &Task<'_>) -> Result<()> {
        super::push_head(model, task)?;
        let context = self.context(model, task.seed, task.index)?;
        if let Some(start) = &self.start {
            model.norms.push(start.copied()?);
        } else {
            self.start = Some(model.norms[0].copied()?);
            let convs: Vec<Var> = model.weights.convs().to_vec();
            let turned = convs
                .iter()
                .enumerate()
                .map(|(index, weight)| Ok(context.weight(index, weight)?.flatten_all()?.to_vec1::<f32>()?));
            set_values(&convs, &turned.collect::<Result<Vec<_>>>()?)?;
        }
        self.contexts.push(context);
        Ok(())
    }

    fn trained(&self, model: &Model, task: &Task<'_>, _: usize, _: usize) -> Trained {
        let own = model.norms[task.index].variables();
        Trained::all(model.weights.variables(), super::MOMENTUM, self.rate)
            .and(own, self.rate)
            .and(model.heads[task.index].variables(), self.rate)
    }

    fn loss(&mut self, model: &mut Model, task: &Task<'_>, batch: &Batch<'_>) -> Result<Tensor> {
        let features = train_features(model, task.index, &self.contexts[task.index], &batch.x)?;
        cross_entropy(&model.heads[task.index].logits(&features)?, &batch.labels)
    }

    fn norms(&self, task: usize) -> usize {
        task
    }

    fn features(&self, model: &Model, task: usize, x: &Tensor) -> Result<Tensor> {
        eval_features(model, task, &self.contexts[task], x)
    }

    fn restore(&mut self, start: &Model, tasks: usize, seed: u64, _: Kept) -> Result<()> {
        self.start = Some(start.norms[0].copied()?);
        let contexts = (0..tasks).map(|task| self.context(start, seed, task));
        self.contexts = contexts.collect::<Result<_>>()?;
        Ok(())
    }

    fn cost(&self, model: &Model) -> Cost {
        Cost {
            values: 4.0 * model.norm_channels() as f64,
            // The signs are drawn again from the seed.
            bits: 0.0,
            training_passes: 3.0,
            ..Cost::default()
        }
    }
}
