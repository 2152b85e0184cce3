//! Runs of the same tasks on several backbones.

use std::fmt::Write as _;

use serde::Serialize;

use super::{
    results::{MethodSummary, Spread},
    summary::Summary,
};
use crate::error::{ContinualError, Result};

/// A method on several backbones.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MethodOnBackbones {
    /// Name of the method.
    pub method: String,
    /// Average accuracy on each backbone, in their order; `None` where the method did not run.
    pub average_accuracy: Vec<Option<Spread>>,
    /// Number of finished seeds on each backbone.
    pub seeds: Vec<usize>,
    /// Bytes stored per task on each backbone, without the head.
    pub bytes_per_task: Vec<Option<f64>>,
}

/// The comparison of backbones.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Backbones {
    /// Names of the backbones.
    pub backbones: Vec<String>,
    /// 32-bit values of their convolutions, dense layers, γ and β.
    pub values: Vec<usize>,
    /// Names of the tasks in the order of seed 0.
    pub tasks: Vec<String>,
    /// Largest number of training images of a task.
    pub images: usize,
    /// Rows and columns of the input in pixels.
    pub size: [u32; 2],
    /// Passes over a task's training images.
    pub epochs: usize,
    /// The methods, in the order of the first run that has them.
    pub methods: Vec<MethodOnBackbones>,
    /// Per backbone: the folders of jobs that are not finished.
    pub missing: Vec<Vec<String>>,
    /// Per backbone: the folders of jobs whose loss became infinite.
    pub diverged: Vec<Vec<String>>,
}

impl Backbones {
    /// Compares runs. `folders` are the names of their folders, which distinguish backbones of the same name.
    ///
    /// # Errors
    /// [`ContinualError::Mismatch`] if tasks, sizes, images or epochs differ.
    pub fn new(folders: &[String], runs: &[Summary]) -> Result<Self> {
        let Some(first) = runs.first() else {
            return Err(different("runs", &"at least one", &0));
        };
        for run in runs {
            if run.tasks != first.tasks {
                return Err(different("tasks", &first.tasks, &run.tasks));
            }
            let conditions = |run: &Summary| (run.size, run.images, run.held_out, run.epochs);
            if conditions(run) != conditions(first) {
                return Err(different(
                    "input size, training images, test images and epochs",
                    &conditions(first),
                    &conditions(run),
                ));
            }
        }
        let mut methods: Vec<String> = Vec::new();
        for method in runs.iter().flat_map(|run| &run.methods) {
            if !methods.contains(&method.method) {
                methods.push(method.method.clone());
            }
        }
        let methods = methods.into_iter().map(|name| {
            let found: Vec<Option<&MethodSummary>> = (runs.iter())
                .map(|run| run.methods.iter().find(|method| method.method == name))
                .collect();
            MethodOnBackbones {
                average_accuracy: found
                    .iter()
                    .map(|method| method.and_then(|method| method.average_accuracy))
                    .collect(),
                seeds: found
                    .iter()
                    .map(|method| method.map_or(0, |method| method.seeds.len()))
                    .collect(),
                bytes_per_task: found
                    .iter()
                    .map(|method| method.map(|method| method.bytes_per_task))
                    .collect(),
                method: name,
            }
        });
        let name = |(run, folder): (&Summary, &String)| {
            let same = runs.iter().filter(|other| other.backbone == run.backbone).count();
            if same > 1 {
                format!("{} ({folder})", run.backbone)
            } else {
                run.backbone.clone()
            }
        };
        Ok(Self {
            backbones: runs.iter().zip(folders).map(name).collect(),
            missing: runs.iter().map(|run| run.missing.clone()).collect(),
            diverged: runs.iter().map(|run| run.diverged.clone()).collect(),
            values: runs.iter().map(|run| run.backbone_values).collect(),
            tasks: first.tasks.clone(),
            images: first.images,
            size: first.size,
            epochs: first.epochs,
            methods: methods.collect(),
        })
    }

    /// Returns one line per method and backbone: the number of seeds, the mean of the average accuracy, its standard
    /// deviation, and the bytes stored per task.
    pub fn csv(&self) -> String {
        let mut text = "method,backbone,seeds,average_accuracy,standard_deviation,bytes_per_task\n".to_owned();
        for method in &self.methods {
            for (index, backbone) in self.backbones.iter().enumerate() {
                let (Some(spread), Some(bytes)) = (method.average_accuracy[index], method.bytes_per_task[index]) else {
                    continue;
                };
                let deviation = spread.deviation.map(|deviation| format!("{deviation:.4}"));
                let deviation = deviation.unwrap_or_default();
                let _ = writeln!(
                    text,
                    "{},{},{},{:.4},{deviation},{bytes:.0}",
                    method.method,
                    super::summary::quoted(backbone),
                    method.seeds[index],
                    spread.mean
                );
            }
        }
        text
    }
}

fn different(what: &'static str, expected: &impl std::fmt::Debug, got: &impl std::fmt::Debug) -> ContinualError {
    ContinualError::Mismatch {
        what,
        expected: format!("{expected:?}"),
        got: format!("{got:?}"),
    }
}
