//! Training step (forward, backward, update), compared with PyTorch on the same parameters.

use std::path::PathBuf;

use anyhow::Context as _;
use clr_adapters::Recipe;
use clr_onnx::Backbone;
use clr_training::{Adam, AdamOptions, PerGroup, cross_entropy};
use serde::{Deserialize, Serialize};

use super::{
    CLASSES, Job, Measured, Network, Peers, Rounds, Worker, at_size, image, in_turns,
    peers::PYTORCH,
    worker::{Ready, Serve, serve},
};

/// Training step of one network at one input size.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Step {
    pub(crate) model: String,
    pub(crate) size: u32,
    pub(crate) batch: usize,
    pub(crate) threads: usize,
    pub(crate) ours: StepTimes,
    pub(crate) pytorch: Option<StepTimes>,
    /// Our best time over PyTorch's.
    pub(crate) time_ratio: Option<f64>,
    /// Our peak resident memory over PyTorch's.
    pub(crate) memory_ratio: Option<f64>,
    /// The same ratio, without the memory in use before the network was loaded.
    pub(crate) memory_growth_ratio: Option<f64>,
    /// Why PyTorch was not measured.
    pub(crate) left_out: Option<String>,
}

/// Times, memory and number of trained values of one side.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StepTimes {
    pub(crate) version: String,
    pub(crate) network: String,
    #[serde(flatten)]
    pub(crate) times: Measured,
    /// Resident memory in bytes before the network was loaded.
    pub(crate) library_bytes: Option<u64>,
    /// Number of trained values.
    pub(crate) parameters: usize,
}

/// Job for our own worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StepJob {
    backbone: PathBuf,
    batch: usize,
    threads: usize,
}

#[derive(Serialize)]
struct PyTorchJob<'a> {
    networks: &'a [String],
    size: u32,
    batch: usize,
    threads: usize,
    classes: usize,
}

/// Measures the recipe `clr` with fixed statistics and Adam at `size` × `size` pixels.
pub(crate) fn training_step(
    network: &Network,
    size: u32,
    batch: usize,
    threads: usize,
    rounds: Rounds,
    peers: Option<&Peers>,
) -> anyhow::Result<Step> {
    let folder = tempfile::tempdir()?;
    let backbone = folder.path().join("backbone.onnx");
    at_size(network.backbone.clone(), size)?.save(&backbone)?;
    let job = Job::Step(StepJob {
        backbone,
        batch,
        threads,
    });
    let mut workers = vec![Worker::start(job.command()?, threads)?];
    let mut left_out = None;
    if let Some(peers) = peers.filter(|peers| peers.has(&PYTORCH)) {
        let job = PyTorchJob {
            networks: &network.torch,
            size,
            batch,
            threads,
            classes: CLASSES,
        };
        let started = peers.start(&PYTORCH, &job, threads);
        match started.and_then(|theirs| same_network(network, &workers[0], theirs)) {
            Ok(theirs) => workers.push(theirs),
            Err(error) => left_out = Some(format!("{error:#}")),
        }
    }
    let mut times = in_turns(&mut workers, rounds).into_iter().zip(&workers);
    let (ours, worker) = times.next().context("no measurement")?;
    let ours = StepTimes::new(ours?, worker, &network.name);
    let mut pytorch = None;
    if let Some((theirs, worker)) = times.next() {
        match theirs {
            Ok(theirs) => pytorch = Some(StepTimes::new(theirs, worker, &network.torch[0])),
            Err(error) => left_out = Some(format!("{error:#}")),
        }
    }
    let ratio = |of: fn(&StepTimes) -> Option<f64>| Some(of(&ours)? / of(pytorch.as_ref()?)?);
    Ok(Step {
        model: network.name.clone(),
        size,
        batch,
        threads,
        time_ratio: ratio(|side| Some(side.times.best)),
        memory_ratio: ratio(|side| Some(side.times.peak_bytes? as f64)),
        memory_growth_ratio: ratio(|side| Some(side.times.peak_bytes?.checked_sub(side.library_bytes?)? as f64)),
        ours,
        pytorch,
        left_out,
    })
}

/// Returns `theirs`, unless its name was guessed and the number of trained values differs from ours.
fn same_network(network: &Network, ours: &Worker, theirs: Worker) -> anyhow::Result<Worker> {
    let (own, other) = (ours.ready.parameters, theirs.ready.parameters);
    if own != other && !network.torch_stated {
        let count = |count: Option<usize>| count.unwrap_or_default();
        anyhow::bail!(
            "{} trains {} values, expected {}: a different network\nhint: --torch NAME selects the right one",
            theirs.ready.network.as_deref().unwrap_or("it"),
            count(other),
            count(own)
        );
    }
    Ok(theirs)
}

impl StepTimes {
    fn new(times: Measured, worker: &Worker, name: &str) -> Self {
        Self {
            version: worker.ready.version.clone(),
            network: worker.ready.network.clone().unwrap_or_else(|| name.to_owned()),
            times,
            library_bytes: worker.ready.library_bytes,
            parameters: worker.ready.parameters.unwrap_or_default(),
        }
    }
}

/// A network that is trained repeatedly on the same batch.
struct Ours {
    network: clr_training::Network,
    optimiser: Adam,
    image: Vec<f32>,
    size: [usize; 2],
    batch: usize,
}

impl Serve for Ours {
    fn run(&mut self) -> anyhow::Result<Vec<f32>> {
        let images: Vec<&[f32]> = vec![&self.image; self.batch];
        let share = 1.0 / self.batch as f64;
        let loss = |index: usize, logits: &[f32]| {
            let mut target = vec![0.0; CLASSES];
            target[index % CLASSES] = 1.0;
            let (loss, gradient) = cross_entropy(logits, &target, 1.0);
            let gradient = gradient.into_iter().map(|value| (value * share) as f32);
            ((loss * share) as f32, gradient.collect())
        };
        let output = self.network.forward_backward(&images, self.size, None, &loss)?;
        self.network.set_values(self.optimiser.step(&output.gradients, 1.0))?;
        Ok(Vec::new())
    }
}

/// Runs a job in this process until stdin ends.
pub(crate) fn serve_step(job: &StepJob) -> anyhow::Result<()> {
    let library_bytes = clr_training::resident_memory();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(job.threads).build()?;
    pool.install(|| {
        let backbone = Backbone::load(&job.backbone)?;
        let size = [backbone.preprocessing().height, backbone.preprocessing().width];
        let network = clr_training::Network::new(&backbone, Recipe::Clr, CLASSES, 0)?;
        drop(backbone);
        let parameters = network.parameters();
        let count = parameters.iter().map(|parameter| parameter.values.len()).sum();
        let options = AdamOptions::new(PerGroup::all(1e-3));
        let mut ours = Ours {
            network,
            optimiser: Adam::new(parameters, options, None),
            image: image(size),
            size: size.map(|side| side as usize),
            batch: job.batch,
        };
        let ready = Ready {
            version: format!("clr {}", env!("CARGO_PKG_VERSION")),
            network: None,
            parameters: Some(count),
            library_bytes,
        };
        serve(ready, &mut ours)
    })
}
