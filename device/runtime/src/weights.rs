//! Packed convolution weights, shared by the executables of all input sizes.

use std::sync::{Arc, OnceLock};

use clr_kernels::{Form, PackedConv, Winograd};
use clr_onnx::Conv;

/// The weights of a backbone's convolutions in the kernels' layout, packed at first use.
#[derive(Debug, Default)]
pub struct PackedWeights(Vec<[OnceLock<Arc<PackedConv>>; 3]>);

impl PackedWeights {
    /// Room for `sites` convolutions.
    pub fn new(sites: usize) -> Self {
        Self((0..sites).map(|_| Default::default()).collect())
    }

    pub(crate) fn get(&self, site: usize, conv: &Conv, form: Form) -> Arc<PackedConv> {
        // A site reads the image at every size or at none.
        let slot = match form {
            Form::Image | Form::Direct => 0,
            Form::Winograd(Winograd::F2) => 1,
            Form::Winograd(Winograd::F4) => 2,
        };
        let slot = &self.0[site][slot];
        Arc::clone(slot.get_or_init(|| Arc::new(PackedConv::new(conv, form))))
    }

    /// Returns the bytes packed so far.
    pub fn bytes(&self) -> usize {
        let packed = self.0.iter().flatten().filter_map(OnceLock::get);
        packed.map(|packed| packed.bytes()).sum()
    }
}
