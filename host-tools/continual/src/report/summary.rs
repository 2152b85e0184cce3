//! The results of a run in numbers.

use std::path::Path;

use clr_onnx::Backbone;
use serde::Serialize;

use crate::{
    error::Result,
    learner::Cost,
    metrics::{AccuracyMatrix, mean, standard_deviation},
    registry,
    run::{Cell, Plan, read_cells, read_timing},
};

/// Mean and standard deviation over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Standard deviation; `None` for one seed.
    pub deviation: Option<f64>,
}

impl Spread {
    /// Returns mean and deviation in per cent, such as `81.3 ± 0.4`.
    pub fn percent(self) -> String {
        match self.deviation {
            Some(deviation) => format!("{:.1} ± {:.1}", 100.0 * self.mean, 100.0 * deviation),
            None => format!("{:.1}", 100.0 * self.mean),
        }
    }

    fn of(values: &[f64]) -> Option<Self> {
        Some(Self {
            mean: mean(values.iter().copied())?,
            deviation: standard_deviation(values),
        })
    }
}

/// A finished job.
#[derive(Clone, Debug, Serialize)]
pub struct SeedResult {
    /// Seed.
    pub seed: u64,
    /// Names of the tasks in the order in which they were learned.
    pub order: Vec<String>,
    /// `R[i][j]`: the accuracy on task `j` after task `i`.
    pub accuracies: Vec<Vec<f64>>,
    /// Mean accuracy on all tasks after the last one.
    pub average_accuracy: f64,
    /// Mean of the means after each task.
    pub average_incremental_accuracy: Option<f64>,
    /// Mean loss of accuracy since the best one before the last task.
    pub forgetting: Option<f64>,
    /// Mean change of accuracy since the task was learned.
    pub backward_transfer: Option<f64>,
    /// Seconds of learning all tasks.
    pub seconds: f64,
}

/// A method over all seeds that are finished.
#[derive(Clone, Debug, Serialize)]
pub struct MethodSummary {
    /// Name.
    pub method: String,
    /// One line on it.
    pub summary: &'static str,
    /// The finished seeds.
    pub seeds: Vec<SeedResult>,
    /// Final mean accuracy.
    pub average_accuracy: Option<Spread>,
    /// Forgetting.
    pub forgetting: Option<Spread>,
    /// Backward transfer.
    pub backward_transfer: Option<Spread>,
    /// Accuracy on the first task after each task.
    pub first_task: Vec<Option<Spread>>,
    /// Accuracy on each task of the plan after the last one.
    pub final_accuracies: Vec<Option<Spread>>,
    /// What is stored and computed.
    pub cost: Cost,
    /// 32-bit values stored for one more task, as a share of the backbone's, without heads and statistics of shared
    /// norms. 32 bits count as one value.
    pub share_of_backbone: f64,
    /// Bytes of these values.
    pub bytes_per_task: f64,
    /// Bytes of a task's head, in the mean.
    pub head_bytes_per_task: f64,
    /// Bytes that only further training needs, in all.
    pub training_bytes: f64,
    /// Multiplications of training, relative to plain fine-tuning.
    pub relative_multiplications: f64,
    /// Seconds of training, relative to plain fine-tuning in the same run.
    pub relative_seconds: Option<f64>,
}

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
    /// Folders of jobs that are not finished.
    pub missing: Vec<String>,
}

impl Summary {
    /// Reads the results of a run from its folder.
    ///
    /// # Errors
    /// [`ContinualError::File`](crate::ContinualError::File) if a file cannot be read.
    pub fn read(plan: &Plan, backbone: &Backbone, results: &Path) -> Result<Self> {
        let tasks = plan.names();
        let mut methods: Vec<MethodSummary> = Vec::new();
        let mut missing = Vec::new();
        let backbone_values = backbone_values(backbone);
        for job in &plan.jobs {
            let folder = results.join("jobs").join(job.folder());
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
                    average_accuracy: None,
                    forgetting: None,
                    backward_transfer: None,
                    first_task: Vec::new(),
                    final_accuracies: Vec::new(),
                    share_of_backbone: (timing.cost.values + timing.cost.bits / 32.0) / backbone_values.max(1) as f64,
                    bytes_per_task: 4.0 * timing.cost.values + timing.cost.bits / 8.0,
                    head_bytes_per_task: 4.0 * timing.head_values as f64 / tasks.len().max(1) as f64,
                    training_bytes: 4.0 * timing.cost.training_values as f64 + timing.cost.training_bytes as f64,
                    relative_multiplications: timing.cost.training_passes / 3.0,
                    relative_seconds: None,
                    cost: timing.cost,
                    method: job.method.clone(),
                    seeds: vec![seed],
                }),
            }
        }
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
            size: plan.size,
            tasks,
            methods,
            missing,
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
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

impl MethodSummary {
    fn summarise(&mut self, tasks: &[String]) {
        let of = |value: &dyn Fn(&SeedResult) -> Option<f64>| {
            let values: Vec<f64> = self.seeds.iter().filter_map(value).collect();
            Spread::of(&values)
        };
        let average_accuracy = of(&|seed| Some(seed.average_accuracy));
        let forgetting = of(&|seed| seed.forgetting);
        let backward_transfer = of(&|seed| seed.backward_transfer);
        let first_task = (0..tasks.len()).map(|after| of(&|seed| seed.accuracies.get(after)?.first().copied()));
        let first_task = first_task.collect();
        let final_accuracies = tasks.iter().map(|name| {
            of(&|seed| {
                let task = seed.order.iter().position(|known| known == name)?;
                seed.accuracies.last()?.get(task).copied()
            })
        });
        let final_accuracies = final_accuracies.collect();
        self.average_accuracy = average_accuracy;
        self.forgetting = forgetting;
        self.backward_transfer = backward_transfer;
        self.first_task = first_task;
        self.final_accuracies = final_accuracies;
    }
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
        Op::Conv(conv) => conv.weight.data().len() + conv.bias.as_ref().map_or(0, |bias| bias.data().len()),
        Op::BatchNorm(norm) => norm.scale.data().len() + norm.bias.data().len(),
        Op::Dense { weight, bias } => weight.data().len() + bias.data().len(),
        Op::ChannelAffine { scale, bias } => scale.data().len() + bias.data().len(),
        Op::PRelu { slope } => slope.data().len(),
        _ => 0,
    };
    backbone.graph().nodes.iter().map(|node| of(&node.op)).sum()
}
