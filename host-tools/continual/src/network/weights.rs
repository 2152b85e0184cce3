//! The values of convolutions, dense layers and scales.

use candle_core::{Device, Tensor, Var};
use clr_onnx::Conv;

use crate::error::Result;

/// All values of a network but its norms and heads.
#[derive(Clone, Default)]
pub struct Weights {
    /// Per convolution: weight `[O, I / groups, kh, kw]`.
    convs: Vec<Var>,
    /// Per convolution: bias `[O]`, if it has one.
    biases: Vec<Option<Var>>,
    /// Weights `[O, I]` and biases `[O]` of dense layers, one after the other.
    dense: Vec<[Var; 2]>,
    /// Scales, biases and slopes per channel.
    vectors: Vec<Vec<Var>>,
}

impl Weights {
    pub(super) fn push_conv(&mut self, conv: &Conv, device: &Device) -> Result<()> {
        self.convs.push(variable(&conv.weight.tensor(), device)?);
        let bias = conv.bias.as_ref().map(|bias| variable(bias, device));
        self.biases.push(bias.transpose()?);
        Ok(())
    }

    pub(super) fn push_dense(&mut self, [weight, bias]: [&clr_onnx::Tensor; 2], device: &Device) -> Result<usize> {
        self.dense.push([variable(weight, device)?, variable(bias, device)?]);
        Ok(self.dense.len() - 1)
    }

    pub(super) fn push_vectors(&mut self, vectors: &[&clr_onnx::Tensor], device: &Device) -> Result<usize> {
        let vectors = vectors.iter().map(|vector| variable(vector, device));
        self.vectors.push(vectors.collect::<Result<_>>()?);
        Ok(self.vectors.len() - 1)
    }

    /// Returns the weight of a convolution.
    pub fn conv(&self, index: usize) -> &Var {
        &self.convs[index]
    }

    /// Returns the weights of all convolutions.
    pub fn convs(&self) -> &[Var] {
        &self.convs
    }

    /// Returns the bias of a convolution.
    pub fn bias(&self, index: usize) -> Option<&Var> {
        self.biases[index].as_ref()
    }

    pub(super) fn dense(&self, index: usize) -> &[Var; 2] {
        &self.dense[index]
    }

    pub(super) fn vectors(&self, index: usize) -> &[Var] {
        &self.vectors[index]
    }

    /// Returns all variables, in a fixed order.
    pub fn variables(&self) -> Vec<Var> {
        let convs = self.convs.iter().chain(self.biases.iter().flatten());
        let others = self.dense.iter().flatten().chain(self.vectors.iter().flatten());
        convs.chain(others).cloned().collect()
    }

    /// Returns a copy with separate variables.
    ///
    /// # Errors
    /// [`ContinualError::Tensor`](crate::ContinualError::Tensor) if there is not enough memory.
    pub fn copied(&self) -> Result<Self> {
        let each = |vars: &[Var]| vars.iter().map(copied).collect::<Result<Vec<_>>>();
        Ok(Self {
            convs: each(&self.convs)?,
            biases: (self.biases.iter())
                .map(|bias| bias.as_ref().map(copied).transpose())
                .collect::<Result<_>>()?,
            dense: (self.dense.iter())
                .map(|[weight, bias]| Ok([copied(weight)?, copied(bias)?]))
                .collect::<Result<_>>()?,
            vectors: self
                .vectors
                .iter()
                .map(|vectors| each(vectors))
                .collect::<Result<_>>()?,
        })
    }
}

/// Returns a variable with a copy of the values.
pub(crate) fn copied(variable: &Var) -> Result<Var> {
    Ok(Var::from_tensor(&variable.as_detached_tensor().copy()?)?)
}

pub(super) fn variable(tensor: &clr_onnx::Tensor, device: &Device) -> Result<Var> {
    Ok(Var::from_tensor(&Tensor::from_slice(
        tensor.data(),
        tensor.shape(),
        device,
    )?)?)
}
