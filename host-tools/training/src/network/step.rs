//! Gradients of a training step in candle, for a complete batch.

use candle_core::Tensor;
use clr_learning::{LossFn, Network, StepOutput};

use super::{CandleBackbone, Mode, TaskTensors};
use crate::error::Result;

impl CandleBackbone {
    /// Computes the gradients of `loss` on a batch `[N, 3, H, W]`. `dropout` contains factors on the features, `[N,
    /// F]`. The network changes only with [`Mode::TrainOnBatch`], which updates its running averages.
    pub fn forward_backward(
        &self,
        network: &mut Network,
        x: &Tensor,
        mode: Mode,
        dropout: Option<&[f32]>,
        loss: &impl LossFn,
    ) -> Result<StepOutput> {
        let task = TaskTensors::new(network, self.device(), true)?;
        let features = self.training_features(&task, network, x, mode)?;
        let features = match dropout {
            Some(mask) => (&features * Tensor::from_slice(mask, features.shape(), self.device())?)?,
            None => features,
        };
        let logits = Self::classify(&task, &features)?;
        let rows: Vec<Vec<f32>> = logits.to_vec2()?;
        let losses = rows.iter().enumerate().map(|(index, row)| loss(index, row));
        let (losses, d_logits): (Vec<f32>, Vec<Vec<f32>>) = losses.unzip();
        // The gradient of `Σ logits · gradient` with respect to the logits is `gradient`, so this starts candle's
        // backward pass.
        let d_logits = Tensor::from_vec(d_logits.concat(), logits.shape(), self.device())?;
        let gradients = (&logits * d_logits)?.sum_all()?.backward()?;
        let of = |variable: &candle_core::Var| {
            let gradient = gradients.get(variable);
            gradient
                .map(|gradient| gradient.flatten_all()?.to_vec1::<f32>())
                .transpose()
        };
        Ok(StepOutput {
            gradients: task.variables.iter().map(of).collect::<candle_core::Result<_>>()?,
            logits: rows,
            loss: losses.iter().sum(),
        })
    }
}
