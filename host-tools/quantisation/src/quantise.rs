//! The steps of a quantisation.

use std::collections::BTreeSet;

use clr_onnx::{Backbone, Quantiser};

use crate::{
    Clipped, Correction, Images, Loss, QuantisationError, QuantiseOptions, Selection,
    calibrate::{Calibration, convolutions},
    correct::{self, Corrected, correct},
    evaluate::{features, loss},
    fallback,
    progress::{Observer, Progress, Stage},
};

/// Clipped values are reported from this fraction on.
const CLIPPED: f64 = 0.01;

/// A quantised backbone and its loss.
#[derive(Clone, Debug)]
pub struct Quantised {
    /// The backbone.
    pub backbone: Backbone,
    /// Its loss on the held-out images.
    pub loss: Loss,
    /// Effect of the bias correction.
    pub correction: Correction,
    /// Number of convolutions with integer weights, and of all.
    pub convolutions: [usize; 2],
    /// Names of the convolutions that were returned to float.
    pub float: Vec<String>,
    /// Rounded values of which more than 1 % are outside their range on the held-out images.
    pub clipped: Vec<Clipped>,
    /// Number of images for calibration and of held-out ones.
    pub images: [usize; 2],
}

/// Quantises a float backbone.
///
/// The result does not depend on the number of threads.
///
/// # Errors
/// [`QuantisationError::Quantised`] if the backbone is quantised already; [`QuantisationError::FewImages`] if there are too
/// few images; [`QuantisationError::Loss`] if the error is larger than the options allow, even with the most harmful
/// convolutions in float; another [`QuantisationError`] if the backbone cannot be executed at an input size.
pub fn quantise(
    backbone: &Backbone,
    images: &Images,
    options: &QuantiseOptions,
    observer: &mut Observer<'_>,
) -> Result<Quantised, QuantisationError> {
    if backbone.is_quantised() {
        return Err(QuantisationError::Quantised {
            name: backbone.name().to_owned(),
        });
    }
    let [count, held_out] = images.counts();
    Selection::default().ensure(if held_out == 0 { 0 } else { count + held_out })?;
    let run = Run {
        backbone,
        images,
        reference: features(backbone, &images.sizes, &images.held_out)?,
        calibration: {
            let mut meter = Meter::new(Stage::Calibrate, count, observer);
            let folded = Quantiser::new(backbone, &BTreeSet::new())?;
            Calibration::new(folded.folded(), &images.sizes, &images.calibration, &mut |done| {
                meter.advance(done);
            })?
        },
    };
    let (mut best, corrected) = run.attempt(&[], observer)?;
    if best.loss.error > options.max_error {
        let [_, all] = convolutions(backbone);
        let most = (options.max_float * all as f64) as usize;
        let mut meter = Meter::new(Stage::Select, all, observer);
        let ranking = fallback::ranking(
            backbone,
            &run.calibration,
            &corrected.shifts,
            &images.calibration,
            &mut |done| {
                meter.advance(done);
            },
        )?;
        for number in fallback::attempts(most) {
            let (attempt, _) = run.attempt(&ranking[..number], observer)?;
            if attempt.loss.error < best.loss.error {
                best = attempt;
            }
            if best.loss.error <= options.max_error {
                break;
            }
        }
        if best.loss.error > options.max_error && !options.force {
            return Err(QuantisationError::Loss {
                loss: best.loss,
                max_error: options.max_error,
                max_float: most,
                convolutions: all,
            });
        }
    }
    Ok(best)
}

/// A quantisation in progress.
struct Run<'a> {
    backbone: &'a Backbone,
    images: &'a Images,
    /// Float features of the held-out images.
    reference: Vec<Vec<f32>>,
    calibration: Calibration,
}

impl Run<'_> {
    /// Quantises the backbone with the convolutions `float` in float, and measures its loss.
    fn attempt(
        &self,
        float: &[String],
        observer: &mut Observer<'_>,
    ) -> Result<(Quantised, Corrected), QuantisationError> {
        let (images, calibration) = (self.images, &self.calibration);
        let quantiser = Quantiser::new(self.backbone, &float.iter().cloned().collect())?;
        let grids = calibration.grids(&quantiser);
        let total = (correct::ROUNDS + 1) * images.calibration.len();
        let mut meter = Meter::new(Stage::Correct, total, observer);
        let corrected = correct(
            &quantiser,
            &grids,
            calibration,
            &images.calibration,
            correct::ROUNDS,
            &mut |done| {
                meter.advance(done);
            },
        )?;
        let mut meter = Meter::new(Stage::Measure, 2 * images.held_out.len(), observer);
        let measured = features(&corrected.backbone, &images.sizes, &images.held_out)?;
        meter.advance(images.held_out.len());
        let clipped = calibration.clipped(&quantiser, &grids, &images.held_out, CLIPPED)?;
        meter.advance(images.held_out.len());
        let quantised = Quantised {
            loss: loss([self.backbone, &corrected.backbone], &self.reference, &measured),
            correction: corrected.correction,
            convolutions: convolutions(&corrected.backbone),
            float: float.to_vec(),
            clipped,
            images: images.counts(),
            backbone: corrected.backbone.clone(),
        };
        Ok((quantised, corrected))
    }
}

/// Converts counts to [`Progress`].
struct Meter<'a, 'b> {
    progress: Progress,
    observer: &'a mut Observer<'b>,
}

impl<'a, 'b> Meter<'a, 'b> {
    fn new(stage: Stage, total: usize, observer: &'a mut Observer<'b>) -> Self {
        let progress = Progress { stage, done: 0, total };
        observer(progress);
        Self { progress, observer }
    }

    fn advance(&mut self, done: usize) {
        self.progress.done += done;
        (self.observer)(self.progress);
    }
}
