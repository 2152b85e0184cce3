//! Training for the commands: shows progress, writes metrics, and checks the adapter before it is written.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clr_engine::{Engine, EngineOptions};
use clr_onnx::Backbone;
use clr_training::{
    Observer, ParitySample, Phase, Progress, Record, Trained, Warning, confusion_matrix_svg, inspect::Severity,
    learning_curve_svg,
};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::{
    destination::{publish, write_atomically},
    exit::ParityError,
    output::Output,
};

/// Maximum difference between the logits of two engines, relative to the largest logit.
pub(crate) const TOLERANCE: f64 = 1e-3;

/// Observer that draws a bar, logs epochs, and appends each epoch to `metrics.jsonl`.
pub(crate) struct Watcher<'a> {
    output: &'a Output,
    label: String,
    bar: Option<(Phase, ProgressBar)>,
    metrics: Option<BufWriter<File>>,
}

impl<'a> Watcher<'a> {
    /// Creates an observer. `metrics.jsonl` in `folder` is truncated unless `append` is set.
    pub(crate) fn new(output: &'a Output, label: &str, folder: Option<&Path>, append: bool) -> anyhow::Result<Self> {
        let metrics = match folder {
            Some(folder) => {
                let path = folder.join("metrics.jsonl");
                let context = || format!("cannot write '{}'", path.display());
                fs::create_dir_all(folder).with_context(context)?;
                let file = if append {
                    File::options().create(true).append(true).open(&path)
                } else {
                    File::create(&path)
                }
                .with_context(context)?;
                Some(BufWriter::new(file))
            }
            None => None,
        };
        Ok(Self {
            output,
            label: label.to_owned(),
            bar: None,
            metrics,
        })
    }

    fn log(&self, message: impl FnOnce()) {
        match &self.bar {
            Some((_, bar)) => bar.suspend(message),
            None => message(),
        }
    }
}

