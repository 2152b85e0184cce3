//! Check of a preprocessing: runs the original classifier on images with it, and with every preset.

mod labels;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clr_adapters::{Adapter, Preprocessing};
use clr_engine::{Engine, EngineOptions, ResidentAdapter};
use clr_onnx::{Backbone, Origin, Preset, StatedPreprocessing};
use clr_training::Scan;
use rayon::prelude::*;
use serde::Serialize;

use crate::{output::Output, scan_log};

/// Maximum number of images for the comparison of presets.
const COMPARED: usize = 500;

/// Result of the check.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    folder: PathBuf,
    /// Number of images that could be read.
    images: usize,
    /// The rule that assigned labels to the images; `None` for images without labels.
    labelled_by: Option<&'static str>,
    /// Result with the preprocessing that the adapter uses.
    in_force: Outcome,
    /// Results with the presets, on the same images or on `images` of them.
    presets: Vec<PresetOutcome>,
    unreadable: Vec<Unreadable>,
    /// Folders whose names match no class of the classifier.
    unknown_classes: Vec<String>,
    warning: Option<String>,
}

/// Result of a classifier.
#[derive(Clone, Debug, Default, Serialize)]
struct Outcome {
    images: usize,
    labelled: usize,
    top_1: usize,
    top_5: usize,
    /// Accuracy as a fraction of the labelled images; `None` without labelled images.
    top_1_accuracy: Option<f64>,
    top_5_accuracy: Option<f64>,
    /// Mean of the largest probability.
    mean_confidence: f64,
    /// Fraction of the images whose largest probability is above one half.
    confident_fraction: f64,
}

#[derive(Debug, Serialize)]
struct PresetOutcome {
    preset: &'static str,
    /// Whether it equals the backbone's own preprocessing.
    in_force: bool,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
struct Unreadable {
    image: PathBuf,
    reason: String,
}

/// An image and its class.
struct Labelled {
    path: PathBuf,
    class: Option<usize>,
}

/// Runs the backbone's own classifier over the images in `folder`.
///
/// # Errors
/// If there is no classifier, or no readable image.
pub(crate) fn check(backbone: &Backbone, folder: &Path, output: &Output) -> anyhow::Result<Report> {
    let adapter = backbone.original_adapter().with_context(|| {
        format!(
            "cannot check '{}': the network has no classifier, its output is taken as features\nhint: omit \
             --check-images, or import a file that ends in its classifier",
            folder.display()
        )
    })?;
    let scan = Scan::of(folder)?;
    let found = scan.report([]);
    scan_log::log(&found);
    scan_log::ensure_images(&found, &[folder])?;
    let paths = scan.images();
    let labelling = labels::of(folder, &paths, &adapter.header.labels, backbone.labels().is_some());
    let images: Vec<Labelled> = paths
        .into_iter()
        .zip(labelling.classes)
        .map(|(path, class)| Labelled { path, class })
        .collect();
    let engine = Engine::new(backbone.clone(), EngineOptions::default())?;
    let prepared = |preprocessing: &Preprocessing| -> anyhow::Result<ResidentAdapter> {
        let mut adapter: Adapter = adapter.clone();
        adapter.header.preprocessing = preprocessing.clone();
        Ok(engine.prepare(&adapter)?)
    };
    let variants = Preset::ALL.map(|preset| {
        let stated = StatedPreprocessing::preset(preset);
        let with = backbone.clone().with_stated(&stated, Origin::Option);
        with.map(|backbone| backbone.preprocessing().clone())
    });
    let mut residents = vec![prepared(backbone.preprocessing())?];
    for variant in variants {
        residents.push(prepared(&variant?)?);
    }
    let bar = output.bar(images.len() as u64, "checking images");
    let step = images.len().div_ceil(COMPARED).max(1);
    let predictions: Vec<anyhow::Result<Vec<Prediction>>> = images
        .par_iter()
        .enumerate()
        .map(|(index, image)| {
            // Every preset is evaluated on an evenly spaced subset, and the backbone's preprocessing on all images.
            let asked = if index % step == 0 {
                &residents[..]
            } else {
                &residents[..1]
            };
            let predictions = classify(&engine, asked, image);
            bar.inc(1);
            predictions
        })
        .collect();
    bar.finish_and_clear();
    let mut tallies = vec![Outcome::default(); residents.len()];
    let mut same = Outcome::default();
    let mut unreadable = Vec::new();
    for (image, predictions) in images.iter().zip(predictions) {
        match predictions {
            Ok(predictions) => {
                if predictions.len() > 1 {
                    same.add(&predictions[0]);
                }
                for (tally, prediction) in tallies.iter_mut().zip(&predictions) {
                    tally.add(prediction);
                }
            }
            Err(error) => {
                tracing::warn!("skipped: {error:#}");
                unreadable.push(Unreadable {
                    image: image.path.clone(),
                    reason: format!("{error:#}"),
                });
            }
        }
    }
    tallies.iter_mut().for_each(Outcome::finish);
    same.finish();
    let in_force = tallies.remove(0);
    anyhow::ensure!(
        in_force.images > 0,
        "none of the {} images in '{}' can be read",
        images.len(),
        folder.display()
    );
    let presets: Vec<PresetOutcome> = Preset::ALL
        .into_iter()
        .zip(&residents[1..])
        .zip(tallies)
        .map(|((preset, resident), outcome)| PresetOutcome {
            preset: preset.name(),
            in_force: resident.preprocessing() == backbone.preprocessing(),
            outcome,
        })
        .collect();
    Ok(Report {
        folder: folder.to_owned(),
        images: in_force.images,
        labelled_by: labelling.by,
        warning: warning(&same, &presets),
        in_force,
        presets,
        unreadable,
        unknown_classes: labelling.unknown,
    })
}

/// Result for an image: the rank of its class, if that is known, and the largest probability.
struct Prediction {
    rank: Option<usize>,
    confidence: f64,
}

fn classify(engine: &Engine, residents: &[ResidentAdapter], image: &Labelled) -> anyhow::Result<Vec<Prediction>> {
    let inputs: Vec<&Preprocessing> = residents.iter().map(ResidentAdapter::preprocessing).collect();
    // Decoded as in `classify` and `eval`, for the backbone's preprocessing.
    let decoded = clr_onnx::decode_image_for(&image.path, &inputs)?;
    let prediction = |resident: &ResidentAdapter| {
        let classification = engine.classify(resident, &decoded)?;
        let logits = classification.logits();
        let rank = image.class.map(|class| {
            let own = logits[class];
            let before =
                |(index, &other): (usize, &f32)| other > own || index < class && other.to_bits() == own.to_bits();
            logits.iter().enumerate().filter(|&one| before(one)).count()
        });
        let confidence = classification.best().map_or(0.0, |best| f64::from(best.probability));
        Ok(Prediction { rank, confidence })
    };
    residents.iter().map(prediction).collect()
}

impl Outcome {
    fn add(&mut self, prediction: &Prediction) {
        self.images += 1;
        self.mean_confidence += prediction.confidence;
        self.confident_fraction += f64::from(u8::from(prediction.confidence > 0.5));
        if let Some(rank) = prediction.rank {
            self.labelled += 1;
            self.top_1 += usize::from(rank == 0);
            self.top_5 += usize::from(rank < 5);
        }
    }

