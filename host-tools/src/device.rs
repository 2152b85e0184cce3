//! `--device`: the device for training and evaluation.

use candle_core::Device;
use clap::ValueEnum;

/// Choices of `--device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceArg {
    /// The GPU, if the program was built for it and finds one; else the CPU
    #[default]
    Auto,
    /// The CPU
    Cpu,
    /// The first NVIDIA GPU (feature cuda)
    Cuda,
}

impl DeviceArg {
    /// Returns the device, and logs an automatic choice.
    pub(crate) fn open(self) -> anyhow::Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda => gpu(),
            Self::Auto => Ok(gpu_or_cpu()),
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn gpu_or_cpu() -> Device {
    tracing::info!("computing on the CPU (this program was built without the feature cuda)");
    Device::Cpu
}

#[cfg(not(feature = "cuda"))]
fn gpu() -> anyhow::Result<Device> {
    anyhow::bail!(
        "this program was built without the feature cuda, and cannot use a GPU\nhint: with a CUDA toolkit, build it \
         with `cargo build --release --features cuda`; --device cpu needs no GPU"
    )
}

#[cfg(feature = "cuda")]
fn gpu_or_cpu() -> Device {
    match try_gpu() {
        Ok(device) => {
            tracing::info!("computing on the GPU (CUDA device 0)");
            device
        }
        Err(error) => {
            tracing::info!("computing on the CPU ({error})");
            Device::Cpu
        }
    }
}

#[cfg(feature = "cuda")]
fn gpu() -> anyhow::Result<Device> {
    try_gpu().map_err(|error| {
        anyhow::anyhow!("{error}\nhint: `nvidia-smi` lists the GPUs that the driver knows; --device cpu needs none")
    })
}

/// Returns the first GPU, if its results match the CPU's.
#[cfg(feature = "cuda")]
fn try_gpu() -> anyhow::Result<Device> {
    let device = Device::new_cuda(0).map_err(|error| {
        // Only the first line is used, because candle may add a backtrace.
        let text = error.to_string();
        anyhow::anyhow!("no GPU can be used: {}", text.lines().next().unwrap_or_default())
    })?;
    clr_training::check_device(&device)?;
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit;

    #[test]
    fn the_cpu_is_always_available() {
        assert!(DeviceArg::Cpu.open().unwrap().is_cpu());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn without_the_feature_a_gpu_is_refused_and_auto_takes_the_cpu() {
        assert!(DeviceArg::Auto.open().unwrap().is_cpu());
        let (message, hints) = exit::describe(&DeviceArg::Cuda.open().unwrap_err());
        assert!(message.contains("feature cuda"), "{message}");
        assert!(hints[0].contains("cargo build --release --features cuda"), "{hints:?}");
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn a_missing_gpu_is_refused_with_a_hint() {
        if let Err(error) = DeviceArg::Cuda.open() {
            let (message, hints) = exit::describe(&error);
            assert!(
                message.contains("GPU") && hints[0].contains("--device cpu"),
                "{error:?}"
            );
        }
    }
}
