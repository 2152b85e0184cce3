//! Canaries: an adapter's own test images, checked before it serves.

use clr_adapters::Canary;
use clr_onnx::RgbImage;

use super::DaemonError;
use clr_engine::{Engine, ResidentAdapter};

/// Maximum difference of a canary's probability from the host's value, because engines round differently.
const TOLERANCE: f32 = 0.02;

/// Classifies every canary and compares class and probability with the expected ones.
///
/// # Errors
/// [`DaemonError::Canary`] for the first canary that differs; [`DaemonError::Engine`] if the classification fails.
pub(crate) fn check(engine: &Engine, adapter: &ResidentAdapter, canaries: &[Canary]) -> Result<(), DaemonError> {
    for (index, canary) in canaries.iter().enumerate() {
        let fault = |reason: String| DaemonError::Canary {
            task: adapter.task().to_owned(),
            canary: index,
            reason,
        };
        let [width, height] = canary.size.map(u32::from);
        let image = RgbImage::from_raw(width, height, canary.pixels.clone())
            .ok_or_else(|| fault("its pixels do not match its size".to_owned()))?;
        let classification = engine.classify(adapter, &image)?;
        let probabilities = classification.probabilities();
        let expected = canary.class as usize;
        let best = classification.best().map_or(0, |best| best.class);
        let got = probabilities.get(expected).copied().unwrap_or(0.0);
        // Rounding may exchange two nearly equal classes.
        let tie = probabilities.get(best).is_some_and(|&best| best - got <= TOLERANCE);
        if (best != expected && !tie) || (got - canary.probability).abs() > TOLERANCE {
            return Err(fault(format!(
                "expected class {expected} with probability {:.3}, got class {best}, and {got:.3} for class {expected}",
                canary.probability
            )));
        }
    }
    Ok(())
}
