//! Latency of one image, compared with the installed inference engines.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use clr_adapters::{Encoding, Recipe};
use clr_engine::{Engine, EngineOptions, ResidentAdapter};
use clr_onnx::Backbone;
use serde::{Deserialize, Serialize};

use super::{
    Job, Measured, Network, Peers, Rounds, Worker, image, in_turns,
    peers::{ENGINES, Peer},
    some_adapter,
    worker::{Ready, Serve, serve},
};
use crate::destination::write_atomically;

/// Maximum difference of a peer's output from ours, relative to the output's largest value.
const SAME_OUTPUT: f32 = 1e-3;

/// Latency of one image through one network.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Inference {
    pub(crate) model: String,
    /// Height, width.
    pub(crate) size: [u32; 2],
    pub(crate) threads: usize,
    /// `linear`: the plain network. `clr`: with an adapter at every site.
    pub(crate) recipe: Recipe,
    pub(crate) ours: Measured,
    pub(crate) peers: Vec<PeerTimes>,
    /// The fastest peer.
    pub(crate) best_peer: Option<&'static str>,
    /// Our best time over the fastest peer's.
    pub(crate) ratio: Option<f64>,
    pub(crate) left_out: Vec<LeftOut>,
}

/// Times of one peer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PeerTimes {
    pub(crate) peer: &'static str,
    pub(crate) version: String,
    pub(crate) model: PeerModel,
    pub(crate) times: Measured,
    /// Largest difference of the peer's output from ours, divided by the largest value of its output.
    pub(crate) largest_difference: f32,
}

/// Kind of model that a peer executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PeerModel {
    /// The file as given.
    File,
    /// The model that `clr merge` writes.
    Merged,
}

/// A peer without times.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LeftOut {
    pub(crate) peer: &'static str,
    pub(crate) reason: String,
}

/// Job for our own worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InferenceJob {
    backbone: PathBuf,
    adapter: PathBuf,
    input: PathBuf,
    threads: usize,
}

#[derive(Serialize)]
struct PeerJob<'a> {
    model: &'a Path,
    input: &'a Path,
    size: [u32; 2],
    threads: usize,
    folder: &'a Path,
}

/// Measures `network` with each number of threads, either unchanged (`linear`) or with an adapter at every site
/// (`clr`).
pub(crate) fn inference(
    network: &Network,
    recipe: Recipe,
    threads: usize,
    rounds: Rounds,
    peers: Option<&Peers>,
) -> anyhow::Result<Inference> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let backbone = &network.backbone;
    let size = [backbone.preprocessing().height, backbone.preprocessing().width];
    let adapter = match recipe {
        Recipe::Linear => backbone.original_adapter(),
        _ => None,
    };
    let adapter = adapter.unwrap_or_else(|| some_adapter(backbone, recipe, "bench"));
    let bytes: Vec<u8> = image(size).into_iter().flat_map(f32::to_le_bytes).collect();
    std::fs::write(path("input.f32"), bytes)?;
    backbone.save(&path("backbone.onnx"))?;
    std::fs::write(path("adapter.clr"), clr_adapters::encode(&adapter, Encoding::F32)?)?;
    let job = Job::Inference(InferenceJob {
        backbone: path("backbone.onnx"),
        adapter: path("adapter.clr"),
        input: path("input.f32"),
        threads,
    });
    let mut ours = Worker::start(job.command()?, threads)?;
    let output = ours.output(&path("output.f32"))?;
    anyhow::ensure!(
        output.iter().all(|value| value.is_finite()),
        "the output is not finite: random weights may overflow\nhint: measure a trained network"
    );
    let mut workers = vec![ours];
    let mut found = Vec::new();
    let mut left_out = Vec::new();
    if let Some(peers) = peers {
        let mut models = Vec::new();
        if let Some(file) = network.onnx.as_ref().filter(|_| recipe == Recipe::Linear) {
            models.push((PeerModel::File, std::path::absolute(file)?));
        }
        let merged = clr_onnx::merge(backbone, &adapter, size.map(|side| side as usize))?;
        write_atomically(&path("merged.onnx"), &merged.to_bytes())?;
        models.push((PeerModel::Merged, path("merged.onnx")));
        for peer in ENGINES.iter().filter(|peer| peers.has(peer)) {
            let start = |model: &Path| {
                let folder = tempfile::tempdir_in(folder.path())?;
                let job = PeerJob {
                    model,
                    input: &path("input.f32"),
                    size,
                    threads,
                    folder: folder.path(),
                };
                agreeing(peers, peer, &job, &output)
            };
            match first_that_runs(&models, start) {
                Ok((model, worker, difference)) => {
                    found.push((peer.name, worker.ready.version.clone(), model, difference));
                    workers.push(worker);
                }
                Err(error) => left_out.push(LeftOut {
                    peer: peer.name,
                    reason: format!("{error:#}"),
                }),
            }
        }
    }
    let mut times = in_turns(&mut workers, rounds).into_iter();
    let ours = times.next().context("no measurement")??;
    let mut measured = Vec::new();
    for ((peer, version, model, largest_difference), times) in found.into_iter().zip(times) {
        match times {
            Ok(times) => measured.push(PeerTimes {
                peer,
                version,
                model,
                times,
                largest_difference,
            }),
            Err(error) => left_out.push(LeftOut {
                peer,
                reason: format!("{error:#}"),
            }),
        }
    }
    let best = (measured.iter()).min_by(|a, b| a.times.best.total_cmp(&b.times.best));
    Ok(Inference {
        model: network.name.clone(),
        size,
        threads,
        recipe,
        best_peer: best.map(|peer| peer.peer),
        ratio: best.map(|peer| ours.best / peer.times.best),
        ours,
        peers: measured,
        left_out,
    })
}

