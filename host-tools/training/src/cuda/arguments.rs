//! Arguments of a CUDA kernel, as declared in `kernels/arguments.h`.

use crate::sizes;
use clr_onnx::Activation;

/// Number of threads of a block, as in `kernels/grid.h`.
pub(crate) const BLOCK: usize = 256;

/// Maximum number of a kernel's inputs and outputs.
pub(crate) const INPUTS: usize = 6;
pub(crate) const OUTPUTS: usize = 3;

/// Sizes of an NCHW map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Map {
    n: i32,
    c: i32,
    h: i32,
    w: i32,
}

impl From<sizes::Map> for Map {
    fn from(map: sizes::Map) -> Self {
        let [n, c, h, w] = [map.n, map.c, map.h, map.w].map(|size| size as i32);
        Self { n, c, h, w }
    }
}

/// A window over rows and columns. The pads are top, left, bottom, right.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    kernel: [i32; 2],
    stride: [i32; 2],
    dilation: [i32; 2],
    pads: [i32; 4],
}

impl From<sizes::Window> for Window {
    fn from(window: sizes::Window) -> Self {
        Self {
            kernel: window.kernel.map(|size| size as i32),
            stride: window.stride.map(|size| size as i32),
            dilation: window.dilation.map(|size| size as i32),
            pads: window.pads.map(|size| size as i32),
        }
    }
}

impl From<sizes::PoolWindow> for Window {
    fn from(window: sizes::PoolWindow) -> Self {
        Self {
            kernel: window.kernel.map(|size| size as i32),
            stride: window.stride.map(|size| size as i32),
            dilation: [1; 2],
            pads: window.pads.map(|size| size as i32),
        }
    }
}

/// An activation: its kind as in `kernels/act.h`, and up to two parameters.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Act {
    kind: i32,
    p: f32,
    q: f32,
}

impl Act {
    /// Converts an activation; a missing activation becomes the identity. Returns `None` if the kernels do not support
    /// it.
    pub(crate) fn new(act: Option<Activation>) -> Option<Self> {
        let (kind, p, q) = match act {
            None => (0, f32::NEG_INFINITY, f32::INFINITY),
            Some(Activation::Relu) => (0, 0.0, f32::INFINITY),
            Some(Activation::Clip { min, max }) => (0, min, max),
            Some(Activation::Sigmoid) => (1, 0.0, 0.0),
            Some(Activation::Silu) => (2, 0.0, 0.0),
            Some(Activation::LeakyRelu { alpha }) => (3, alpha, 0.0),
            Some(Activation::HardSigmoid { alpha, beta }) => (4, alpha, beta),
            Some(Activation::HardSwish) => (5, 0.0, 0.0),
            Some(_) => return None,
        };
        Some(Self { kind, p, q })
    }
}

impl Default for Act {
    fn default() -> Self {
        Self {
            kind: 0,
            p: f32::NEG_INFINITY,
            q: f32::INFINITY,
        }
    }
}

/// Parameters of all kernels. Each kernel reads those that it needs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parameters {
    /// Number of values of a kernel without a map.
    pub(crate) count: i64,
    pub(crate) from: Map,
    pub(crate) to: Map,
    pub(crate) window: Window,
    pub(crate) act: Act,
    pub(crate) epsilon: f32,
    /// Number of groups of a convolution.
    pub(crate) groups: i32,
    /// Whether the kernel is mirrored (depthwise convolution), or whether the mean includes the padding (average pool).
    pub(crate) flag: i32,
}

impl Parameters {
    /// Returns the parameters of a kernel over one map.
    pub(crate) fn of_map(map: sizes::Map, act: Act) -> Self {
        Self {
            from: map.into(),
            act,
            ..Self::default()
        }
    }
}

/// Arguments of a kernel: addresses and parameters.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arguments {
    /// Addresses of the inputs; zero for those that a kernel does not have.
    pub(crate) inputs: [u64; INPUTS],
    pub(crate) outputs: [u64; OUTPUTS],
    pub(crate) parameters: Parameters,
}

/// Bytes of the arguments, as asserted in `kernels/arguments.h`.
const ARGUMENT_BYTES: usize = 176;
const _: () = assert!(size_of::<Arguments>() == ARGUMENT_BYTES);
