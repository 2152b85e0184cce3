//! One training step: forward, backward, update. Compared with PyTorch training the same values.

use std::{ops::Range, path::PathBuf};

use anyhow::Context as _;
use candle_core::{Device, Tensor};
use candle_nn::optim::{AdamW, Optimizer as _, ParamsAdamW};
use clr_adapters::Recipe;
use clr_onnx::Backbone;
use clr_training::Mode;
use serde::{Deserialize, Serialize};

use super::{
    CLASSES, Job, Measured, Network, Peers, Rounds, Worker, at_size, image, in_turns,
    memory::resident,
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
    /// Ours over PyTorch's, best times.
    pub(crate) time_ratio: Option<f64>,
    /// Ours over PyTorch's, largest resident size of the processes.
    pub(crate) memory_ratio: Option<f64>,
    /// The same without what the processes held before they loaded the network.
    pub(crate) memory_growth_ratio: Option<f64>,
    /// Reason why there is no PyTorch.
    pub(crate) left_out: Option<String>,
}

/// Times, memory and values of one side.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StepTimes {
    pub(crate) version: String,
    pub(crate) network: String,
    #[serde(flatten)]
    pub(crate) times: Measured,
    /// Resident size before the network was loaded.
    pub(crate) library_bytes: Option<u64>,
    /// Trained values.
    pub(crate) parameters: usize,
}

/// Job of our own worker.
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

/// Measures recipe `clr` with fixed statistics and Adam at `size` × `size` pixels.
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

/// `theirs`, unless its name was guessed and it trains another number of values.
fn same_network(network: &Network, ours: &Worker, theirs: Worker) -> anyhow::Result<Worker> {
    let (own, other) = (ours.ready.parameters, theirs.ready.parameters);
    if own != other && !network.torch_stated {
        let count = |count: Option<usize>| count.unwrap_or_default();
        anyhow::bail!(
            "{} trains {} values, expected {}: another network\nhint: --torch NAME states which network this is",
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

/// A network that learns one batch over and over.
struct Ours {
    network: clr_training::Network,
    optimiser: AdamW,
    images: Tensor,
    classes: Tensor,
    batch: usize,
}

impl Serve for Ours {
    fn run(&mut self) -> anyhow::Result<Vec<f32>> {
        let (classes, batch) = (&self.classes, self.batch);
        let objective = |network: &clr_training::Network, part: Range<usize>, x: &Tensor| {
            let logits = network.classify(x, true)?;
            let loss = candle_nn::loss::cross_entropy(&logits, &classes.narrow(0, part.start, part.len())?)?;
            Ok((logits, (loss * (part.len() as f64 / batch as f64))?))
        };
        let learned = self.network.learn(&self.images, Mode::Train, &objective)?;
        self.optimiser.step(&learned.gradients)?;
        Ok(Vec::new())
    }
}

/// Runs a job in this process until stdin ends.
pub(crate) fn serve_step(job: &StepJob) -> anyhow::Result<()> {
    let library_bytes = resident();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(job.threads).build()?;
    pool.install(|| {
        let backbone = Backbone::load(&job.backbone)?;
        let size = [backbone.preprocessing().height, backbone.preprocessing().width];
        let network = clr_training::Network::new(&backbone, Recipe::Clr, CLASSES, &Device::Cpu, 0)?;
        drop(backbone);
        let parameters = network.parameters()?;
        let count = parameters.iter().map(|parameter| parameter.var.elem_count()).sum();
        let variables = parameters.into_iter().map(|parameter| parameter.var).collect();
        let options = ParamsAdamW {
            lr: 1e-3,
            weight_decay: 0.0,
            ..Default::default()
        };
        let one = image(size);
        let images: Vec<f32> = (0..job.batch).flat_map(|_| one.iter().copied()).collect();
        let [height, width] = size.map(|side| side as usize);
        let classes: Vec<u32> = (0..job.batch).map(|index| (index % CLASSES) as u32).collect();
        let mut ours = Ours {
            network,
            optimiser: AdamW::new(variables, options)?,
            images: Tensor::from_vec(images, (job.batch, 3, height, width), &Device::Cpu)?,
            classes: Tensor::from_vec(classes, job.batch, &Device::Cpu)?,
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
