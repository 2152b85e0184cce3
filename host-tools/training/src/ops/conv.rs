//! Convolution with frozen weights.

#[cfg(feature = "cuda")]
use super::cuda;
use super::storage::{map_of, map_of_layout, result, slice, tensor_like, with_values};
#[cfg(feature = "cuda")]
use crate::cuda::conv::{Convolution, MOST_COLUMNS};
use crate::kernels::{
    buffer::Map,
    dense::{self, Weights},
    depthwise_any,
    plan::{Plan, Window},
    winograd,
};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor};
use clr_onnx::{Conv, Padding};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A convolution (ONNX `Conv`, any kernel, stride, dilation, group and padding) whose weights never change.
///
/// The weights are packed on first use, once for every direction and padding, and shared by all clones. The bias of
/// the file is not applied: it belongs to the site behind the convolution.
#[derive(Clone)]
pub struct FrozenConv(Arc<Frozen>);

struct Frozen {
    conv: Conv,
    packed: Mutex<HashMap<Key, Arc<Packed>>>,
    /// The weights as they are, where the convolution runs on a GPU.
    #[cfg(feature = "cuda")]
    on_gpu: Option<Tensor>,
}

/// What the arrangement of the weights depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    pads: [usize; 4],
    winograd: bool,
    forward: bool,
}

/// The weights, arranged for the method that suits them.
enum Packed {
    /// Depthwise weights stay as they are.
    Depthwise(Plan),
    /// Gathered columns times packed weights.
    Dense(Plan, Weights),
    /// Transformed kernels, and the zeros before the source (top, left).
    Winograd([isize; 2], winograd::Weights),
}

impl fmt::Debug for FrozenConv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrozenConv{:?}", self.0.conv.weight.shape())
    }
}

impl FrozenConv {
    /// Takes the weights `[O, I / group, kh, kw]`, stride, dilation, group and padding of `conv`.
    ///
    /// # Errors
    /// If the sizes do not fit together, or the device is neither the CPU nor, with the feature `cuda`, a CUDA device.
    pub fn new(conv: &Conv, device: &Device) -> Result<Self> {
        let shape = conv.weight.shape();
        let fits = shape.len() == 4
            && conv.group > 0
            && shape.iter().all(|&size| size > 0)
            && shape[0].is_multiple_of(conv.group)
            && conv.stride.iter().chain(&conv.dilation).all(|&step| step > 0);
        if !fits {
            candle_core::bail!(
                "convolution: expected a weight [O, I / group, kh, kw], got {shape:?} with group {}, stride {:?}, dilation {:?}",
                conv.group,
                conv.stride,
                conv.dilation
            );
        }
        let known = device.is_cpu() || (cfg!(feature = "cuda") && device.is_cuda());
        if !known {
            candle_core::bail!(
                "convolution: frozen convolutions run on the cpu or, with the feature `cuda`, on a cuda device, got {:?}",
                device.location()
            );
        }
        let conv = Conv {
            bias: None,
            ..conv.clone()
        };
        Ok(Self(Arc::new(Frozen {
            #[cfg(feature = "cuda")]
            on_gpu: device
                .is_cuda()
                .then(|| Tensor::from_slice(conv.weight.data(), conv.weight.data().len(), device))
                .transpose()?,
            conv,
            packed: Mutex::default(),
        })))
    }

    /// The convolution without its bias.
    pub(crate) fn weights(&self) -> &Conv {
        &self.0.conv
    }

    /// Rows and columns of the result for an input of `size`; `None` where the kernel does not fit.
    pub(crate) fn output(&self, size: [usize; 2]) -> Option<[usize; 2]> {
        let c = self.0.conv.weight.shape()[1] * self.0.conv.group;
        let (_, to) = self
            .0
            .sizes(Map {
                n: 1,
                c,
                h: size[0],
                w: size[1],
            })
            .ok()?;
        Some([to.h, to.w])
    }

    /// `[N, I, H, W]` to `[N, O, H', W']`, without the bias. SAME padding is resolved from the input's size.
    ///
    /// Gradient: input only.
    ///
    /// # Errors
    /// If the channels differ or the kernel does not fit the padded input.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let map = map_of("convolution", x)?;
        self.0.sizes(map)?;
        x.contiguous()?.apply_op1(self.clone())
    }
}

impl Frozen {
    fn depthwise(&self) -> bool {
        self.conv.weight.shape()[1] == 1 && self.conv.weight.shape()[0] == self.conv.group
    }

