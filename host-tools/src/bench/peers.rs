//! PyTorch and ONNX Runtime, in a Python environment of the bench's own (`host-tools/bench/setup.sh`).

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context as _;
use serde::{Serialize, de::DeserializeOwned};

use super::{Step, StepJob, Times};

const SCRIPT: &str = include_str!("../../bench/peers.py");

/// A Python with both peers.
#[derive(Debug)]
pub(crate) struct Peers {
    python: PathBuf,
    script: tempfile::NamedTempFile,
}

#[derive(Serialize)]
struct OrtJob<'a> {
    model: &'a Path,
    size: u32,
    threads: usize,
    seconds: f64,
}

impl Peers {
    /// The peers behind `python`, or an error that says what is missing.
    pub(crate) fn new(python: PathBuf) -> anyhow::Result<Self> {
        let mut script = tempfile::Builder::new().suffix(".py").tempfile()?;
        script.write_all(SCRIPT.as_bytes())?;
        let peers = Self { python, script };
        let versions = peers.versions()?;
        tracing::info!("peers: {}", versions.join(", "));
        Ok(peers)
    }

    /// Names and versions.
    pub(crate) fn versions(&self) -> anyhow::Result<Vec<String>> {
        let code = "import torch, onnxruntime; print('torch ' + torch.__version__); \
                    print('onnxruntime ' + onnxruntime.__version__)";
        let output = Command::new(&self.python)
            .args(["-c", code])
            .stdin(Stdio::null())
            .output()
            .with_context(|| {
                format!(
                    "cannot run '{}'\nhint: host-tools/bench/setup.sh makes the environment",
                    self.python.display()
                )
            })?;
        anyhow::ensure!(
            output.status.success(),
            "'{}' lacks PyTorch or ONNX Runtime\nhint: host-tools/bench/setup.sh makes the environment",
            self.python.display()
        );
        Ok(String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(str::to_owned)
            .collect())
    }

    pub(crate) fn onnxruntime(&self, model: &Path, size: u32, threads: usize, seconds: f64) -> anyhow::Result<Times> {
        self.run(
            "ort",
            &OrtJob {
                model,
                size,
                threads,
                seconds,
            },
        )
    }

    pub(crate) fn pytorch(&self, job: &StepJob) -> anyhow::Result<Step> {
        self.run("step", job)
    }

    fn run<T: DeserializeOwned>(&self, what: &str, job: &impl Serialize) -> anyhow::Result<T> {
        let output = Command::new(&self.python)
            .arg(self.script.path())
            .arg(what)
            .arg(serde_json::to_string(job)?)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run '{}'", self.python.display()))?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(
            output.status.success(),
            "the peer failed: {}",
            stderr
                .lines()
                .rev()
                .find(|line| !line.trim().is_empty())
                .unwrap_or("no reason given")
        );
        serde_json::from_slice(&output.stdout).context("the peer gave no result")
    }
}
