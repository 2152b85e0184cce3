//! The network in candle: the GPU path, and the reference for the runtime.
//!
//! Batches are preprocessed images `[N, 3, H, W]`, features are `[N, F]` and logits are `[N, K]`, all in f32.

mod execute;
mod frozen;
pub(crate) mod lowered_graph;
mod plain;
mod site;
mod statistics;
mod step;

use candle_core::Device;
use clr_onnx::Backbone;

use crate::error::Result;
use lowered_graph::LoweredGraph;
use site::TaskTensors;

/// Kind of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Inference with the current statistics, without gradients.
    Eval,
    /// Training with the current statistics: those of the backbone, blended ones, or those of a folded adapter.
    Train,
    /// Training with the batch's statistics, and running averages with this momentum (PyTorch's default: 0.1).
    TrainOnBatch {
        /// Weight of the new batch in the running averages, in 0–1.
        momentum: f32,
    },
}

/// A frozen backbone in candle, on a CPU or GPU. It can execute any [`Network`](clr_learning::Network) of the same
/// backbone.
pub struct CandleBackbone {
    pub(crate) graph: LoweredGraph,
}

impl CandleBackbone {
    /// Copies the backbone's weights to `device`.
    ///
    /// # Errors
    /// [`TrainError::Node`](crate::TrainError::Node) if candle does not implement an operator.
    pub fn new(backbone: &Backbone, device: &Device) -> Result<Self> {
        Ok(Self {
            graph: LoweredGraph::new(backbone, device)?,
        })
    }

    /// Returns the device of the tensors.
    pub fn device(&self) -> &Device {
        &self.graph.device
    }
}
