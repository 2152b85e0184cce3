//! Execution of the kernels on candle's CUDA device.
//!
//! That device has one stream per calling thread, so all operations of a run must be called from the same thread.

use super::arguments::{Arguments, BLOCK, INPUTS, OUTPUTS, Parameters};
use super::backend::{Backend, Gemm, Part, View};
use candle_core::cuda::cudarc::cublas::sys::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
use candle_core::cuda::cudarc::cublas::{Gemm as _, GemmConfig, StridedBatchedConfig};
use candle_core::cuda::cudarc::driver::{
    CudaSlice, CudaView, DevicePtr as _, DevicePtrMut as _, DeviceRepr, LaunchConfig, PushKernelArg as _,
};
use candle_core::cuda::{CudaDevice, WrapErr as _};
use candle_core::{CudaStorage, Error, Layout, Result};

/// Compiled by the build script.
const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
const MODULE: &str = "clr-training";

// SAFETY: a C structure of addresses and numbers, with the same declaration as in the kernels.
unsafe impl DeviceRepr for Arguments {}

/// Returns the values of a contiguous f32 storage.
pub(crate) fn part_of<'a>(storage: &'a CudaStorage, layout: &Layout) -> Result<View<'a, CudaDevice>> {
    let buffer = storage.as_cuda_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(Part {
            buffer,
            start,
            len: end - start,
        }),
        None => Err(Error::RequiresContiguous { op: "clr" }.bt()),
    }
}

fn values(part: View<'_, CudaDevice>) -> CudaView<'_, f32> {
    part.buffer.slice(part.start..part.start + part.len)
}

impl Backend for CudaDevice {
    type Buffer = CudaSlice<f32>;

    fn allocate(&self, len: usize) -> Result<CudaSlice<f32>> {
        // SAFETY: the kernels write all values before any is read.
        unsafe { self.alloc::<f32>(len) }
    }

    fn view<'a>(&self, buffer: &'a CudaSlice<f32>) -> View<'a, CudaDevice> {
        Part {
            buffer,
            start: 0,
            len: buffer.len(),
        }
    }

    fn launch(
        &self,
        kernel: &'static str,
        blocks: usize,
        inputs: &[Option<View<'_, CudaDevice>>],
        outputs: &mut [&mut CudaSlice<f32>],
        parameters: Parameters,
    ) -> Result<()> {
        let stream = self.cuda_stream();
        let mut arguments = Arguments {
            inputs: [0; INPUTS],
            outputs: [0; OUTPUTS],
            parameters,
        };
        let views: Vec<_> = inputs.iter().map(|part| part.map(values)).collect();
        // Guards that order this launch among others on the same buffers. They are dropped after it.
        let mut order = Vec::new();
        for (address, view) in arguments.inputs.iter_mut().zip(&views) {
            if let Some(view) = view {
                let (pointer, guard) = view.device_ptr(&stream);
                *address = pointer;
                order.push(guard);
            }
        }
        for (address, buffer) in arguments.outputs.iter_mut().zip(outputs) {
            let (pointer, guard) = buffer.device_ptr_mut(&stream);
            *address = pointer;
            order.push(guard);
        }
        let function = self.get_or_load_custom_func(kernel, MODULE, PTX)?;
        let config = LaunchConfig {
            grid_dim: (blocks as u32, 1, 1),
            block_dim: (BLOCK as u32, 1, 1),
            shared_mem_bytes: 0,
        };
        let mut launch = function.builder();
        launch.arg(&arguments);
        // SAFETY: the kernel takes these arguments, and accesses only buffers of the sizes that the parameters state.
        unsafe { launch.launch(config) }.w()?;
        Ok(())
    }

    fn multiply(
        &self,
        gemm: Gemm,
        a: View<'_, CudaDevice>,
        b: View<'_, CudaDevice>,
        c: &mut CudaSlice<f32>,
        start: usize,
    ) -> Result<()> {
        let config = StridedBatchedConfig {
            gemm: GemmConfig {
                transa: CUBLAS_OP_N,
                transb: if gemm.transposed_b { CUBLAS_OP_T } else { CUBLAS_OP_N },
                m: gemm.m as i32,
                n: gemm.n as i32,
                k: gemm.k as i32,
                alpha: 1.0,
                lda: gemm.lda as i32,
                ldb: gemm.ldb as i32,
                beta: 0.0,
                ldc: gemm.ldc as i32,
            },
            batch_size: gemm.batch as i32,
            stride_a: gemm.step_a as i64,
            stride_b: gemm.step_b as i64,
            stride_c: gemm.step_c as i64,
        };
        let mut c = c.slice_mut(start..start + gemm.batch * gemm.m * gemm.n);
        // SAFETY: the views have the sizes of the matrices.
        unsafe {
            self.cublas_handle()
                .gemm_strided_batched(config, &values(a), &values(b), &mut c)
        }
        .w()
    }
}
