//! The plan of a run: backbone, tasks, sizes and jobs.

use std::path::PathBuf;

use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};

use crate::{
    random::{Purpose, stream},
    registry::Settings,
    task_data::ImageLimits,
};

/// A method with its settings and a seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Name of the method.
    pub method: String,
    /// Values of its settings.
    pub settings: Settings,
    /// Seed of every random choice.
    pub seed: u64,
}

impl Job {
    /// Returns the name of the job's folder.
    pub fn folder(&self) -> String {
        format!("{}-{}", self.method, self.seed)
    }
}

/// A run. It is written to `plan.json`, and each of its jobs can be computed alone by its index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The backbone's file.
    pub backbone: PathBuf,
    /// SHA-256 of the backbone's graph and weights.
    pub backbone_digest: String,
    /// Folders of the tasks, in the order of seed 0.
    pub tasks: Vec<PathBuf>,
    /// Rows and columns of the input in pixels.
    pub size: [u32; 2],
    /// Maximum numbers of images.
    pub limits: ImageLimits,
    /// Passes over a task's training images.
    pub epochs: usize,
    /// Images in a batch.
    pub batch: usize,
    /// The jobs.
    pub jobs: Vec<Job>,
}

impl Plan {
    /// Returns the order of the tasks with a seed, as indices of [`Plan::tasks`]. Seed 0 has the given order; the others
    /// keep the first task, and permute the rest.
    pub fn order(&self, seed: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.tasks.len()).collect();
        if seed != 0
            && let Some((_, rest)) = order.split_first_mut()
        {
            rest.shuffle(&mut stream(seed, Purpose::Tasks, 0, 0, 0));
        }
        order
    }

    /// Returns the name of each task: that of its folder.
    pub fn names(&self) -> Vec<String> {
        let name = |folder: &PathBuf| folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.tasks.iter().map(name).collect()
    }
}
