//! Efficient feature transformations (Verma et al. 2021): grouped convolutions after every convolution of a network that
//! the first task has trained.

use candle_core::{Tensor, Var};
use clr_onnx::Padding;
use clr_training::ops::ConvOptions;

use super::{Batch, MOMENTUM, Method, Task, Trained, eval_features, sgd::everything, train_features};
use crate::{
    error::Result,
    gradients::{set_values, values},
    learner::Cost,
    loss::cross_entropy,
    model::Model,
    network::{ConvLayer, Mode, Transform, copied},
    ops::{add_bias, conv},
    saved::{Kept, check},
};

/// Forward pass: `F′ = G₃(F) + G₁(F)` between each convolution and its norm. G₃ has 3×3 kernels in groups of 8 channels, G₁ 1×1
/// kernels in groups of 16. The first task trains everything, later ones the transformations, norms and heads, from those
/// of the task before.
pub struct Eft {
    /// Learning rate.
    pub rate: f32,
    /// Whether the first task leaves the backbone's weights as they are, too.
    pretrained: bool,
    /// The transformations of each task.
    tasks: Vec<Transformations>,
}

impl Eft {
    /// Creates the method with its learning rate.
    pub fn new(rate: f32) -> Self {
        Self {
            rate,
            pretrained: false,
            tasks: Vec::new(),
        }
    }

    /// Leaves the backbone's weights as they are in the first task, too.
    #[must_use]
    pub fn on_the_backbone(mut self) -> Self {
        self.pretrained = true;
        self
    }
}

/// A grouped convolution with a bias.
#[derive(Clone)]
struct Grouped {
    weight: Var,
    bias: Var,
    groups: usize,
}

impl Grouped {
    fn new(channels: usize, each: usize, kernel: usize, identity: bool, model: &Model) -> Result<Self> {
        let groups = groups(channels, each);
        let inputs = channels / groups;
        let mut weight = vec![0.0_f32; channels * inputs * kernel * kernel];
        if identity {
            for channel in 0..channels {
                let row = (channel * inputs + channel % inputs) * kernel * kernel;
                weight[row + kernel * kernel / 2] = 1.0;
            }
        }
        Ok(Self {
            weight: Var::from_vec(weight, (channels, inputs, kernel, kernel), &model.device)?,
            bias: Var::from_vec(vec![0.0_f32; channels], channels, &model.device)?,
            groups,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let options = ConvOptions {
            stride: [1; 2],
            dilation: [1; 2],
            groups: self.groups,
            padding: Padding::SameUpper,
        };
        add_bias(&conv(x, &self.weight, options)?, &self.bias)
    }

    fn copied(&self) -> Result<Self> {
        Ok(Self {
            weight: copied(&self.weight)?,
            bias: copied(&self.bias)?,
            groups: self.groups,
        })
    }
}

/// Returns the number of groups: ⌊channels / each⌋, at least one, lowered until it divides the channels.
pub(super) fn groups(channels: usize, each: usize) -> usize {
    let most = (channels / each).max(1);
    (1..=most)
        .rev()
        .find(|groups| channels.is_multiple_of(*groups))
        .unwrap_or(1)
}

/// G₃ and G₁ of every convolution.
#[derive(Clone)]
struct Transformations(Vec<[Grouped; 2]>);

impl Transformations {
    fn identity(model: &Model) -> Result<Self> {
        let convs = model.structure.convs().iter();
        let both = convs.map(|layer| {
            let channels = layer.shape[0];
            Ok([
                Grouped::new(channels, 8, 3, true, model)?,
                Grouped::new(channels, 16, 1, false, model)?,
            ])
        });
        Ok(Self(both.collect::<Result<_>>()?))
    }

    fn copied(&self) -> Result<Self> {
        let both = self
            .0
            .iter()
            .map(|[wide, narrow]| Ok([wide.copied()?, narrow.copied()?]));
        Ok(Self(both.collect::<Result<_>>()?))
    }

    fn variables(&self) -> impl Iterator<Item = Var> {
        let both = self.0.iter().flatten();
        both.flat_map(|grouped| [grouped.weight.clone(), grouped.bias.clone()])
    }
}

impl Transform for Transformations {
    fn output(&self, conv: usize, y: Tensor, _: Mode) -> candle_core::Result<Tensor> {
        let [wide, narrow] = &self.0[conv];
        wide.forward(&y)? + narrow.forward(&y)?
    }
}

/// As [`Transformations`], on weights that do not change.
struct Frozen<'a>(&'a Transformations);

impl Transform for Frozen<'_> {
    fn weight(&self, _: usize, weight: &Tensor) -> candle_core::Result<Tensor> {
        Ok(weight.detach())
    }

