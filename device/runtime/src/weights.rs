//! Packed convolution weights, shared by the executables of all input sizes.

use std::sync::{Arc, OnceLock};

use clr_kernels::{Form, Int8Form, Int8Shape, Int8Weights, PackedConv, Winograd};
use clr_onnx::{Conv, QuantisedTensor};

/// The weights of a backbone's convolutions in the kernels' layout, packed at first use.
#[derive(Debug, Default)]
pub struct PackedWeights(Vec<Packed>);

/// The weights of one convolution, by the form in which it is computed.
#[derive(Debug, Default)]
struct Packed {
    float: [OnceLock<Arc<PackedConv>>; 3],
    int8: OnceLock<Arc<Int8Weights>>,
}

impl PackedWeights {
    /// Room for `sites` convolutions.
    pub fn new(sites: usize) -> Self {
        Self((0..sites).map(|_| Packed::default()).collect())
    }

    pub(crate) fn get(&self, site: usize, conv: &Conv, form: Form) -> Arc<PackedConv> {
        // A site reads the image at every size or at none.
        let slot = match form {
            Form::Image | Form::Direct => 0,
            Form::Winograd(Winograd::F2) => 1,
            Form::Winograd(Winograd::F4) => 2,
        };
        let slot = &self.0[site].float[slot];
        Arc::clone(slot.get_or_init(|| Arc::new(PackedConv::new(conv, form))))
    }

    /// Returns integer weights. A site reads the image at every size or at none.
    pub(crate) fn int8(&self, site: usize, conv: &Conv, weight: &QuantisedTensor, form: Int8Form) -> Arc<Int8Weights> {
        let shape = Int8Shape {
            out_channels: conv.channels(),
            in_channels: conv.weight.shape()[1] * conv.group,
            kernel: conv.kernel(),
            stride: conv.stride,
            dilation: conv.dilation,
            group: conv.group,
        };
        let pack = || Arc::new(Int8Weights::new(shape, weight.values(), form));
        Arc::clone(self.0[site].int8.get_or_init(pack))
    }

    /// Returns the bytes packed so far.
    pub fn bytes(&self) -> usize {
        let float = self.0.iter().flat_map(|packed| &packed.float).filter_map(OnceLock::get);
        let int8 = self.0.iter().filter_map(|packed| packed.int8.get());
        float.map(|packed| packed.bytes()).sum::<usize>() + int8.map(|packed| packed.bytes()).sum::<usize>()
    }
}
