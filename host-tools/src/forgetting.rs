//! Bit-identity of a task's logits before and after other tasks were learned.

use std::{
    hint::black_box,
    path::{Path, PathBuf},
    time::Instant,
};

use clr_engine::{Engine, ResidentAdapter, TaskSet};
use clr_onnx::Preprocess as _;
use rayon::prelude::*;
use serde::Serialize;

/// A resident task with its images.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TaskImages<'a> {
    pub(crate) task: &'a str,
    pub(crate) paths: &'a [PathBuf],
}

/// Comparison of the first task's logits before and after learning the other tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Forgetting {
    #[serde(rename = "pictures")]
    pub(crate) images: usize,
    pub(crate) logits: usize,
    pub(crate) different_bits: usize,
}

/// Returns the bits of the logits of each image.
pub(crate) fn all_logits(
    engine: &Engine,
    adapter: &ResidentAdapter,
    paths: &[PathBuf],
) -> anyhow::Result<Vec<Vec<u32>>> {
    paths.par_iter().map(|path| logits(engine, adapter, path)).collect()
}

/// Returns the logits of the first task when a frame of each other task is classified between any two of its frames.
pub(crate) fn interleaved(
    engine: &Engine,
    tasks: &TaskSet,
    first: TaskImages<'_>,
    others: &[TaskImages<'_>],
) -> anyhow::Result<Vec<Vec<u32>>> {
    let mut all = Vec::with_capacity(first.paths.len());
    for (index, path) in first.paths.iter().enumerate() {
        for other in others {
            let active = tasks.switch(other.task)?;
            logits(engine, &active, &other.paths[index % other.paths.len()])?;
        }
        all.push(logits(engine, &*tasks.switch(first.task)?, path)?);
    }
    Ok(all)
}

fn logits(engine: &Engine, adapter: &ResidentAdapter, path: &Path) -> anyhow::Result<Vec<u32>> {
    let image = clr_onnx::decode_image_for(path, &[adapter.preprocessing()])?;
    let input = adapter.preprocessing().preprocess(&image);
    Ok(engine.logits(adapter, &input)?.into_iter().map(f32::to_bits).collect())
}

/// Counts the logits that are not bit-identical.
pub(crate) fn compare(before: &[Vec<u32>], after: &[Vec<u32>]) -> Forgetting {
    let flat = |all: &[Vec<u32>]| all.iter().flatten().copied().collect::<Vec<u32>>();
    let (before_flat, after_flat) = (flat(before), flat(after));
    let different = before_flat.iter().zip(&after_flat).filter(|(a, b)| a != b).count();
    Forgetting {
        images: before.len(),
        logits: before_flat.len(),
        different_bits: different + before_flat.len().abs_diff(after_flat.len()),
    }
}

/// Returns the median time of a switch in seconds, measured in batches of a hundred.
pub(crate) fn switch_time(tasks: &TaskSet, names: &[&str]) -> anyhow::Result<f64> {
    const BATCH: usize = 100;
    let mut times = Vec::new();
    for _ in 0..300 {
        let start = Instant::now();
        for index in 0..BATCH {
            black_box(tasks.switch(names[index % names.len()])?);
        }
        times.push(start.elapsed().as_secs_f64() / BATCH as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changed_bit_is_forgetting() {
        let before = vec![vec![1.0_f32.to_bits(), 2.0_f32.to_bits()]];
        assert_eq!(compare(&before, &before).different_bits, 0);
        let after = vec![vec![1.0_f32.to_bits(), 2.0_f32.to_bits() ^ 1]];
        assert_eq!(compare(&before, &after).different_bits, 1);
        assert_eq!(compare(&before, &[]).different_bits, 2);
    }
}
