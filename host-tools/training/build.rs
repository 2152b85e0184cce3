//! Compiles the CUDA kernels to PTX, only with the feature `cuda`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Minimum compute capability, the oldest that CUDA 13 supports. The driver compiles the PTX for the GPU in use.
const ARCHITECTURE: &str = "compute_75";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed=src/cuda/kernels");
    for name in ["CUDA_HOME", "CUDA_PATH", "NVCC"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if let Err(reason) = compile(Path::new("src/cuda/kernels/kernels.cu")) {
        println!("cargo::error={reason}");
    }
}

fn compile(source: &Path) -> Result<(), String> {
    let target = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("kernels.ptx");
    let nvcc = nvcc();
    let status = Command::new(&nvcc)
        .args(["--ptx", "-O3", "-arch", ARCHITECTURE, "-o"])
        .arg(target)
        .arg(source)
        .status()
        .map_err(|error| {
            let nvcc = nvcc.display();
            format!(
                "feature `cuda`: cannot run '{nvcc}': {error}; install a CUDA toolkit and set CUDA_HOME to its folder"
            )
        })?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("feature `cuda`: '{}' failed: {status}", nvcc.display()))
    }
}

fn nvcc() -> PathBuf {
    if let Some(nvcc) = env::var_os("NVCC") {
        return nvcc.into();
    }
    ["CUDA_HOME", "CUDA_PATH"]
        .into_iter()
        .filter_map(env::var_os)
        .map(|folder| Path::new(&folder).join("bin").join("nvcc"))
        .find(|nvcc| nvcc.exists())
        .unwrap_or_else(|| "nvcc".into())
}
