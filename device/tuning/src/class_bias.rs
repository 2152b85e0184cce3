//! Fraction of a new class's images that its bias claims, as a function of the class's separation.
//!
//! A bias claims an image if the classifier with this bias assigns the image to the new class.
//!
//! The constants were chosen on 29 classes of seven tasks, with two draws of 20 images each, by the losses of old
//! classes on test images (`docs/results/2026-11-29-teaching-a-class.md`).

/// Up to this separation, a class is considered similar to a known one.
const ALIKE: f64 = 2.0;
/// From the first value on, a separation is large: the class is clearly distinct. The second value is the fraction of
/// its images that the bias claims at that separation.
const CLEAR: (f64, f64) = (6.0, 0.67);
/// From this separation on, the bias claims all images of the class.
const FOREIGN: f64 = 12.6;
/// Beyond [`FOREIGN`], the bias gets an additional margin. The margin grows linearly with the separation, until it
/// reaches one standard deviation of the gaps at a separation of `FOREIGN + MARGIN_OVER`.
const MARGIN_OVER: f64 = 4.0;
/// Fraction that the bias claims if the task has no profile.
const UNKNOWN: f64 = 0.25;
/// With at least this number of images of old classes, this fraction is claimed even without a profile. The bias then
/// does not claim any of the images of old classes.
const ENOUGH_OTHERS: (usize, f64) = (50, 0.5);

/// Target for the bias of a new class: the fraction of its own images that the bias assigns to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BiasClaim {
    /// Fraction of the class's own images to assign to it.
    pub(crate) share: f64,
    /// Additional margin, in standard deviations of the gaps.
    pub(crate) margin: f64,
}

impl BiasClaim {
    /// Returns the claim of a class with this separation from the task's images (in standard deviations), given
    /// `others` images of old classes.
    pub(crate) fn of(separation: Option<f64>, others: usize) -> Self {
        let (clear, at_clear) = CLEAR;
        let share = match separation {
            None => UNKNOWN,
            Some(z) if z < ALIKE => 0.0,
            Some(z) if z < clear => at_clear * (z - ALIKE) / (clear - ALIKE),
            Some(z) => (at_clear + (1.0 - at_clear) * (z - clear) / (FOREIGN - clear)).min(1.0),
        };
        let (enough, at_least) = ENOUGH_OTHERS;
        let share = if others >= enough { share.max(at_least) } else { share };
        let margin = separation.map_or(0.0, |z| ((z - FOREIGN) / MARGIN_OVER).clamp(0.0, 1.0));
        Self { share, margin }
    }
}

/// Returns a quantile of sorted values with linear interpolation; 0 if there are no values.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let place = share.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    sorted[low] + (place - place.floor()) * (sorted[high] - sorted[low])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claimed_fraction_grows_with_the_separation() {
        let at = |z: f64| BiasClaim::of(Some(z), 0);
        assert_eq!(at(0.5).share, 0.0);
        let shares: Vec<f64> = [1.0, 3.0, 5.0, 6.0, 9.0, 12.6, 30.0].map(|z| at(z).share).to_vec();
        assert!(shares.is_sorted(), "{shares:?}");
        assert_eq!(
            at(30.0),
            BiasClaim {
                share: 1.0,
                margin: 1.0
            }
        );
        assert_eq!(at(12.0).margin, 0.0);
        assert!(BiasClaim::of(None, 0).share < BiasClaim::of(None, 50).share);
    }

    #[test]
    fn quantiles_lie_between_the_least_and_the_largest() {
        let values = [-3.0, 0.0, 5.0];
        assert_eq!(
            [0.0, 0.25, 1.0].map(|share| quantile(&values, share)),
            [-3.0, -1.5, 5.0]
        );
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
