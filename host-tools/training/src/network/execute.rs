//! Execution of the lowered graph in candle.

use candle_core::{D, Tensor};
use clr_learning::{ChannelStatistics, Network, Site};
use clr_onnx::Activation;

use super::{
    CandleBackbone, Mode, TaskTensors,
    frozen::FrozenSite,
    lowered_graph::{Step, StepKind},
};
use crate::{
    error::{Result, TrainError},
    ops,
};

impl CandleBackbone {
    /// Returns logits `[N, K]` of preprocessed images `[N, 3, H, W]`. The network changes only with
    /// [`Mode::TrainOnBatch`], which updates its running averages.
    pub fn forward(&self, network: &mut Network, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let task = TaskTensors::new(network, self.device(), false)?;
        let features = self.training_features(&task, network, x, mode)?;
        Self::classify(&task, &features)
    }

    /// Returns logits in inference mode.
    pub fn logits(&self, network: &Network, x: &Tensor) -> Result<Tensor> {
        let task = TaskTensors::new(network, self.device(), false)?;
        Self::classify(&task, &self.fixed_features(&task, x)?)
    }

    /// Returns features `[N, F]` in inference mode.
    pub fn features(&self, network: &Network, x: &Tensor) -> Result<Tensor> {
        self.fixed_features(&TaskTensors::new(network, self.device(), false)?, x)
    }

    /// Returns features `[N, F]` with the network's current statistics.
    fn fixed_features(&self, task: &TaskTensors, x: &Tensor) -> Result<Tensor> {
        self.run(x, |index, frozen, conv| Ok(task.sites[index].forward(conv, frozen)?))
    }

    /// Returns features `[N, F]` with the statistics that `mode` selects.
    pub(super) fn training_features(
        &self,
        task: &TaskTensors,
        network: &mut Network,
        x: &Tensor,
        mode: Mode,
    ) -> Result<Tensor> {
        let Mode::TrainOnBatch { momentum } = mode else {
            return self.fixed_features(task, x);
        };
        let mut collected: Vec<(usize, ChannelStatistics)> = Vec::new();
        let features = self.run(x, |index, frozen, conv| {
            let site = &task.sites[index];
            match site.forward_batch(conv, frozen.activation())? {
                Some((y, statistics)) => {
                    collected.push((index, statistics));
                    Ok(y)
                }
                None => Ok(site.forward(conv, frozen)?),
            }
        })?;
        for (index, statistics) in collected {
            if let Site::Normed(site) = &mut network.sites_mut()[index] {
                site.update_running(&statistics, momentum);
            }
        }
        Ok(features)
    }

    /// Returns logits `[N, K]` of features `[N, F]`.
    pub(super) fn classify(task: &TaskTensors, features: &Tensor) -> Result<Tensor> {
        Ok(features
            .matmul(&task.head_weight.t()?)?
            .broadcast_add(&task.head_bias)?)
    }

    /// Executes the graph. After each convolution, calls `site(index, site, output of the convolution)` for the task's
    /// result.
    pub(super) fn run(
        &self,
        x: &Tensor,
        mut site: impl FnMut(usize, &FrozenSite, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let mut values: Vec<Option<Tensor>> = vec![None; self.graph.values];
        values[0] = Some(x.clone());
        for step in &self.graph.steps {
            let output = {
                let inputs = (step.inputs.iter())
                    .map(|input| values[input.0].as_ref().ok_or_else(|| missing(step)))
                    .collect::<Result<Vec<_>>>()?;
                match &step.kind {
                    StepKind::Site(index) => {
                        let frozen = self.graph.sites[*index].as_ref().ok_or_else(|| missing(step))?;
                        let y = site(*index, frozen, &frozen.conv.forward(inputs[0])?)?;
                        let y = frozen
                            .inner
                            .map_or(Ok(y.clone()), |grid| ops::round_to_grid(&y, grid))?;
                        match inputs.get(1) {
                            Some(shortcut) => add(&y, shortcut, frozen.sum_activation())?,
                            None => y,
                        }
                    }
                    _ => execute(step, &inputs)?,
                }
            };
            values[step.output.0] = Some(match step.grid {
                Some(grid) => ops::round_to_grid(&output, grid)?,
                None => output,
            });
            for released in &step.release {
                values[released.0] = None;
            }
        }
        let features = values[self.graph.features.0].take();
        features.ok_or_else(|| TrainError::Node {
            node: "features".into(),
            reason: "the graph does not produce them".into(),
        })
    }
}

fn missing(step: &Step) -> TrainError {
    TrainError::Node {
        node: step.name.clone(),
        reason: "an input is not computed before it".to_owned(),
    }
}

fn execute(step: &Step, inputs: &[&Tensor]) -> Result<Tensor> {
    let x = *inputs.first().ok_or_else(|| missing(step))?;
    let second = || inputs.get(1).copied().ok_or_else(|| missing(step));
    Ok(match &step.kind {
        StepKind::Site(_) => return Err(missing(step)),
        StepKind::Affine {
            scale,
            bias,
            activation,
        } => ops::scale_shift(&spatial(x)?, scale, bias, *activation)?.reshape(x.shape())?,
        StepKind::Activation(activation) => ops::activation(x, *activation)?,
        StepKind::Round(grid) => ops::round_to_grid(x, *grid)?,
        StepKind::PRelu(slope) => ops::prelu(x, slope)?,
        StepKind::Add { activation } => add(x, second()?, *activation)?,
        StepKind::Mul => {
            let y = second()?;
            if x.shape() == y.shape() {
                (x * y)?
            } else {
                x.broadcast_mul(y)?
            }
        }
        StepKind::Gather(index) => {
            let joined = match inputs {
                [one] => (*one).clone(),
                several => Tensor::cat(several, 1)?,
            };
            match index {
                Some(index) => joined.contiguous()?.index_select(index, 1)?,
                None => joined,
            }
        }
        StepKind::MaxPool(pool) => ops::max_pool(x, pool)?,
        StepKind::AveragePool(pool) => ops::average_pool(x, pool)?,
        StepKind::GlobalAveragePool => ops::global_average_pool(x)?,
        StepKind::Flatten => x.flatten_from(1)?,
        StepKind::Dense { weight, bias } => weight.forward(&spatial(x)?)?.flatten_from(1)?.broadcast_add(bias)?,
        StepKind::Unflatten => x.unsqueeze(D::Minus1)?.unsqueeze(D::Minus1)?,
        StepKind::Plain(plain) => plain.forward(x)?,
    })
}

/// Computes `activation(x + y)`. One operand may be broadcast.
fn add(x: &Tensor, y: &Tensor, activation: Option<Activation>) -> candle_core::Result<Tensor> {
    if x.shape() == y.shape() {
        return ops::add_activation(x, y, activation);
    }
    let sum = x.broadcast_add(y)?;
    activation.map_or(Ok(sum.clone()), |activation| ops::activation(&sum, activation))
}

/// Reshapes `[N, C]` to `[N, C, 1, 1]`; a tensor with four dimensions stays as it is.
fn spatial(x: &Tensor) -> candle_core::Result<Tensor> {
    if x.rank() == 2 {
        x.unsqueeze(D::Minus1)?.unsqueeze(D::Minus1)
    } else {
        Ok(x.clone())
    }
}
