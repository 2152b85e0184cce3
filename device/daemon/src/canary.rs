//! An adapter's own examples, tried before it serves.

use clr_adapters::Canary;
use clr_onnx::RgbImage;

use super::DaemonError;
use clr_engine::{Engine, ResidentAdapter};

/// How far a canary's probability may be from the one that the host computed: engines round differently.
const TOLERANCE: f32 = 0.02;

/// Answers every canary and compares class and probability with what the adapter says.
///
/// # Errors
/// [`DaemonError::Canary`] at the first that differs, [`DaemonError::Engine`] where the network cannot answer.
pub(crate) fn check(engine: &Engine, adapter: &ResidentAdapter, canaries: &[Canary]) -> Result<(), DaemonError> {
    for (index, canary) in canaries.iter().enumerate() {
        let fault = |reason: String| DaemonError::Canary {
            task: adapter.task().to_owned(),
            canary: index,
            reason,
        };
        let [width, height] = canary.size.map(u32::from);
        let picture = RgbImage::from_raw(width, height, canary.pixels.clone())
            .ok_or_else(|| fault("its pixels do not fill its size".to_owned()))?;
        let answer = engine.classify(adapter, &picture)?;
        let probabilities = answer.probabilities();
        let expected = canary.class as usize;
        let best = answer.best().map_or(0, |best| best.class);
        let got = probabilities.get(expected).copied().unwrap_or(0.0);
        // Where two classes are level, which one is first is a matter of rounding.
        let level = probabilities.get(best).is_some_and(|&best| best - got <= TOLERANCE);
        if (best != expected && !level) || (got - canary.probability).abs() > TOLERANCE {
            return Err(fault(format!(
                "expected class {expected} with probability {:.3}, got class {best}, and {got:.3} for class {expected}",
                canary.probability
            )));
        }
    }
    Ok(())
}
