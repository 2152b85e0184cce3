//! Execution of a task's network: by the runtime on a CPU, or by candle on a GPU.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Tensor};
use clr_learning::{LearningError, LossFn, Network, StepOutput};
use clr_onnx::Backbone;

use crate::{
    error::Result,
    network::{CandleBackbone, Mode},
};

/// Runs networks of one backbone on a device. On a CPU it uses `clr-learning`. It uses candle on a GPU, and on a CPU if
/// the backbone has an operator that the runtime does not support.
pub struct Executor {
    backbone: Backbone,
    device: Device,
    /// Built on first use.
    candle: Mutex<Option<Arc<CandleBackbone>>>,
}

/// Preprocessed images, `[n, 3, height, width]` row-major.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// All values.
    pub values: &'a [f32],
    /// Rows and columns.
    pub size: [usize; 2],
}

impl<'a> Images<'a> {
    pub(crate) fn each(&self) -> Vec<&'a [f32]> {
        self.values.chunks_exact(self.length().max(1)).collect()
    }

    fn length(&self) -> usize {
        3 * self.size[0] * self.size[1]
    }

    fn tensor(&self, device: &Device) -> Result<Tensor> {
        let [height, width] = self.size;
        let count = self.values.len() / self.length().max(1);
        Ok(Tensor::from_slice(self.values, (count, 3, height, width), device)?)
    }
}

impl Executor {
    /// Creates an executor for networks of `backbone` on `device`.
    ///
    /// # Errors
    /// [`TrainError::Node`](crate::TrainError::Node) if `device` is a GPU and candle does not implement an operator.
    pub fn new(backbone: &Backbone, device: &Device) -> Result<Self> {
        let executor = Self {
            backbone: backbone.clone(),
            device: device.clone(),
            candle: Mutex::default(),
        };
        if !device.is_cpu() {
            executor.candle()?;
        }
        Ok(executor)
    }

    /// Returns the features `[F]` of each image.
    pub fn features(&self, network: &Network, images: Images<'_>) -> Result<Vec<Vec<f32>>> {
        if self.runtime_executes(network, images.size)? {
            return Ok(network.features(&images.each(), images.size)?);
        }
        let candle = self.candle()?;
        Ok(candle.features(network, &images.tensor(candle.device())?)?.to_vec2()?)
    }

    /// Returns the logits `[K]` of each image.
    pub fn logits(&self, network: &Network, images: Images<'_>) -> Result<Vec<Vec<f32>>> {
        if self.runtime_executes(network, images.size)? {
            return Ok(network.logits(&images.each(), images.size)?);
        }
        let candle = self.candle()?;
        Ok(candle.logits(network, &images.tensor(candle.device())?)?.to_vec2()?)
    }

    /// Returns the logits of one image that a device compares with its own. They are computed by candle, which shares no code
    /// with the runtime. The runtime computes them if candle does not support an operator of the network, or if the backbone
    /// is quantised: a sum halfway between two bytes may become either in candle, and such differences grow from layer to
    /// layer.
    pub(crate) fn reference_logits(&self, network: &Network, images: Images<'_>) -> Result<Vec<f32>> {
        if self.backbone.is_quantised() && self.runtime_executes(network, images.size)? {
            return Ok(network.logits(&images.each(), images.size)?.concat());
        }
        let rows = match self.candle() {
            Ok(candle) => candle.logits(network, &images.tensor(candle.device())?)?.to_vec2()?,
            Err(error) if self.runtime_executes(network, images.size)? => {
                tracing::debug!("no second implementation to compare with: {error}");
                network.logits(&images.each(), images.size)?
            }
            Err(error) => return Err(error),
        };
        Ok(rows.concat())
    }

    /// Computes the gradients of `loss` on a batch. `dropout` contains factors on the features, `[N, F]`. The network
    /// changes only with [`Mode::TrainOnBatch`], which updates its running averages.
    pub fn forward_backward(
        &self,
        network: &mut Network,
        images: Images<'_>,
        mode: Mode,
        dropout: Option<&[f32]>,
        loss: &impl LossFn,
    ) -> Result<StepOutput> {
        if self.runtime_trains(network, images.size)? {
            let (each, size) = (images.each(), images.size);
            return Ok(match mode {
                Mode::TrainOnBatch { momentum } => {
                    network.forward_backward_on_batch(&each, size, momentum, dropout, loss)?
                }
                Mode::Eval | Mode::Train => network.forward_backward(&each, size, dropout, loss)?,
            });
        }
        let candle = self.candle()?;
        candle.forward_backward(network, &images.tensor(candle.device())?, mode, dropout, loss)
    }

    /// Moves the statistics of every trained norm towards those of a task's images ([`Network::estimate_statistics`]).
    /// `batches` contains the values of `[N, 3, H, W]`, with `size` as rows × columns.
    pub(crate) fn estimate_statistics(
        &self,
        network: &mut Network,
        batches: impl IntoIterator<Item = Result<Vec<f32>>>,
        size: [usize; 2],
        blend: f32,
    ) -> Result<()> {
        if self.runtime_executes(network, size)? {
            return network.estimate_statistics(batches, size, blend);
        }
        let candle = self.candle()?;
        let tensor = |values: Result<Vec<f32>>| {
            let images = Images { values: &values?, size };
            images.tensor(candle.device())
        };
        candle.estimate_statistics(network, batches.into_iter().map(tensor), blend)
    }

    fn candle(&self) -> Result<Arc<CandleBackbone>> {
        let mut candle = self.candle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(candle) = &*candle {
            return Ok(Arc::clone(candle));
        }
        let built = Arc::new(CandleBackbone::new(&self.backbone, &self.device)?);
        *candle = Some(Arc::clone(&built));
        Ok(built)
    }

    /// Freezes sites that come before an operator without a backward pass, and logs that.
    pub(crate) fn freeze_untrainable(&self, network: &mut Network, size: [usize; 2]) -> Result<()> {
        if self.runtime_executes(network, size)?
            && let Some((sites, node)) = network.freeze_untrainable(size)?
        {
            tracing::warn!(
                sites,
                node,
                "these sites come before an opaque step, which has no backward pass: they are not trained"
            );
        }
        Ok(())
    }

    fn runtime_executes(&self, network: &Network, size: [usize; 2]) -> Result<bool> {
        self.on_cpu(|| network.executable(size).map(|_| ()))
    }

    fn runtime_trains(&self, network: &Network, size: [usize; 2]) -> Result<bool> {
        self.on_cpu(|| network.check_trainable(size))
    }

    /// Returns whether the runtime on the CPU supports the operation that `check` tests.
    fn on_cpu(&self, check: impl FnOnce() -> Result<(), LearningError>) -> Result<bool> {
        if !self.device.is_cpu() {
            return Ok(false);
        }
        match check() {
            Ok(()) => Ok(true),
            Err(error @ (LearningError::Runtime(_) | LearningError::NoBackwardPass { .. })) => {
                tracing::debug!("candle in place of the runtime: {error}");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}
