//! A job: one method learns all tasks with one seed.

use std::{path::Path, time::Instant};

use candle_core::Device;
use clr_onnx::Backbone;

use super::{
    files::{Cell, Divergence, JobFiles, State, Timing, file_error},
    plan::{Job, Plan},
};
use crate::{
    error::{ContinualError, Result},
    learner::{Learner, LearnerOptions, correct},
    registry,
    task::{AUGMENTATION, Task},
    task_data::TaskData,
};

/// Images whose logits are compared after every task, for methods with constant logits.
const COMPARED: usize = 8;

/// Progress of a job.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// Number of the task, from 0, in the job's order.
    pub task: usize,
    /// Finished epochs of the task.
    pub epoch: usize,
    /// Mean loss of the epoch.
    pub loss: f64,
}

/// Runs a job, or continues it. `tasks` are the tasks in the job's order; `results` is the folder of the run. Returns the
/// cells.
///
/// # Errors
/// [`ContinualError`] of a method or file; [`ContinualError::Forgot`] if constant logits changed;
/// [`ContinualError::Diverged`] if the loss is not finite, now or when the job ran before.
pub fn run_job(
    plan: &Plan,
    job: &Job,
    backbone: &Backbone,
    tasks: &[TaskData],
    results: &Path,
    device: &Device,
    progress: &mut dyn FnMut(Event),
) -> Result<Vec<Cell>> {
    let folder = results.join("jobs").join(job.folder());
    let key = key(plan, job)?;
    let digests: Vec<[u8; 32]> = tasks.iter().map(|task| task.digest.0).collect();
    let hexadecimal: Vec<String> = tasks.iter().map(|task| task.digest.to_string()).collect();
    if let Some(timing) = super::read_timing(&folder)? {
        if timing.key != key || timing.data != hexadecimal {
            return Err(other_data(&folder));
        }
        return super::read_cells(&folder);
    }
    let entry = registry::find(&job.method).ok_or_else(|| unknown(&job.method))?;
    if let Some(Divergence {
        key: known,
        data,
        task,
        epoch,
    }) = super::read_divergence(&folder)?
    {
        if known != key || data != hexadecimal {
            return Err(other_data(&folder));
        }
        let method = entry.name;
        return Err(ContinualError::Diverged { method, task, epoch });
    }
    let path = folder.clone();
    let files = JobFiles::new(folder)?;
    let classes: Vec<usize> = tasks.iter().map(|task| task.classes.len()).collect();
    let mut learner = entry.learner(backbone, &job.settings, &classes, device)?;
    let mut state = State {
        key: key.clone(),
        data: Vec::new(),
        seconds: Vec::new(),
        logit_bits: Vec::new(),
        learner: Vec::new(),
    };
    if let Some(saved) = files.load_state()? {
        if saved.key != key || !digests.starts_with(&saved.data) {
            return Err(other_data(&path));
        }
        learner.restore(saved.data.len(), job.seed, &saved.learner)?;
        state = saved;
    }
    let options = LearnerOptions {
        epochs: plan.epochs,
        batch: plan.batch,
        ..LearnerOptions::default()
    };
    let known = state.data.len();
    let mut cells: Vec<Cell> = super::read_cells(&path)?;
    cells.retain(|cell| cell.after < known);
    // The records of the last task may not have been written.
    if known > 0 && !cells.iter().any(|cell| cell.after == known - 1) {
        measure(&*learner, known - 1, tasks, &state, &mut cells)?;
        files.save_records(&cells)?;
    }
    for index in known..tasks.len() {
        let data = &tasks[index];
        let task = Task {
            index,
            classes: data.classes.len(),
            train: &data.train,
            seed: job.seed,
            augmentation: &AUGMENTATION,
        };
        let start = Instant::now();
        let learned = learner.learn(&task, &data.validation, &options, &mut |epoch, loss| {
            progress(Event {
                task: index,
                epoch,
                loss,
            });
        });
        if let Err(ContinualError::Diverged { task, epoch, .. }) = &learned {
            files.save_divergence(&Divergence {
                key: key.clone(),
                data: hexadecimal.clone(),
                task: *task,
                epoch: *epoch,
            })?;
        }
        learned?;
        state.seconds.push(start.elapsed().as_secs_f64());
        state.data.push(digests[index]);
        if learner.has_constant_logits() {
            state.logit_bits.push(logit_bits(&*learner, index, data)?);
        }
        // A method that learns all tasks at once has nothing to continue from before the last.
        if !learner.learns_all_at_once() {
            state.learner = learner.save()?;
            files.save_state(&state)?;
        }
        if !learner.learns_all_at_once() || index + 1 == tasks.len() {
            measure(&*learner, index, tasks, &state, &mut cells)?;
            files.save_records(&cells)?;
        }
    }
    files.save_timing(&Timing {
        key,
        data: hexadecimal,
        seconds: state.seconds,
        images: tasks.iter().map(|task| task.train.examples().len()).collect(),
        cost: learner.cost(),
        head_values: learner.head_values(),
    })?;
    files.remove_state()?;
    Ok(cells)
}

/// Returns what a job is computed from, apart from its images.
fn key(plan: &Plan, job: &Job) -> Result<String> {
    let parts = (
        &plan.backbone_digest,
        plan.size,
        plan.limits,
        plan.epochs,
        plan.batch,
        job,
    );
    serde_json::to_string(&parts).map_err(|error| file_error(Path::new("plan.json"), error.into()))
}

fn other_data(folder: &Path) -> ContinualError {
    ContinualError::Mismatch {
        what: "a job that was begun",
        expected: "the same backbone, settings, sizes and images in the same order".to_owned(),
        got: format!("others in {}\nhint: use another output folder", folder.display()),
    }
}

/// Measures all tasks so far.
fn measure(
    learner: &dyn Learner,
    after: usize,
    tasks: &[TaskData],
    state: &State,
    cells: &mut Vec<Cell>,
) -> Result<()> {
    for (task, data) in tasks[..=after].iter().enumerate() {
        let earlier = cells.iter().find(|cell| cell.after == task && cell.task == task);
        let correct = match earlier {
            // Constant logits are compared, not measured again.
            Some(earlier) if learner.has_constant_logits() => {
                if logit_bits(learner, task, data)? != state.logit_bits[task] {
                    return Err(ContinualError::Forgot {
                        task: data.name.clone(),
                        after: tasks[after].name.clone(),
                    });
                }
                earlier.correct
            }
            _ => correct(learner, task, &data.test)?,
        };
        cells.push(Cell {
            after,
            task,
            name: data.name.clone(),
            correct,
            total: data.test.examples().len(),
        });
    }
    Ok(())
}

/// Returns the bits of the logits of some test images.
fn logit_bits(learner: &dyn Learner, task: usize, data: &TaskData) -> Result<Vec<u32>> {
    let indices: Vec<usize> = (0..data.test.examples().len().min(COMPARED)).collect();
    let rows = learner.logits(task, &data.test, &indices)?;
    Ok(rows.into_iter().flatten().map(f32::to_bits).collect())
}

fn unknown(method: &str) -> ContinualError {
    let names: Vec<&str> = registry::METHODS.iter().map(|entry| entry.name).collect();
    ContinualError::Mismatch {
        what: "a method",
        expected: names.join(", "),
        got: method.to_owned(),
    }
}
