//! The network in candle: the GPU path, and the reference for the runtime.
//!
//! Batches are `[N, 3, H, W]` as preprocessed, features `[N, F]`, logits `[N, K]`, all f32.

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
    /// Inference: the statistics in force, no gradients.
    Eval,
    /// Training with the statistics in force (the backbone's, blended, or a folded adapter's).
    Train,
    /// Training on the batch's statistics, with running averages of this momentum (PyTorch's default: 0.1).
    TrainOnBatch {
        /// Weight of the new batch in the running averages, in 0–1.
        momentum: f32,
    },
}

/// A frozen backbone in candle, on a CPU or GPU. It executes any [`Network`](clr_learning::Network) of the same
/// backbone.
pub struct CandleBackbone {
    pub(crate) graph: LoweredGraph,
}

impl CandleBackbone {
    /// Copies the backbone's weights to `device`.
    ///
    /// # Errors
    /// [`TrainError::Node`](crate::TrainError::Node) for an operator without an implementation in candle.
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
