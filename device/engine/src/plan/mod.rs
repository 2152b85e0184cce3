//! Plans: the backbone with an adapter's tensors as inputs, for one layout and one input size.

mod compile;
mod frozen;
mod groups;
mod layout;
mod node;
mod reference;
mod step;

pub(crate) use compile::{Obstacle, PackedConvs, Target, compile};
pub(crate) use layout::Layout;
pub(crate) use reference::{reference, tensors};

use std::sync::Arc;

use tract_onnx::prelude::{TValue, TVec, TypedSimplePlan};

/// A plan ready to run: inputs `[picture, adapter tensors…]`, output the features.
#[derive(Debug)]
pub(crate) struct Plan {
    pub runnable: Arc<TypedSimplePlan>,
    /// Whether the picture goes in as `[1, H, W, C]`, else as `[1, C, H, W]`.
    pub interleaved: bool,
    /// `[C, H, W]` of the picture.
    pub input: [usize; 3],
}

impl Plan {
    /// Runs on `inputs`; the features come back as one vector.
    pub(crate) fn run(&self, inputs: TVec<TValue>) -> tract_onnx::prelude::TractResult<Vec<f32>> {
        let outputs = self.runnable.run(inputs)?;
        Ok(outputs[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
    }
}
