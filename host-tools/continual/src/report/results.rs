//! The results of a method in numbers.

use serde::Serialize;

use crate::{
    learner::Cost,
    metrics::{mean, standard_deviation},
    registry::Settings,
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

    pub(super) fn of(values: &[f64]) -> Option<Self> {
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
    /// Whether it is at most two standard errors, by the number of test images.
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
#[derive(Clone, Debug, Default, Serialize)]
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
    /// Mean lead of `independent` directly after each task; `None` for a method that learns all tasks at once.
    pub intransigence: Option<f64>,
    /// Seconds of learning all tasks.
    pub seconds: f64,
}

/// A method over all seeds that are finished.
#[derive(Clone, Debug, Default, Serialize)]
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

impl MethodSummary {
    /// Computes means and deviations over the seeds.
    pub(super) fn summarise(&mut self, tasks: &[String]) {
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
