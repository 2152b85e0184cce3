//! The results of a run in numbers.

use std::path::Path;

use clr_onnx::Backbone;
use serde::Serialize;

use super::{
    comparison::compare,
    results::{MethodSummary, SeedResult},
};
use crate::{
    error::Result,
    metrics::{AccuracyMatrix, mean, standard_error},
    registry,
    run::{Cell, Plan, Tuning, read_cells, read_divergence, read_timing},
};

/// All results of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name of the backbone.
    pub backbone: String,
    /// 32-bit values of its convolutions, dense layers, γ and β.
    pub backbone_values: usize,
    /// Names of the tasks in the order of seed 0.
    pub tasks: Vec<String>,
    /// Passes over a task's training images.
    pub epochs: usize,
    /// Largest number of training images of a task.
    pub images: usize,
    /// Rows and columns of the input in pixels.
    pub size: [u32; 2],
    /// The methods in the order of the plan.
    pub methods: Vec<MethodSummary>,
    /// Largest number of validation images of a task, and of test images.
    pub held_out: usize,
    /// Folders of jobs that are not finished.
    pub missing: Vec<String>,
    /// Folders of jobs whose loss became infinite.
    pub diverged: Vec<String>,
    /// The trials of settings on other tasks.
    pub tuning: Option<Tuning>,
}

impl Summary {
    /// Reads the results of a run from its folder.
    ///
    /// # Errors
    /// [`ContinualError::File`](crate::ContinualError::File) if a file cannot be read.
    pub fn read(plan: &Plan, backbone: &Backbone, results: &Path) -> Result<Self> {
        let tasks = plan.names();
        let mut methods: Vec<MethodSummary> = Vec::new();
        let (mut missing, mut diverged) = (Vec::new(), Vec::new());
        let backbone_values = backbone_values(backbone);
        for job in &plan.jobs {
            let folder = results.join("jobs").join(job.folder());
            if read_divergence(&folder)?.is_some() {
                diverged.push(job.folder());
                continue;
            }
            let (cells, timing) = (read_cells(&folder)?, read_timing(&folder)?);
            let Some(timing) = timing else {
                missing.push(job.folder());
                continue;
            };
            let order: Vec<String> = plan
                .order(job.seed)
                .into_iter()
                .map(|task| tasks[task].clone())
                .collect();
            let matrix = matrix(&cells, tasks.len());
            let Some(average_accuracy) = matrix.average_accuracy() else {
                missing.push(job.folder());
                continue;
            };
            let seed = SeedResult {
                seed: job.seed,
                order,
                average_accuracy,
                standard_error: standard_error(&last_counts(&cells, tasks.len())),
                intransigence: None,
                average_incremental_accuracy: mean(matrix.means().into_iter().flatten()),
                forgetting: matrix.forgetting(),
                backward_transfer: matrix.backward_transfer(),
                seconds: timing.seconds.iter().sum(),
                accuracies: matrix.rows().to_vec(),
            };
            match methods.iter_mut().find(|method| method.method == job.method) {
                Some(method) => method.seeds.push(seed),
                None => methods.push(MethodSummary {
                    summary: registry::find(&job.method).map_or("", |entry| entry.summary),
                    settings: job.settings.clone(),
                    share_of_backbone: (timing.cost.values + timing.cost.bits / 32.0) / backbone_values.max(1) as f64,
                    bytes_per_task: 4.0 * timing.cost.values + timing.cost.bits / 8.0,
                    head_bytes_per_task: 4.0 * timing.head_values as f64 / tasks.len().max(1) as f64,
                    training_bytes: 4.0 * timing.cost.training_values as f64 + timing.cost.training_bytes as f64,
                    reference_bytes: 4.0 * timing.cost.reference_values as f64,
                    relative_multiplications: timing.cost.relative_multiplications(&timing.images, plan.epochs),
                    cost: timing.cost,
                    method: job.method.clone(),
                    seeds: vec![seed],
                    ..MethodSummary::default()
                }),
            }
        }
        compare(&mut methods);
        let seconds = |method: &MethodSummary| mean(method.seeds.iter().map(|seed| seed.seconds));
        let of_sgd = methods.iter().find(|method| method.method == "sgd").and_then(seconds);
        for method in &mut methods {
            method.relative_seconds = seconds(method).zip(of_sgd).map(|(own, sgd)| own / sgd.max(1e-9));
            method.summarise(&tasks);
        }
        Ok(Self {
            backbone: backbone.name().to_owned(),
            backbone_values,
            epochs: plan.epochs,
            images: plan.limits.train,
            held_out: plan.limits.held_out,
            size: plan.size,
            tasks,
            methods,
            missing,
            diverged,
            tuning: Tuning::read(results)?,
        })
    }

    /// Returns one line per cell: method, seed, number and name of the task that was learned last, number and name of the
    /// task that is measured, and its accuracy.
    pub fn csv(&self) -> String {
        let mut text = "method,seed,after,after_name,task,task_name,accuracy\n".to_owned();
        for method in &self.methods {
            for seed in &method.seeds {
                for (after, row) in seed.accuracies.iter().enumerate() {
                    for (task, accuracy) in row.iter().enumerate() {
                        let [learned, measured] = [after, task].map(|index| quoted(&seed.order[index]));
                        let line = format!(
                            "{},{},{},{learned},{},{measured},{accuracy:.4}\n",
                            method.method,
                            seed.seed,
                            after + 1,
                            task + 1
                        );
                        text.push_str(&line);
                    }
                }
            }
        }
        text
    }
}

/// Quotes a field of a CSV file if it needs it.
pub(super) fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// Returns the counts of correct images and of all images after the last task.
fn last_counts(cells: &[Cell], tasks: usize) -> Vec<(usize, usize)> {
    let last = cells.iter().filter(|cell| cell.after + 1 == tasks);
    last.map(|cell| (cell.correct, cell.total)).collect()
}

fn matrix(cells: &[Cell], tasks: usize) -> AccuracyMatrix {
    let mut rows = vec![Vec::new(); tasks];
    let mut sorted: Vec<&Cell> = cells.iter().collect();
    sorted.sort_by_key(|cell| (cell.after, cell.task));
    for cell in sorted {
        if let Some(row) = rows.get_mut(cell.after) {
            row.push(cell.correct as f64 / cell.total.max(1) as f64);
        }
    }
    AccuracyMatrix::new(rows)
}

/// Returns the number of values of convolutions, dense layers, γ and β.
fn backbone_values(backbone: &Backbone) -> usize {
    use clr_onnx::Op;
    let of = |op: &Op| match op {
        Op::Conv(conv) => conv.weight.count() + conv.bias.as_ref().map_or(0, |bias| bias.data().len()),
        Op::BatchNorm(norm) => norm.scale.data().len() + norm.bias.data().len(),
        Op::Dense { weight, bias } => weight.data().len() + bias.data().len(),
        Op::ChannelAffine { scale, bias } => scale.data().len() + bias.data().len(),
        Op::PRelu { slope } => slope.data().len(),
        _ => 0,
    };
    backbone.graph().nodes.iter().map(|node| of(&node.op)).sum()
}
