//! The forward pass.

use candle_core::{D, Tensor};
use clr_learning::ChannelStatistics;
use clr_training::ops as plain;

use super::{
    Norms, Structure, Transform, Weights,
    structure::{Kind, Step},
};
use crate::{
    error::{ContinualError, Result},
    ops::{activation, add_bias, batch_norm, conv},
};

/// Which statistics the norms use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Those of the batch.
    Train,
    /// The running ones. The features have no gradient, so that each map is freed as soon as no step reads it.
    Eval,
    /// The running ones, with gradients.
    EvalWithGradient,
}

/// Features of a batch.
pub struct Features {
    /// `[N, F]`.
    pub values: Tensor,
    /// The statistics of the batch at each norm, with [`Mode::Train`].
    pub statistics: Vec<(usize, ChannelStatistics)>,
}

impl Features {
    /// Moves the running statistics of a set of norms towards those of this batch (PyTorch's default momentum, 0.1).
    pub fn update(&self, norms: &mut Norms) {
        for (norm, statistics) in &self.statistics {
            norms.running_mut()[*norm].update(statistics, 0.1);
        }
    }
}

impl Structure {
    /// Computes features of preprocessed images `x` `[N, 3, H, W]`.
    ///
    /// # Errors
    /// [`ContinualError`] if the sizes do not fit.
    pub fn forward(
        &self,
        weights: &Weights,
        norms: &Norms,
        transform: &dyn Transform,
        mode: Mode,
        x: &Tensor,
    ) -> Result<Features> {
        let mut values: Vec<Option<Tensor>> = vec![None; self.steps.len() + 1];
        values[0] = Some(x.clone());
        let mut statistics = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            let inputs = (step.inputs.iter()).map(|&input| values[input].as_ref().ok_or_else(missing));
            let inputs = inputs.collect::<Result<Vec<_>>>()?;
            let x = *inputs.first().ok_or_else(missing)?;
            let y = match step.kind {
                Kind::Conv(at) => {
                    transform.input(at, x, mode)?;
                    let weight = transform.weight(at, weights.conv(at))?;
                    let y = conv(x, &weight, self.convs()[at].options)?;
                    let y = match weights.bias(at) {
                        Some(bias) => add_bias(&y, bias)?,
                        None => y,
                    };
                    transform.output(at, y, mode)?
                }
                Kind::Norm { norm, epsilon } => {
                    let [gamma, beta] = norms.affine(norm);
                    let fixed = (mode != Mode::Train).then(|| norms.running()[norm].fixed());
                    let (y, of_batch) = batch_norm(x, gamma, beta, epsilon, fixed.as_ref())?;
                    if mode == Mode::Train {
                        statistics.push((norm, of_batch));
                    }
                    y
                }
                _ => compute(step, weights, x, &inputs)?,
            };
            values[index + 1] = Some(if mode == Mode::Eval { y.detach() } else { y });
            for &released in &step.release {
                values[released] = None;
            }
        }
        let values = values[self.features].take().ok_or_else(missing)?;
        Ok(Features { values, statistics })
    }
}

fn missing() -> ContinualError {
    ContinualError::Mismatch {
        what: "a step of the network",
        expected: "inputs that were computed before".to_owned(),
        got: "none".to_owned(),
    }
}

fn compute(step: &Step, weights: &Weights, x: &Tensor, inputs: &[&Tensor]) -> Result<Tensor> {
    let second = || inputs.get(1).copied().ok_or_else(missing);
    Ok(match &step.kind {
        Kind::Conv(_) | Kind::Norm { .. } => return Err(missing()),
        Kind::Dense(at) => {
            let [weight, bias] = weights.dense(*at);
            x.matmul(&weight.t()?)?.broadcast_add(bias)?
        }
        Kind::Affine(at) => match weights.vectors(*at) {
            [scale, bias] => {
                let shaped = |vector: &Tensor| {
                    let mut shape = vec![1; x.rank()];
                    shape[1] = vector.elem_count();
                    vector.reshape(shape)
                };
                x.broadcast_mul(&shaped(scale)?)?.broadcast_add(&shaped(bias)?)?
            }
            _ => return Err(missing()),
        },
        Kind::PRelu(at) => plain::prelu(x, weights.vectors(*at).first().ok_or_else(missing)?)?,
        Kind::Activation(kind) => activation(x, *kind)?,
        Kind::Add => x.broadcast_add(second()?)?,
        Kind::Mul => x.broadcast_mul(second()?)?,
        Kind::Gather(index) => {
            let joined = if inputs.len() == 1 {
                x.clone()
            } else {
                Tensor::cat(inputs, 1)?
            };
            match index {
                Some(index) => {
                    let index = Tensor::from_slice(index, index.len(), x.device())?;
                    joined.contiguous()?.index_select(&index, 1)?
                }
                None => joined,
            }
        }
        Kind::MaxPool(pool) => plain::max_pool(x, pool)?,
        Kind::AveragePool(pool) => plain::average_pool(x, pool)?,
        Kind::GlobalAveragePool => plain::global_average_pool(x)?,
        Kind::Flatten => x.flatten_from(1)?,
        Kind::Unflatten => x.unsqueeze(D::Minus1)?.unsqueeze(D::Minus1)?,
    })
}