    /// Turns sums into means.
    fn finish(&mut self) {
        let images = self.images.max(1) as f64;
        self.mean_confidence /= images;
        self.confident_fraction /= images;
        if self.labelled > 0 {
            let of = |count: usize| Some(count as f64 / self.labelled as f64);
            (self.top_1_accuracy, self.top_5_accuracy) = (of(self.top_1), of(self.top_5));
        }
    }

    /// Returns the top-1 accuracy; for images without labels, the mean confidence.
    fn score(&self) -> f64 {
        self.top_1_accuracy.unwrap_or(self.mean_confidence)
    }

    fn describe(&self) -> String {
        let confidence = format!(
            "mean confidence {:.1} %, above 50 % on {:.1} %",
            100.0 * self.mean_confidence,
            100.0 * self.confident_fraction
        );
        match (self.top_1_accuracy, self.top_5_accuracy) {
            (Some(top_1), Some(top_5)) => format!(
                "top-1 {:.1} % ({} of {}), top-5 {:.1} %, {confidence}",
                100.0 * top_1,
                self.top_1,
                self.labelled,
                100.0 * top_5
            ),
            _ => format!("{confidence} of {} images", self.images),
        }
    }
}

/// Returns a warning if a preset is clearly better than the backbone's preprocessing.
fn warning(in_force: &Outcome, presets: &[PresetOutcome]) -> Option<String> {
    let best = presets
        .iter()
        .max_by(|a, b| a.outcome.score().total_cmp(&b.outcome.score()))?;
    let (own, other) = (in_force.score(), best.outcome.score());
    let labelled = in_force.labelled > 0;
    // Two standard errors of a fraction. Confidence alone is less reliable, so it needs a larger margin.
    let margin = if labelled {
        (2.0 * (other * (1.0 - other) / in_force.labelled as f64).sqrt()).max(0.02)
    } else {
        0.15
    };
    (other > own + margin).then(|| {
        format!(
            "with --preset {} the original classifier {} {:.1} %, with the current preprocessing {:.1} %: the latter \
             is probably wrong\nhint: import again with --preset {}",
            best.preset,
            if labelled {
                "is right on"
            } else {
                "has a mean confidence of"
            },
            100.0 * other,
            100.0 * own,
            best.preset
        )
    })
}

impl Report {
    /// Prints the report and logs its warning.
    pub(crate) fn print(&self, output: &Output) -> std::io::Result<()> {
        let labelled = self.labelled_by.map_or_else(
            || "not labelled: no folder names a class".to_owned(),
            |by| format!("{} labelled by {by}", self.in_force.labelled),
        );
        output.line(&format!(
            "check\t{} images in '{}', {labelled}",
            self.images,
            self.folder.display()
        ))?;
        output.line(&format!("check\tcurrent preprocessing: {}", self.in_force.describe()))?;
        let each = self
            .presets
            .iter()
            .map(|one| format!("{} {:.1} %", one.preset, 100.0 * one.outcome.score()));
        let what = if self.in_force.labelled > 0 {
            "top-1"
        } else {
            "mean confidence"
        };
        let count = self.presets.first().map_or(0, |one| one.outcome.images);
        output.line(&format!(
            "check\t{what} by preset, {count} images: {}",
            each.collect::<Vec<_>>().join(", ")
        ))?;
        if !self.unknown_classes.is_empty() {
            let names: Vec<_> = self.unknown_classes.iter().take(10).map(String::as_str).collect();
            tracing::warn!("folders that name no class of the classifier: {}", names.join(", "));
        }
        if !self.unreadable.is_empty() {
            output.line(&format!("check\t{} images could not be read", self.unreadable.len()))?;
        }
        if let Some(warning) = &self.warning {
            tracing::warn!("{warning}");
        }
        Ok(())
    }
}
