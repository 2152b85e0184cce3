//! Values and gradients of variables, as vectors.

use candle_core::{Tensor, Var};

use crate::error::Result;

/// One vector per variable.
pub type Vectors = Vec<Vec<f32>>;

/// Returns the values of variables.
///
/// # Errors
/// [`ContinualError::Tensor`](crate::ContinualError::Tensor) of candle.
pub fn values(variables: &[Var]) -> Result<Vectors> {
    variables
        .iter()
        .map(|variable| Ok(variable.flatten_all()?.to_vec1()?))
        .collect()
}

/// Sets the values of variables.
///
/// # Errors
/// [`ContinualError::Tensor`](crate::ContinualError::Tensor) if a vector has another length.
pub fn set_values(variables: &[Var], values: &[Vec<f32>]) -> Result<()> {
    for (variable, values) in variables.iter().zip(values) {
        variable.set(&Tensor::from_slice(values, variable.shape(), variable.device())?)?;
    }
    Ok(())
}

/// Returns the gradients of a scalar. A variable that it does not depend on has zeros.
///
/// # Errors
/// [`ContinualError::Tensor`](crate::ContinualError::Tensor) of candle.
pub fn gradients(scalar: &Tensor, variables: &[Var]) -> Result<Vectors> {
    let store = scalar.backward()?;
    let of = |variable: &Var| match store.get(variable) {
        Some(gradient) => Ok(gradient.flatten_all()?.to_vec1()?),
        None => Ok(vec![0.0; variable.elem_count()]),
    };
    variables.iter().map(of).collect()
}
