//! One training step: forward, backward, update. Each measurement runs in a process of its own, so that its peak memory is.

use std::process::{Command, Stdio};

use anyhow::Context as _;
use clr_adapters::Recipe;
use clr_onnx::seeded_backbone;
use clr_training::{Adam, AdamOptions, Network, PerGroup, cross_entropy, peak_memory};
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
        let mut network = Network::new(&backbone, Recipe::Clr, CLASSES, 0)?;
        drop(backbone);
        let parameters = network.parameters();
        let count = parameters.iter().map(|parameter| parameter.values.len()).sum();
        let options = AdamOptions {
            rates: PerGroup::all(1e-3),
            decay: PerGroup::all(0.0),
            relative: false,
            l2_norm: 0.0,
            clip: None,
            beta2: 0.999,
        };
        let mut adam = Adam::new(parameters, options, None);
        let one = picture(job.size);
        let images: Vec<&[f32]> = vec![&one; job.batch];
        let loss = |index: usize, logits: &[f32]| {
            let mut target = vec![0.0; CLASSES];
            target[index % CLASSES] = 1.0;
            let (loss, gradient) = cross_entropy(logits, &target, 1.0);
            let share = 1.0 / job.batch as f64;
            let gradient = gradient.into_iter().map(|value| (value * share) as f32);
            ((loss * share) as f32, gradient.collect())
        };
        let times = Times::of(0.0, job.steps, || {
            let output = network.forward_backward(&images, [job.size as usize; 2], None, &loss)?;
            network.set_values(adam.step(&output.gradients, 1.0))?;
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
