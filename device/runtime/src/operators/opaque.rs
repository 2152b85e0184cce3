//! Parts of a network that the runtime does not support, which tract executes.

use std::sync::Arc;

use clr_kernels::{block_planes, unblock};
use clr_onnx::{Opaque, Shape};
use tract_onnx::prelude::{
    DatumType, DatumTypeExt as _, Framework as _, InferenceModelExt as _, RunOptions, TVec, Tensor, TractResult,
    TypedSimplePlan,
};

use super::{Backward, Operator};
use crate::RuntimeError;

/// A subgraph of ONNX operators (such as attention or sorting) on values in blocks. It has no backward pass.
#[derive(Debug)]
pub(super) struct OpaqueStep {
    plan: Arc<TypedSimplePlan>,
    inputs: Vec<Shape>,
    output: Shape,
    /// The operators, for errors.
    name: String,
}

impl OpaqueStep {
    /// Compiles the subgraph for the shapes of its inputs.
    pub(super) fn new(name: &str, opaque: &Opaque, inputs: &[Shape], output: Shape) -> Result<Self, RuntimeError> {
        let build = || -> TractResult<_> {
            let bytes = opaque.model();
            let mut model = tract_onnx::onnx().model_for_read(&mut bytes.as_slice())?;
            for (index, shape) in inputs.iter().enumerate() {
                model.set_input_fact(index, DatumType::F32.fact(with_batch(*shape)).into())?;
            }
            TypedSimplePlan::build(model.into_optimized()?, &RunOptions::default())
        };
        let plan = build().map_err(|error| RuntimeError::unsupported(name, format!("tract: {error:#}")))?;
        let step = Self {
            plan: Arc::new(plan),
            inputs: inputs.to_vec(),
            output,
            name: name.to_owned(),
        };
        // A trial run, so that shapes and operators that fail at run time give an error now, while the caller can
        // handle it.
        let zeros: Vec<Vec<f32>> = inputs.iter().map(|shape| vec![0.0; shape.elements()]).collect();
        let tensors = inputs.iter().zip(&zeros);
        let tensors = tensors.map(|(shape, zeros)| Tensor::from_shape(&with_batch(*shape), zeros));
        let tried = tensors
            .collect::<TractResult<Vec<_>>>()
            .and_then(|tensors| step.run(tensors));
        match tried {
            Ok(values) if values.len() == output.elements() => Ok(step),
            Ok(values) => {
                let reason = format!("expected {} values, tract computes {}", output.elements(), values.len());
                Err(RuntimeError::unsupported(name, reason))
            }
            Err(error) => Err(RuntimeError::unsupported(name, format!("tract: {error:#}"))),
        }
    }

    fn run(&self, inputs: Vec<Tensor>) -> TractResult<Vec<f32>> {
        let inputs: TVec<_> = inputs.into_iter().map(Into::into).collect();
        let outputs = self.plan.run(inputs)?;
        Ok(outputs[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
    }
}

/// Returns the shape for one image.
fn with_batch(shape: Shape) -> Vec<usize> {
    std::iter::once(1).chain(shape.dims().iter().copied()).collect()
}

impl Operator for OpaqueStep {
    fn forward(&self, inputs: &[&[f32]], out: &mut [f32]) {
        let run = || -> TractResult<Vec<f32>> {
            let tensors = inputs.iter().zip(&self.inputs).map(|(blocks, shape)| {
                let mut values = vec![0.0; shape.elements()];
                unblock(blocks, shape.channels(), &mut values);
                Tensor::from_shape(&with_batch(*shape), &values)
            });
            self.run(tensors.collect::<TractResult<_>>()?)
        };
        match run() {
            Ok(values) => block_planes(&values, self.output.channels(), out),
            Err(error) => {
                // The trial run at compilation succeeded, so this is unexpected. The NaN values are visible in the
                // result, and are reported there.
                tracing::error!(step = self.name, "tract: {error:#}");
                out.fill(f32::NAN);
            }
        }
    }

    fn is_differentiable(&self) -> bool {
        false
    }

    fn backward(&self, _step: Backward<'_>) {
        unreachable!("training ends at an opaque step")
    }
}
