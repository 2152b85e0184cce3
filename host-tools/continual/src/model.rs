//! A trainable model: network weights, sets of norms, and heads.

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use clr_onnx::Backbone;
use rand::RngExt as _;

use crate::{
    error::Result,
    loss::cross_entropies,
    network::{ConvLayer, Norms, Structure, Weights},
    random::{Purpose, stream},
};

/// A linear classifier on the features.
#[derive(Clone)]
pub struct Head {
    /// `[K, F]`.
    pub weight: Var,
    /// `[K]`.
    pub bias: Var,
}

impl Head {
    /// Creates a head from weight `[K, F]` and bias `[K]`.
    ///
    /// # Errors
    /// [`ContinualError::Tensor`](crate::ContinualError::Tensor) if the sizes differ.
    pub fn new(weight: &[f32], bias: &[f32], device: &Device) -> Result<Self> {
        let classes = bias.len();
        let features = weight.len() / classes.max(1);
        Ok(Self {
            weight: Var::from_slice(weight, (classes, features), device)?,
            bias: Var::from_slice(bias, classes, device)?,
        })
    }

    /// Creates a head with uniform values in ±1/√F.
    ///
    /// # Errors
    /// [`ContinualError::Tensor`](crate::ContinualError::Tensor) of candle.
    pub fn random(seed: u64, task: usize, classes: usize, features: usize, device: &Device) -> Result<Self> {
        let bound = 1.0 / (features.max(1) as f32).sqrt();
        let mut random = stream(seed, Purpose::Head, task, 0, 0);
        let mut uniform = |count: usize| {
            (0..count)
                .map(|_| random.random_range(-bound..bound))
                .collect::<Vec<f32>>()
        };
        let (weight, bias) = (uniform(classes * features), uniform(classes));
        Self::new(&weight, &bias, device)
    }

    /// Returns logits `[N, K]` of features `[N, F]`.
    ///
    /// # Errors
    /// [`ContinualError::Tensor`](crate::ContinualError::Tensor) if the sizes differ.
    pub fn logits(&self, features: &Tensor) -> Result<Tensor> {
        Ok(features.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)?)
    }

    /// Returns weight and bias.
    pub fn variables(&self) -> Vec<Var> {
        vec![self.weight.clone(), self.bias.clone()]
    }
}

/// A network with the values that training changes.
#[derive(Clone)]
pub struct Model {
    /// What the network computes.
    pub structure: Arc<Structure>,
    /// Weights of convolutions and dense layers.
    pub weights: Weights,
    /// One set of norms for all tasks, or one per task.
    pub norms: Vec<Norms>,
    /// The heads of the tasks so far, or one for all.
    pub heads: Vec<Head>,
    /// Where the values are.
    pub device: Device,
}

impl Model {
    /// Creates a model with the values of a backbone, one set of norms and no head.
    ///
    /// # Errors
    /// [`ContinualError::Operator`](crate::ContinualError::Operator) if the weights of an operator cannot be trained.
    pub fn new(backbone: &Backbone, device: &Device) -> Result<Self> {
        let (structure, weights, norms) = Structure::new(backbone, device)?;
        Ok(Self {
            structure: Arc::new(structure),
            weights,
            norms: vec![norms],
            heads: Vec::new(),
            device: device.clone(),
        })
    }

    /// Returns the variables of the weights and of one set of norms.
    pub fn backbone_variables(&self, norms: usize) -> Vec<Var> {
        let mut variables = self.weights.variables();
        variables.extend(self.norms[norms].variables());
        variables
    }

    /// Returns the number of values of convolutions, dense layers, γ and β.
    pub fn values(&self) -> usize {
        self.backbone_variables(0)
            .iter()
            .map(|variable| variable.elem_count())
            .sum()
    }

    /// Returns the number of channels of all norms.
    pub fn norm_channels(&self) -> usize {
        self.norms[0].running().iter().map(|running| running.mean.len()).sum()
    }

    /// Returns the multiplications of an operation after every convolution, `values(layer)` per output pixel, relative
    /// to those of the convolutions.
    pub fn share_of_multiplications(&self, values: impl Fn(&ConvLayer) -> usize) -> f64 {
        let (mut added, mut all) = (0.0, 0.0);
        for (layer, pixels) in self.structure.convs().iter().zip(self.structure.conv_pixels()) {
            added += values(layer) as f64 * *pixels as f64;
            all += layer.shape.iter().product::<usize>() as f64 * *pixels as f64;
        }
        if all > 0.0 { added / all } else { 0.0 }
    }

    /// Returns the sum of the cross-entropies of features `[N, F]`, each row through the head of its task. `rows` are the
    /// tasks and classes.
    ///
    /// # Errors
    /// [`ContinualError::Tensor`](crate::ContinualError::Tensor) if the sizes differ.
    pub fn sum_of_cross_entropies(&self, features: &Tensor, rows: &[(usize, u32)]) -> Result<Tensor> {
        let mut sum = Tensor::zeros((), features.dtype(), features.device())?;
        for (task, head) in self.heads.iter().enumerate() {
            let of_task = |&(_, &(row, _)): &(usize, &(usize, u32))| row == task;
            let (indices, labels): (Vec<u32>, Vec<u32>) = (rows.iter().enumerate().filter(of_task))
                .map(|(index, &(_, label))| (index as u32, label))
                .unzip();
            if !indices.is_empty() {
                let indices = Tensor::from_slice(&indices, indices.len(), features.device())?;
                let logits = head.logits(&features.index_select(&indices, 0)?)?;
                sum = (sum + cross_entropies(&logits, &labels)?.sum_all()?)?;
            }
        }
        Ok(sum)
    }
}
