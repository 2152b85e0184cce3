//! Runs of the same tasks on several backbones.

use std::fmt::Write as _;

use serde::Serialize;

use super::{
    page::{LIMITS, document, inline},
    plots::backbones_svg,
    summary::{Spread, Summary},
    tables::{escaped, head, percent, row},
};
use crate::error::{ContinualError, Result};

/// A method on several backbones.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MethodOnBackbones {
    /// Name of the method.
    pub method: String,
    /// Average accuracy on each backbone, in their order; `None` where the method did not run.
    pub average_accuracy: Vec<Option<Spread>>,
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
}

impl Backbones {
    /// Compares runs. `names` are those of their backbones.
    ///
    /// # Errors
    /// [`ContinualError::Mismatch`] if tasks, sizes, images or epochs differ.
    pub fn new(names: Vec<String>, runs: &[Summary]) -> Result<Self> {
        let Some(first) = runs.first() else {
            return Err(different("runs", &"at least one", &0));
        };
        for run in runs {
            if run.tasks != first.tasks {
                return Err(different("tasks", &first.tasks, &run.tasks));
            }
            let conditions = |run: &Summary| (run.size, run.images, run.epochs);
            if conditions(run) != conditions(first) {
                return Err(different(
                    "input size, training images and epochs",
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
            let of_run = |run: &Summary| run.methods.iter().find(|method| method.method == name).cloned();
            let found: Vec<_> = runs.iter().map(of_run).collect();
            let of = |value: &dyn Fn(&super::MethodSummary) -> Option<f64>| {
                found.iter().map(|method| method.as_ref().and_then(value)).collect()
            };
            MethodOnBackbones {
                average_accuracy: found
                    .iter()
                    .map(|method| method.as_ref().and_then(|method| method.average_accuracy))
                    .collect(),
                bytes_per_task: of(&|method| Some(method.bytes_per_task)),
                method: name,
            }
        });
        Ok(Self {
            backbones: names,
            values: runs.iter().map(|run| run.backbone_values).collect(),
            tasks: first.tasks.clone(),
            images: first.images,
            size: first.size,
            epochs: first.epochs,
            methods: methods.collect(),
        })
    }

    /// Returns one line per method and backbone: the mean of the average accuracy, its standard deviation, and the bytes
    /// stored per task.
    pub fn csv(&self) -> String {
        let mut text = "method,backbone,average_accuracy,standard_deviation,bytes_per_task\n".to_owned();
        for method in &self.methods {
            for (index, backbone) in self.backbones.iter().enumerate() {
                let (Some(spread), Some(bytes)) = (method.average_accuracy[index], method.bytes_per_task[index]) else {
                    continue;
                };
                let deviation = spread.deviation.map(|deviation| format!("{deviation:.4}"));
                let deviation = deviation.unwrap_or_default();
                let _ = writeln!(
                    text,
                    "{},{},{:.4},{deviation},{bytes:.0}",
                    method.method,
                    super::summary::quoted(backbone),
                    spread.mean
                );
            }
        }
        text
    }

    /// Returns a page.
    ///
    /// # Errors
    /// [`ContinualError::Plot`] if the plot cannot be drawn.
    pub fn html(&self) -> Result<String> {
        let names = self.backbones.iter().map(String::as_str);
        let mut accuracies = head(&std::iter::once("method").chain(names.clone()).collect::<Vec<_>>());
        let mut stored = accuracies.clone();
        for method in &self.methods {
            let name = std::iter::once(method.method.clone());
            let cells = method.average_accuracy.iter().map(|&spread| percent(spread));
            accuracies.push_str(&row(&name.clone().chain(cells).collect::<Vec<_>>()));
            let cells = method.bytes_per_task.iter().zip(&self.values).map(|(bytes, values)| {
                bytes.map_or_else(
                    || "–".to_owned(),
                    |bytes| {
                        format!(
                            "{:.1} kB ({:.2} %)",
                            bytes / 1e3,
                            25.0 * bytes / (*values).max(1) as f64
                        )
                    },
                )
            });
            stored.push_str(&row(&name.chain(cells).collect::<Vec<_>>()));
        }
        let body = format!(
            "<h1>Continual learning on {} backbones</h1>\n<p>{} tasks in turn: {}. At most {} training images of {} × {} pixels per \
             task, {} epochs. Average accuracy on test images after the last task in per cent, mean ± standard deviation over \
             seeds.</p>\n<p>{LIMITS}</p>\n<table>\n{accuracies}</table>\n<figure>{}</figure>\n<h2>Stored per task</h2>\n<p>For \
             inference, without the head; in brackets as a share of the backbone's values.</p>\n<table>\n{stored}</table>\n",
            self.backbones.len(),
            self.tasks.len(),
            escaped(&self.tasks.join(", ")),
            self.images,
            self.size[0],
            self.size[1],
            self.epochs,
            inline(&backbones_svg(self)?),
        );
        Ok(document("Continual learning on several backbones", &body))
    }
}

fn different(what: &'static str, expected: &impl std::fmt::Debug, got: &impl std::fmt::Debug) -> ContinualError {
    ContinualError::Mismatch {
        what,
        expected: format!("{expected:?}"),
        got: format!("{got:?}"),
    }
}