    /// The window for an input and the output's sizes.
    fn sizes(&self, from: Map) -> Result<(Window, Map)> {
        let conv = &self.conv;
        let channels = conv.weight.shape()[1] * conv.group;
        if from.c != channels {
            candle_core::bail!("convolution: expected {channels} input channels, got {}", from.c);
        }
        let size = [from.h, from.w];
        let pads = match conv.padding {
            Padding::Explicit(pads) => pads,
            same => same.resolve(size, conv.kernel(), conv.stride, conv.dilation),
        };
        let window = Window {
            kernel: conv.kernel(),
            stride: conv.stride,
            dilation: conv.dilation,
            pads,
        };
        match window.output(size) {
            Some([h, w]) => Ok((
                window,
                Map {
                    n: from.n,
                    c: conv.channels(),
                    h,
                    w,
                },
            )),
            None => candle_core::bail!(
                "convolution: kernel {:?} does not fit an input of {size:?} padded by {pads:?}",
                window.kernel
            ),
        }
    }

    /// The weights arranged for a window and the sizes of the forward pass's result.
    fn packed(&self, window: Window, result: Map, forward: bool) -> Arc<Packed> {
        let shape = self.conv.weight.shape();
        let winograd = winograd::pays(&window, shape[0], shape[1], self.conv.group, [result.h, result.w]);
        let key = Key {
            pads: window.pads,
            winograd,
            forward,
        };
        // The table is only ever added to, so that one poisoned by a panic elsewhere is still sound.
        let table = || self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        let found = table().get(&key).cloned();
        // Packing runs in parallel, so never under the lock: a thread that waits for it may take up another batch.
        found.unwrap_or_else(|| {
            let packed = Arc::new(self.pack(window, winograd, forward));
            Arc::clone(table().entry(key).or_insert(packed))
        })
    }

    fn pack(&self, window: Window, winograd: bool, forward: bool) -> Packed {
        let (weight, shape) = (self.conv.weight.data(), self.conv.weight.shape());
        let (outputs, inputs, groups) = (shape[0], shape[1], self.conv.group);
        let plan = || if forward { window.forward() } else { window.backward() };
        if self.depthwise() {
            Packed::Depthwise(plan())
        } else if winograd {
            let pads = [window.pads[0] as isize, window.pads[1] as isize];
            if forward {
                Packed::Winograd(pads, winograd::Weights::forward(weight, outputs, inputs))
            } else {
                Packed::Winograd(
                    pads.map(|pad| 2 - pad),
                    winograd::Weights::backward(weight, outputs, inputs),
                )
            }
        } else {
            let plan = plan();
            let arrange = if forward { Weights::forward } else { Weights::backward };
            let weights = arrange(weight, outputs, inputs, groups, &plan);
            Packed::Dense(plan, weights)
        }
    }

    /// The weights on the GPU, and the convolution in the kernels' terms.
    #[cfg(feature = "cuda")]
    fn for_gpu(&self, from: Map) -> Result<(&Tensor, Convolution)> {
        let (window, to) = self.sizes(from)?;
        let groups = self.conv.group;
        match &self.on_gpu {
            Some(weight) => Ok((
                weight,
                Convolution {
                    window,
                    groups,
                    from,
                    to,
                    most_columns: MOST_COLUMNS,
                },
            )),
            None => candle_core::bail!("convolution: made for the cpu, got an input on a cuda device"),
        }
    }

    fn run(&self, source: &[f32], from: Map, to: Map, window: Window, forward: bool) -> Vec<f32> {
        let result = if forward { to } else { from };
        match &*self.packed(window, result, forward) {
            Packed::Depthwise(plan) => depthwise_any::convolve(source, from, plan, self.conv.weight.data(), to),
            Packed::Dense(plan, weights) => dense::convolve(source, from, plan, weights, to),
            Packed::Winograd(pads, weights) => winograd::convolve(source, from, *pads, weights, to),
        }
    }
}

impl CustomOp1 for FrozenConv {
    fn name(&self) -> &'static str {
        "frozen-conv"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let from = map_of_layout(layout)?;
        let (window, to) = self.0.sizes(from)?;
        Ok(result(self.0.run(slice(storage, layout)?, from, to, window, true), to))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (weight, convolution) = self.0.for_gpu(map_of_layout(layout)?)?;
        cuda::convolution((storage, layout), weight, convolution)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if !x.track_op() {
            return Ok(None);
        }
        let from = map_of(self.name(), x)?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let (weight, convolution) = self.0.for_gpu(from)?;
            return cuda::convolution_backward(x, dy, weight, convolution).map(Some);
        }
        let (window, to) = self.0.sizes(from)?;
        let dx = with_values(dy, |dy| Ok(self.0.run(dy, to, from, window, false)))?;
        tensor_like(dx, x).map(Some)
    }
}