impl Observer for Watcher<'_> {
    fn progress(&mut self, progress: Progress) {
        let fresh = self.bar.as_ref().is_none_or(|(phase, _)| *phase != progress.phase);
        if fresh {
            if let Some((_, old)) = self.bar.take() {
                old.finish_and_clear();
            }
            let what = match progress.phase {
                Phase::Decode => "reading images".to_owned(),
                Phase::Features => "frozen features".to_owned(),
                Phase::Head => "fitting the head".to_owned(),
                Phase::Train(recipe) => format!("training {recipe}"),
                Phase::Round(recipe) => format!("training {recipe} with rounded values"),
                Phase::Evaluate => "evaluating".to_owned(),
                _ => "working".to_owned(),
            };
            let bar = self
                .output
                .bar(progress.total as u64, &format!("{}: {what}", self.label));
            self.bar = Some((progress.phase, bar));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set_length(progress.total as u64);
            bar.set_position(progress.done as u64);
            if progress.done >= progress.total {
                bar.finish_and_clear();
            }
        }
    }

    fn record(&mut self, record: &Record) {
        self.log(|| {
            tracing::info!(
                "{}: {} epoch {}/{}, validation accuracy {:.1} %, loss {:.3}{}",
                self.label,
                record.recipe,
                record.epoch,
                record.epochs,
                100.0 * record.validation_accuracy,
                record.validation_loss,
                record
                    .train_loss
                    .map(|loss| format!(", training loss {loss:.3}"))
                    .unwrap_or_default(),
            );
        });
        if let Some(metrics) = &mut self.metrics {
            let line = serde_json::to_string(record).unwrap_or_default();
            if let Err(error) = writeln!(metrics, "{line}").and_then(|()| metrics.flush()) {
                tracing::warn!("cannot write metrics.jsonl, no more metrics are written: {error}");
                self.metrics = None;
            }
        }
    }

    fn warning(&mut self, warning: &Warning) {
        let note = matches!(warning, Warning::Layout { .. })
            || matches!(warning, Warning::Check { level, .. } if *level == Severity::Note);
        self.log(|| {
            if note {
                tracing::info!("{}: {warning}", self.label);
            } else {
                tracing::warn!("{}: {warning}", self.label);
            }
        });
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Agreement of the training network and the device engine.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Parity {
    #[serde(rename = "pictures")]
    pub(crate) images: usize,
    /// Largest difference of a logit, relative to the image's largest logit.
    pub(crate) largest_difference: f64,
    pub(crate) tolerance: f64,
}

/// Decodes the adapter file `bytes` and compares the logits of `samples`, which are validation images, with those of the device
/// engine. Then writes a temporary file, reads it back and renames it.
pub(crate) fn publish_checked(
    backbone: &Backbone,
    bytes: &[u8],
    samples: &[ParitySample],
    path: &Path,
) -> anyhow::Result<Parity> {
    let adapter = clr_adapters::decode(bytes)
        .context("the adapter cannot be read back")?
        .adapter;
    let engine = Engine::new(backbone.clone(), EngineOptions::default())?;
    let resident = engine.prepare(&adapter)?;
    anyhow::ensure!(!samples.is_empty(), "no validation image to compare the engines with");
    let parity = compare(samples, &|input| Ok(engine.logits(&resident, input)?))?;
    // Written last. If the run is interrupted, only a temporary file remains.
    publish(path, bytes, |written| {
        let read = fs::read(written).with_context(|| format!("cannot read back '{}'", written.display()))?;
        anyhow::ensure!(read == bytes, "'{}' differs from the bytes written", written.display());
        Ok(())
    })?;
    Ok(parity)
}

/// Returns the largest relative difference between the samples' logits and `other`'s. A difference above [`TOLERANCE`]
/// is an error.
pub(crate) fn compare(
    samples: &[ParitySample],
    other: &dyn Fn(&[f32]) -> anyhow::Result<Vec<f32>>,
) -> anyhow::Result<Parity> {
    let mut parity = Parity {
        images: samples.len(),
        largest_difference: 0.0,
        tolerance: TOLERANCE,
    };
    for (index, sample) in samples.iter().enumerate() {
        let difference = relative_difference(&sample.logits, &other(&sample.input)?);
        parity.largest_difference = parity.largest_difference.max(difference);
        if difference.is_nan() || difference > TOLERANCE {
            return Err(ParityError {
                left: "the training network (candle)",
                right: "the device engine",
                difference,
                tolerance: TOLERANCE,
                image: format!("validation image {}", index + 1),
            }
            .into());
        }
    }
    Ok(parity)
}

/// Returns `max |a − b| / max |a|`; infinity if the lengths differ.
pub(crate) fn relative_difference(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let largest = a
        .iter()
        .map(|value| f64::from(value.abs()))
        .fold(f64::MIN_POSITIVE, f64::max);
    let difference = a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).abs());
    // `max` would drop a NaN.
    difference.fold(
        0.0,
        |worst: f64, one| if one.is_nan() || one > worst { one } else { worst },
    ) / largest
}

/// Writes `learning-curve.svg` and `confusion.svg`. The latter is for the test split if there is one, otherwise for
/// validation.
pub(crate) fn write_plots(trained: &Trained, folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    let mut write = |name: &str, svg: String| -> anyhow::Result<()> {
        let path = folder.join(name);
        write_atomically(&path, svg.as_bytes())?;
        written.push(path);
        Ok(())
    };
    if !trained.history.is_empty() {
        write("learning-curve.svg", learning_curve_svg(&trained.history)?)?;
    }
    let evaluation = trained.test.as_ref().unwrap_or(&trained.quantised_validation);
    write(
        "confusion.svg",
        confusion_matrix_svg(&evaluation.confusion, &trained.adapter.header.labels)?,
    )?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit;

    #[test]
    fn the_difference_is_relative_to_the_largest_logit() {
        assert!((relative_difference(&[10.0, 1.0], &[10.0, 1.1]) - 0.01).abs() < 1e-6);
        assert!(relative_difference(&[1.0], &[f32::NAN]).is_nan());
        assert!(relative_difference(&[1.0], &[1.0, 2.0]).is_infinite());
        assert!(relative_difference(&[0.0], &[0.0]).abs() < 1e-12);
    }

    #[test]
    fn engines_that_disagree_are_an_error_with_its_own_exit_code() {
        let samples = [ParitySample {
            input: vec![0.0],
            logits: vec![1.0, 2.0],
        }];
        assert!(compare(&samples, &|_| Ok(vec![1.0, 2.0])).is_ok());
        for other in [vec![1.0, 2.1], vec![1.0, f32::NAN]] {
            let error = compare(&samples, &|_| Ok(other.clone())).unwrap_err();
            assert_eq!(exit::code(&error), exit::PARITY);
        }
    }
}
