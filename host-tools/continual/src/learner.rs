//! The interface of a method to a run, its options and its costs.

use crate::{error::Result, images::Images, task::Task};
use clr_training::LrSchedule;

/// Options that are the same for all methods and tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnerOptions {
    /// Passes over a task's training images.
    pub epochs: usize,
    /// Images in a batch.
    pub batch: usize,
    /// Factor on the rates over a task.
    pub schedule: LrSchedule,
}

impl Default for LearnerOptions {
    /// Eight epochs in batches of 16, one epoch of warm-up, then half a cosine.
    fn default() -> Self {
        Self {
            epochs: 8,
            batch: 16,
            schedule: LrSchedule::Cosine {
                warmup: 1.0,
                min_factor: 0.0,
            },
        }
    }
}

/// Values that are stored for the tasks so far, without heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Cost {
    /// 32-bit values that inference needs besides the backbone, per task.
    pub values: f64,
    /// Bits that inference needs besides these, per task.
    pub bits: f64,
    /// 32-bit values that further training needs, in all.
    pub training_values: usize,
    /// Bytes of images that further training needs, in all.
    pub training_bytes: usize,
    /// Values whose importance was reduced in the last step, so that it could not diverge.
    pub capped: usize,
    /// 32-bit values that further training needs in the form of the method's paper, in all; 0 if it is the same form.
    pub reference_values: usize,
    /// Multiplications of training per image and epoch, relative to those of a forward pass of the backbone.
    pub training_passes: f64,
    /// What the first task needs in addition, per image and epoch.
    pub first_task_passes: f64,
    /// What each task needs once per image.
    pub passes_per_image: f64,
    /// Images of a task, at most, that need passes once; a smaller task has only its own.
    pub sampled_images: usize,
    /// What each of these images needs.
    pub passes_per_sampled_image: f64,
}

impl Cost {
    /// Returns the multiplications of training tasks of `images` images, relative to three passes per image and epoch.
    pub fn relative_multiplications(&self, images: &[usize], epochs: usize) -> f64 {
        let all = images.iter().sum::<usize>() as f64;
        let first = images.first().copied().unwrap_or(0) as f64;
        let sampled = images.iter().map(|images| (*images).min(self.sampled_images));
        let in_epochs = epochs as f64 * (self.training_passes * all + self.first_task_passes * first);
        let once = self.passes_per_image * all + self.passes_per_sampled_image * sampled.sum::<usize>() as f64;
        (in_epochs + once) / (3.0 * epochs as f64 * all).max(1.0)
    }
}

/// A method with what it has learned.
pub trait Learner {
    /// Learns a task. `validation` are its validation images, for the start of its head. `progress` is called after
    /// each epoch with their number and the mean loss.
    ///
    /// # Errors
    /// [`ContinualError`](crate::ContinualError) of the method.
    fn learn(
        &mut self,
        task: &Task<'_>,
        validation: &Images,
        options: &LearnerOptions,
        progress: &mut dyn FnMut(usize, f64),
    ) -> Result<()>;

    /// Returns the logits `[K]` of images of a task.
    ///
    /// # Errors
    /// [`ContinualError`](crate::ContinualError) of the method.
    fn logits(&self, task: usize, images: &Images, indices: &[usize]) -> Result<Vec<Vec<f32>>>;

    /// Returns whether the logits of a task stay bit-identical after it was learned.
    fn has_constant_logits(&self) -> bool;

    /// Returns whether all tasks are learned at once, with the last one.
    fn learns_all_at_once(&self) -> bool {
        false
    }

    /// Returns what is stored and computed.
    fn cost(&self) -> Cost;

    /// Returns the number of values of all heads.
    fn head_values(&self) -> usize;

    /// Returns the state after the tasks so far.
    ///
    /// # Errors
    /// [`ContinualError`](crate::ContinualError) of the method.
    fn save(&self) -> Result<Vec<u8>>;

    /// Continues from a state after `tasks` tasks. The learner is new.
    ///
    /// # Errors
    /// [`ContinualError`](crate::ContinualError) if the state is of another network or damaged.
    fn restore(&mut self, tasks: usize, seed: u64, state: &[u8]) -> Result<()>;
}

/// Returns the number of images of a task that are classified correctly.
///
/// # Errors
/// [`ContinualError`](crate::ContinualError) of the method.
pub fn correct(learner: &dyn Learner, task: usize, images: &Images) -> Result<usize> {
    let indices: Vec<usize> = (0..images.examples().len()).collect();
    let mut correct = 0;
    for chunk in indices.chunks(50) {
        let hits = learner
            .logits(task, images, chunk)?
            .into_iter()
            .zip(images.labels(chunk));
        correct += hits
            .filter(|(row, label)| clr_training::argmax(row) == *label as usize)
            .count();
    }
    Ok(correct)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplications_include_what_is_computed_once() {
        let relative = |cost: Cost| cost.relative_multiplications(&[100, 300], 10);
        let sgd = Cost {
            training_passes: 3.0,
            ..Cost::default()
        };
        let close = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-9, "{got} {expected}");
        close(relative(sgd), 1.0);
        // 400 images once, of 12,000 passes.
        close(
            relative(Cost {
                passes_per_image: 1.0,
                ..sgd
            }),
            1.0 + 400.0 / 12_000.0,
        );
        // All 100 images of the first task and 200 of the second.
        close(
            relative(Cost {
                sampled_images: 200,
                passes_per_sampled_image: 5.0,
                ..sgd
            }),
            1.0 + 1_500.0 / 12_000.0,
        );
        // Ten epochs of the first task.
        close(
            relative(Cost {
                first_task_passes: 1.0,
                ..sgd
            }),
            1.0 + 1_000.0 / 12_000.0,
        );
    }
}
