//! Grids from ranges.

use clr_adapters::Preprocessing;

use crate::Quantisation;

/// The number of steps between the least and the largest byte.
const STEPS: f32 = 255.0;

/// Returns the grid whose range is `low` to `high`, widened to contain 0, which gets its own byte. `None` if the range
/// is not finite or empty.
pub fn range_grid(low: f32, high: f32) -> Option<Quantisation> {
    let (low, high) = (low.min(0.0), high.max(0.0));
    let mut scale = (high - low) / STEPS;
    if !(scale.is_finite() && scale.is_normal()) {
        return None;
    }
    // The range of the grid must not exceed that of a clamp by a rounding error.
    while low == 0.0 && scale * STEPS > high {
        scale = scale.next_down();
    }
    let zero_point = (-low / scale).round_ties_even() as u8;
    let grid = Quantisation { scale, zero_point };
    grid.check().is_ok().then_some(grid)
}

/// Returns the grid of preprocessed images. If all channels have the same mean, which is an integer, and the same standard
/// deviation, the grid contains every value of a pixel exactly. Otherwise its range contains all of them.
pub fn image_grid(preprocessing: &Preprocessing) -> Option<Quantisation> {
    let (mean, std) = (preprocessing.mean, preprocessing.std);
    let same = mean == [mean[0]; 3] && std == [std[0]; 3];
    if same && mean[0].fract() == 0.0 && (0.0..=STEPS).contains(&mean[0]) && std[0] > 0.0 {
        let grid = Quantisation {
            scale: 1.0 / std[0],
            zero_point: mean[0] as u8,
        };
        return grid.check().is_ok().then_some(grid);
    }
    let ends = (0..3).flat_map(|channel| [0.0, STEPS].map(|pixel| (pixel - mean[channel]) / std[channel]));
    let (low, high) = ends.fold((0.0_f32, 0.0_f32), |(low, high), end| (low.min(end), high.max(end)));
    range_grid(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Backbone;

    #[test]
    fn a_grid_contains_zero_and_both_ends_of_its_range_within_half_a_step() {
        for (low, high) in [
            (0.0, 6.0),
            (-1.0, 3.0),
            (0.5, 2.0),
            (-4.0, -1.0),
            (0.0, 1e-20),
            (-3e30, 1e30),
        ] {
            let grid = range_grid(low, high).unwrap();
            let [least, largest] = grid.range();
            assert!(grid.round(0.0) == 0.0);
            let half = 0.501 * grid.scale;
            assert!(
                (least - low.min(0.0)).abs() <= half && (largest - high.max(0.0)).abs() <= half,
                "{low} {high}"
            );
        }
        assert!(range_grid(0.0, 6.0).unwrap().range()[1] <= 6.0);
        assert_eq!(range_grid(0.0, 0.0), None);
        assert_eq!(range_grid(f32::NEG_INFINITY, 1.0), None);
    }

    #[test]
    fn pixels_with_one_integer_mean_are_exact() {
        let preprocessing = Preprocessing {
            mean: [127.0; 3],
            std: [128.0; 3],
            ..Backbone::default_preprocessing(8, 8)
        };
        let grid = image_grid(&preprocessing).unwrap();
        for pixel in 0..=255_u8 {
            let value = (f32::from(pixel) - 127.0) / 128.0;
            assert_eq!((grid.byte(value), grid.round(value)), (pixel, value));
        }
        let other = image_grid(&Backbone::default_preprocessing(8, 8)).unwrap();
        assert!(other.range()[0] < -2.1 && other.range()[1] > 2.6);
    }
}
