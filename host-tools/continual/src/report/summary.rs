//! The results of a run in numbers.

use std::path::Path;

use clr_onnx::Backbone;
use serde::Serialize;

use crate::{
    error::Result,
    learner::Cost,
    metrics::{AccuracyMatrix, mean, standard_deviation, standard_error},
    registry::{self, Settings},
    run::{Cell, Plan, Timing, Tuning, read_cells, read_timing},
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

/// A difference of two average accuracies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Mean over the seeds that both methods have.
    pub mean: f64,
    /// Whether it is below two standard errors, by the number of test images.
    pub level: bool,
}

impl Difference {
    /// Returns the difference in points, such as `-3.2` or `+0.4, level`.
    pub fn points(self) -> String {
        let level = if self.level { ", level" } else { "" };
        format!("{:+.1}{level}", 100.0 * self.mean)
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
    /// Standard error of the average accuracy, by the number of test images.
    pub standard_error: Option<f64>,
    /// Mean of the means after each task.
    pub average_incremental_accuracy: Option<f64>,
    /// Mean loss of accuracy since the best one before the last task.
    pub forgetting: Option<f64>,
    /// Mean change of accuracy since the task was learned.
    pub backward_transfer: Option<f64>,
    /// Mean of what a network fine-tuned for each task alone is ahead directly after the task was learned.
    pub intransigence: Option<f64>,
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
    /// Values of its settings.
    pub settings: Settings,
    /// The finished seeds.
    pub seeds: Vec<SeedResult>,
    /// Final mean accuracy.
    pub average_accuracy: Option<Spread>,
    /// Forgetting.
    pub forgetting: Option<Spread>,
    /// Backward transfer.
    pub backward_transfer: Option<Spread>,
    /// Intransigence.
    pub intransigence: Option<Spread>,
    /// Comparison of the average accuracy with that of `clr`.
    pub against_clr: Option<Difference>,
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
    /// The same in the form of the method's paper; 0 if it is the same form.
    pub reference_bytes: f64,
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
                    average_accuracy: None,
                    forgetting: None,
                    backward_transfer: None,
                    intransigence: None,
                    against_clr: None,
                    first_task: Vec::new(),
                    final_accuracies: Vec::new(),
                    share_of_backbone: (timing.cost.values + timing.cost.bits / 32.0) / backbone_values.max(1) as f64,
                    bytes_per_task: 4.0 * timing.cost.values + timing.cost.bits / 8.0,
                    head_bytes_per_task: 4.0 * timing.head_values as f64 / tasks.len().max(1) as f64,
                    training_bytes: 4.0 * timing.cost.training_values as f64 + timing.cost.training_bytes as f64,
                    reference_bytes: 4.0 * timing.cost.reference_values as f64,
                    relative_multiplications: relative_multiplications(&timing, plan.epochs),
                    relative_seconds: None,
                    cost: timing.cost,
                    method: job.method.clone(),
                    seeds: vec![seed],
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
            size: plan.size,
            tasks,
            methods,
            missing,
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

impl MethodSummary {
    fn summarise(&mut self, tasks: &[String]) {
        let of = |value: &dyn Fn(&SeedResult) -> Option<f64>| {
            let values: Vec<f64> = self.seeds.iter().filter_map(value).collect();
            Spread::of(&values)
        };
        let average_accuracy = of(&|seed| Some(seed.average_accuracy));
        let forgetting = of(&|seed| seed.forgetting);
        let backward_transfer = of(&|seed| seed.backward_transfer);
        let intransigence = of(&|seed| seed.intransigence);
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
        self.intransigence = intransigence;
        self.first_task = first_task;
        self.final_accuracies = final_accuracies;
    }
}

/// Returns the multiplications of training all tasks, relative to three passes per image and epoch.
fn relative_multiplications(timing: &Timing, epochs: usize) -> f64 {
    let cost = &timing.cost;
    let (images, tasks) = (timing.images.iter().sum::<usize>() as f64, timing.images.len() as f64);
    let in_epochs = images * epochs as f64;
    let all = cost.training_passes * in_epochs + cost.passes_per_task * tasks + cost.passes_per_image * images;
    all / (3.0 * in_epochs).max(1.0)
}

/// Compares methods with `independent` and with `clr`, seed by seed.
fn compare(methods: &mut [MethodSummary]) {
    let seeds_of = |name: &str| {
        methods
            .iter()
            .find(|method| method.method == name)
            .map(|of| of.seeds.clone())
    };
    let (alone, clr) = (seeds_of("independent"), seeds_of("clr"));
    for method in methods {
        for seed in &mut method.seeds {
            let alone = alone.iter().flatten().find(|alone| alone.seed == seed.seed);
            seed.intransigence = alone.and_then(|alone| mean_lead(&alone.accuracies, &seed.accuracies));
        }
        let Some(clr) = clr.as_ref().filter(|_| method.method != "clr") else {
            continue;
        };
        let pairs = method.seeds.iter().filter_map(|seed| {
            let clr = clr.iter().find(|clr| clr.seed == seed.seed)?;
            let error = (seed.standard_error?.powi(2) + clr.standard_error?.powi(2)).sqrt();
            Some((seed.average_accuracy - clr.average_accuracy, error))
        });
        let (differences, errors): (Vec<f64>, Vec<f64>) = pairs.unzip();
        method.against_clr = mean(differences).zip(mean(errors)).map(|(mean, error)| Difference {
            mean,
            level: mean.abs() < 2.0 * error,
        });
    }
}

/// Returns how much one method is ahead of another directly after each task, in the mean.
fn mean_lead(ahead: &[Vec<f64>], behind: &[Vec<f64>]) -> Option<f64> {
    let directly = |rows: &[Vec<f64>]| -> Option<Vec<f64>> {
        let diagonal = rows.iter().enumerate().map(|(task, row)| row.get(task).copied());
        diagonal.collect()
    };
    let (ahead, behind) = (directly(ahead)?, directly(behind)?);
    mean(ahead.into_iter().zip(behind).map(|(ahead, behind)| ahead - behind))
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
        Op::Conv(conv) => conv.weight.data().len() + conv.bias.as_ref().map_or(0, |bias| bias.data().len()),
        Op::BatchNorm(norm) => norm.scale.data().len() + norm.bias.data().len(),
        Op::Dense { weight, bias } => weight.data().len() + bias.data().len(),
        Op::ChannelAffine { scale, bias } => scale.data().len() + bias.data().len(),
        Op::PRelu { slope } => slope.data().len(),
        _ => 0,
    };
    backbone.graph().nodes.iter().map(|node| of(&node.op)).sum()
}
