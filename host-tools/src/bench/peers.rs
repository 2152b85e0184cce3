//! Peers of the benchmarks: inference engines and PyTorch, in a Python environment (`host-tools/bench/setup.sh`).

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::Context as _;
use serde::Serialize;

use super::Worker;

const SCRIPT: &str = include_str!("../../bench/peers.py");
const SCRIPT_NAME: &str = "peers.py";

/// A peer: its name for `--peers`, and the pip packages that it needs.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    packages: &'static [&'static str],
}

/// Peers of inference.
pub(crate) const ENGINES: [Peer; 4] = [
    Peer {
        name: "onnxruntime",
        title: "ONNX Runtime",
        packages: &["numpy", "onnxruntime"],
    },
    Peer {
        name: "openvino",
        title: "OpenVINO",
        packages: &["numpy", "openvino"],
    },
    Peer {
        name: "ncnn",
        title: "ncnn",
        packages: &["numpy", "ncnn", "pnnx"],
    },
    Peer {
        name: "mnn",
        title: "MNN",
        packages: &["numpy", "MNN"],
    },
];

/// Peer of the training step.
pub(crate) const PYTORCH: Peer = Peer {
    name: "pytorch",
    title: "PyTorch",
    packages: &["torch", "torchvision", "timm"],
};

/// A peer that is not installed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NotInstalled {
    pub(crate) peer: &'static str,
    /// Packages that are missing.
    pub(crate) packages: Vec<&'static str>,
    /// The command that installs them.
    pub(crate) hint: String,
}

/// A Python with some of the peers.
#[derive(Debug)]
pub(crate) struct Peers {
    python: PathBuf,
    /// Private folder of the script, because Python imports modules from the script's folder first.
    folder: tempfile::TempDir,
    /// Names of the requested and installed peers.
    installed: Vec<&'static str>,
    pub(crate) not_installed: Vec<NotInstalled>,
    /// Packages and their versions.
    pub(crate) versions: Vec<String>,
}

impl Peers {
    /// Finds those of the peers `wanted` (all peers if empty) that `python` has installed.
    ///
    /// # Errors
    /// If `python` does not run.
    pub(crate) fn new(python: PathBuf, wanted: &[String]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join(SCRIPT_NAME), SCRIPT)?;
        let mut peers = Self {
            python,
            folder,
            installed: Vec::new(),
            not_installed: Vec::new(),
            versions: Vec::new(),
        };
        let wanted: Vec<&Peer> = (ENGINES.iter().chain([&PYTORCH]))
            .filter(|peer| wanted.is_empty() || wanted.iter().any(|name| name == peer.name))
            .collect();
        let versions = peers.package_versions(&wanted)?;
        for peer in wanted {
            let missing: Vec<&str> = (peer.packages.iter().copied())
                .filter(|package| !versions.contains_key(*package))
                .collect();
            if missing.is_empty() {
                peers.installed.push(peer.name);
                continue;
            }
            let hint = format!("{} -m pip install {}", peers.python.display(), missing.join(" "));
            tracing::warn!("{} is not installed: skipped\nhint: {hint}", peer.title);
            peers.not_installed.push(NotInstalled {
                peer: peer.name,
                packages: missing,
                hint,
            });
        }
        peers.versions = versions
            .into_iter()
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        Ok(peers)
    }

    /// Returns the installed versions of the packages that `peers` need.
    fn package_versions(&self, peers: &[&Peer]) -> anyhow::Result<BTreeMap<String, String>> {
        let packages: Vec<&str> = peers.iter().flat_map(|peer| peer.packages).copied().collect();
        let python = self.python.display();
        let output = Command::new(&self.python)
            .arg(self.folder.path().join(SCRIPT_NAME))
            .arg("installed")
            .arg(serde_json::to_string(&packages)?)
            .stdin(Stdio::null())
            .output()
            .with_context(|| {
                format!("cannot run '{python}'\nhint: host-tools/bench/setup.sh creates the environment")
            })?;
        anyhow::ensure!(
            output.status.success(),
            "'{python}' cannot run the peers: {}\nhint: host-tools/bench/setup.sh creates the environment",
            String::from_utf8_lossy(&output.stderr)
                .lines()
                .last()
                .unwrap_or("no reason given")
        );
        let versions: BTreeMap<String, Option<String>> =
            serde_json::from_slice(&output.stdout).with_context(|| format!("'{python}' is not Python 3"))?;
        Ok((versions.into_iter())
            .filter_map(|(name, version)| Some((name, version?)))
            .collect())
    }

    /// Returns whether `peer` is requested and installed.
    pub(crate) fn has(&self, peer: &Peer) -> bool {
        self.installed.contains(&peer.name)
    }

    /// Starts `peer` on a job.
    ///
    /// # Errors
    /// If the peer cannot run the network, with the peer's reason.
    pub(crate) fn start(&self, peer: &Peer, job: &impl Serialize, threads: usize) -> anyhow::Result<Worker> {
        let mut command = Command::new(&self.python);
        command
            .arg(self.folder.path().join(SCRIPT_NAME))
            .arg(peer.name)
            .arg(serde_json::to_string(job)?);
        Worker::start(command, threads)
    }
}