/// Starts a peer on the first model with which its output equals ours. The error is that of the last model.
fn first_that_runs(
    models: &[(PeerModel, PathBuf)],
    start: impl Fn(&Path) -> anyhow::Result<(Worker, f32)>,
) -> anyhow::Result<(PeerModel, Worker, f32)> {
    let mut result = Err(anyhow::anyhow!("no model"));
    for (model, path) in models {
        result = start(path).map(|(worker, difference)| (*model, worker, difference));
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Starts a peer, and checks that its output equals ours.
fn agreeing(peers: &Peers, peer: &Peer, job: &PeerJob<'_>, ours: &[f32]) -> anyhow::Result<(Worker, f32)> {
    let mut worker = peers.start(peer, job, job.threads)?;
    let theirs = worker.output(&job.folder.join("output.f32"))?;
    anyhow::ensure!(
        theirs.len() == ours.len(),
        "its output has {} values, expected {}",
        theirs.len(),
        ours.len()
    );
    let difference = relative_difference(ours, &theirs);
    anyhow::ensure!(
        difference <= SAME_OUTPUT,
        "its output differs by {difference:.1e} of its largest value, expected at most {SAME_OUTPUT:.0e}"
    );
    Ok((worker, difference))
}

/// Returns the largest absolute difference divided by the largest absolute value of `theirs`; NaN if any value is NaN.
fn relative_difference(ours: &[f32], theirs: &[f32]) -> f32 {
    let largest = theirs
        .iter()
        .fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    let differences = ours
        .iter()
        .zip(theirs)
        .map(|(ours, theirs)| (ours - theirs).abs() / largest);
    differences.fold(0.0, |worst: f32, difference| {
        if worst.is_nan() || difference <= worst {
            worst
        } else {
            difference
        }
    })
}

/// Our engine on one image.
struct Ours {
    engine: Engine,
    adapter: ResidentAdapter,
    input: Vec<f32>,
}

impl Serve for Ours {
    fn run(&mut self) -> anyhow::Result<Vec<f32>> {
        Ok(self.engine.logits(&self.adapter, &self.input)?)
    }
}

/// Runs a job in this process until stdin ends.
pub(crate) fn serve_inference(job: &InferenceJob) -> anyhow::Result<()> {
    let options = EngineOptions::default().with_threads(job.threads);
    let engine = Engine::new(Backbone::load(&job.backbone)?, options)?;
    let adapter = engine.prepare(&clr_adapters::decode(&std::fs::read(&job.adapter)?)?.adapter)?;
    let bytes = std::fs::read(&job.input)?;
    let (values, _) = bytes.as_chunks();
    let input = values.iter().copied().map(f32::from_le_bytes).collect();
    let ready = Ready {
        version: format!("clr {}", env!("CARGO_PKG_VERSION")),
        ..Ready::default()
    };
    serve(ready, &mut Ours { engine, adapter, input })
}

impl Job {
    /// Returns the command that runs this program as a worker on the job.
    pub(super) fn command(&self) -> anyhow::Result<Command> {
        let program = std::env::current_exe().context("the path of this program is not known")?;
        let mut command = Command::new(program);
        command.args(["bench", "--worker"]).arg(serde_json::to_string(self)?);
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_relative_to_the_peers_largest_value() {
        assert_eq!(relative_difference(&[1.0, -3.0], &[1.0, -4.0]), 0.25);
        assert_eq!(relative_difference(&[0.0], &[0.0]), 0.0);
    }

    #[test]
    fn a_nan_output_never_agrees() {
        for (ours, theirs) in [([f32::NAN, 1.0], [1.0, 1.0]), ([1.0, 1.0], [f32::NAN, 1.0])] {
            let difference = relative_difference(&ours, &theirs);
            assert!(difference.is_nan(), "{difference}");
        }
    }
}