    fn output(&self, conv: usize, y: Tensor, mode: Mode) -> candle_core::Result<Tensor> {
        self.0.output(conv, y, mode)
    }
}

impl Method for Eft {
    fn name(&self) -> &'static str {
        if self.pretrained { "eft-pretrained" } else { "eft" }
    }

    fn begin(&mut self, model: &mut Model, task: &Task<'_>) -> Result<()> {
        super::push_head(model, task)?;
        let (next, norms) = match self.tasks.last() {
            Some(last) => (last.copied()?, Some(model.norms[task.index - 1].copied()?)),
            None => (Transformations::identity(model)?, None),
        };
        self.tasks.push(next);
        model.norms.extend(norms);
        Ok(())
    }

    fn trained(&self, model: &Model, task: &Task<'_>, _: usize, _: usize) -> Trained {
        let own = self.tasks[task.index].variables();
        if task.index == 0 && !self.pretrained {
            return everything(model, 0, self.rate).and(own, self.rate);
        }
        Trained::all(model.norms[task.index].variables(), MOMENTUM, self.rate)
            .and(model.heads[task.index].variables(), self.rate)
            .and(own, self.rate)
    }

    fn loss(&mut self, model: &mut Model, task: &Task<'_>, batch: &Batch<'_>) -> Result<Tensor> {
        let own = &self.tasks[task.index];
        let features = if task.index == 0 && !self.pretrained {
            train_features(model, 0, own, &batch.x)?
        } else {
            train_features(model, task.index, &Frozen(own), &batch.x)?
        };
        cross_entropy(&model.heads[task.index].logits(&features)?, &batch.labels)
    }

    #[cfg(test)]
    fn step_state(&self) -> Result<crate::Vectors> {
        let own = self.tasks.last().map(Transformations::variables);
        values(&own.into_iter().flatten().collect::<Vec<_>>())
    }

    fn norms(&self, task: usize) -> usize {
        task
    }

    fn features(&self, model: &Model, task: usize, x: &Tensor) -> Result<Tensor> {
        eval_features(model, task, &self.tasks[task], x)
    }

    fn has_constant_logits(&self) -> bool {
        true
    }

    fn save(&self) -> Result<Kept> {
        let variables: Vec<Var> = self.tasks.iter().flat_map(Transformations::variables).collect();
        Ok(Kept {
            vectors: values(&variables)?,
            ..Kept::default()
        })
    }

    fn restore(&mut self, start: &Model, tasks: usize, _: u64, kept: Kept) -> Result<()> {
        let own = (0..tasks).map(|_| Transformations::identity(start));
        self.tasks = own.collect::<Result<_>>()?;
        let variables: Vec<Var> = self.tasks.iter().flat_map(Transformations::variables).collect();
        check("vectors of transformations", variables.len(), kept.vectors.len())?;
        set_values(&variables, &kept.vectors)
    }

    fn cost(&self, model: &Model) -> Cost {
        let of = |layer: &ConvLayer| {
            let channels = layer.shape[0];
            channels * (9 * channels / groups(channels, 8) + channels / groups(channels, 16))
        };
        let layers = model.structure.convs().iter();
        let values: usize = layers.map(|layer| of(layer) + 2 * layer.shape[0]).sum();
        Cost {
            values: (values + 4 * model.norm_channels()) as f64,
            training_passes: 2.0 + 3.0 * model.share_of_multiplications(of),
            // It also trains the weights.
            first_task_passes: if self.pretrained { 0.0 } else { 1.0 },
            ..Cost::default()
        }
    }
}
