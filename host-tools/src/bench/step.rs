//! One training step: forward, backward, update. Each measurement runs in a process of its own, so that its peak memory is.

use std::{
    ops::Range,
    process::{Command, Stdio},
};

use anyhow::Context as _;
use candle_core::{Device, Tensor};
use candle_nn::optim::{AdamW, Optimizer as _, ParamsAdamW};
use clr_adapters::Recipe;
use clr_onnx::seeded_backbone;
use clr_training::{Mode, Network, peak_memory};
use serde::{Deserialize, Serialize};

use super::{CLASSES, Times, architecture, at_size, inference::picture};

/// What to measure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StepJob {
    pub(crate) architecture: String,
    pub(crate) size: u32,
    pub(crate) batch: usize,
    pub(crate) threads: usize,
    pub(crate) steps: usize,
}

/// What was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    #[serde(flatten)]
    pub(crate) times: Times,
    /// The process's largest resident size.
    pub(crate) peak_bytes: Option<u64>,
    /// Trained values.
    pub(crate) parameters: usize,
}

/// Runs the job in this process: recipe `clr`, fixed statistics, Adam.
pub(crate) fn run_step(job: &StepJob) -> anyhow::Result<Step> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(job.threads).build()?;
    pool.install(|| {
        let architecture = architecture(&job.architecture).context("no such architecture")?;
        let backbone = at_size(seeded_backbone(architecture, 1, 0), job.size)?;
        let mut network = Network::new(&backbone, Recipe::Clr, CLASSES, &Device::Cpu, 0)?;
        drop(backbone);
        let parameters = network.parameters()?;
        let count = parameters.iter().map(|parameter| parameter.var.elem_count()).sum();
        let variables = parameters.into_iter().map(|parameter| parameter.var).collect();
        let mut optimiser = AdamW::new(
            variables,
            ParamsAdamW {
                lr: 1e-3,
                weight_decay: 0.0,
                ..Default::default()
            },
        )?;
        let one = picture(job.size);
        let images: Vec<f32> = (0..job.batch).flat_map(|_| one.iter().copied()).collect();
        let images = Tensor::from_vec(
            images,
            (job.batch, 3, job.size as usize, job.size as usize),
            &Device::Cpu,
        )?;
        let classes: Vec<u32> = (0..job.batch).map(|index| (index % CLASSES) as u32).collect();
        let classes = Tensor::from_vec(classes, job.batch, &Device::Cpu)?;
        let times = Times::of(0.0, job.steps, || {
            let learned = network.learn(
                &images,
                Mode::Train,
                &|network: &Network, part: Range<usize>, x: &Tensor| {
                    let logits = network.classify(x, true)?;
                    let loss = candle_nn::loss::cross_entropy(&logits, &classes.narrow(0, part.start, part.len())?)?;
                    Ok((logits, (loss * (part.len() as f64 / job.batch as f64))?))
                },
            )?;
            optimiser.step(&learned.gradients)?;
            Ok(())
        })?;
        Ok(Step {
            times,
            peak_bytes: peak_memory(),
            parameters: count,
        })
    })
}

/// Runs the job in a new process of this program.
pub(crate) fn step_in_own_process(job: &StepJob) -> anyhow::Result<Step> {
    let program = std::env::current_exe().context("this program's own file is not known")?;
    let output = Command::new(program)
        .args(["bench", "--probe"])
        .arg(serde_json::to_string(job)?)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run the measurement")?;
    anyhow::ensure!(
        output.status.success(),
        "the measurement of {} failed",
        job.architecture
    );
    serde_json::from_slice(&output.stdout).context("the measurement gave no result")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_survives_the_way_to_another_process() {
        let job = StepJob {
            architecture: "resnet18".to_owned(),
            size: 96,
            batch: 16,
            threads: 2,
            steps: 3,
        };
        let text = serde_json::to_string(&job).unwrap();
        let back: StepJob = serde_json::from_str(&text).unwrap();
        assert_eq!((back.architecture, back.size, back.batch), (job.architecture, 96, 16));
    }
}
