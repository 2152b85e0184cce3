//! Separation of a new class from a task's images, measured with the task's feature profile.
//!
//! In the profile's whitened sketch space, the task's own images have mean 0 and about variance 1 in every direction.
//! The new class's mean defines a direction. Each of its images is projected on the mean of the *other* images (leave
//! one out), which is unbiased even with few images. The median of these projections is the distance of the class from
//! the task, in standard deviations of the task's images: about 1 for a class that equals a known one, 20 for
//! photographs among digits.

use clr_adapters::{OwnScores, Profile, distance_ood_score, sketch};

/// Returns the distance of images with these features `[F]` of the unmodified backbone from the task's images, in
/// standard deviations; `None` without images, or if the profile belongs to a background.
pub(crate) fn separation(profile: &Profile, features: &[Vec<f32>]) -> Option<f64> {
    // Coordinates in a background need more than the features.
    let OwnScores::Distances { typical, limit } = profile.own_scores else {
        return None;
    };
    let dimensions = profile.dimensions();
    let points: Vec<Vec<f32>> = (features.iter())
        .map(|x| profile.whitened(&sketch(x, dimensions)))
        .collect();
    let [first, rest @ ..] = points.as_slice() else {
        return None;
    };
    if rest.is_empty() {
        // A single image cannot be projected on others. Its OOD score is used instead: 1 is the 95th percentile, which
        // is 1.64 standard deviations.
        let distance = profile.distance(&sketch(&features[0], dimensions));
        return Some(1.64 * f64::from(distance_ood_score(distance, typical, limit)));
    }
    let mut sum = vec![0.0_f64; first.len()];
    for point in &points {
        sum.iter_mut()
            .zip(point)
            .for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let mut projections: Vec<f64> = (points.iter())
        .map(|point| {
            let others = || sum.iter().zip(point).map(|(&sum, &value)| sum - f64::from(value));
            let length = others().map(|value| value * value).sum::<f64>().sqrt();
            let product: f64 = others()
                .zip(point)
                .map(|(other, &value)| other * f64::from(value))
                .sum();
            product / length.max(1e-12)
        })
        .collect();
    projections.sort_by(f64::total_cmp);
    Some(projections[projections.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns random positive features around a direction given by the seed.
    fn cloud(seed: u64, count: usize, lift: &[usize]) -> Vec<Vec<f32>> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut value = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 24) as f32
        };
        let one = |at: usize, value: f32| value + if lift.contains(&at) { 3.0 } else { 0.5 };
        (0..count)
            .map(|_| (0..40).map(|at| one(at, value())).collect())
            .collect()
    }

    fn slices(all: &[Vec<f32>]) -> std::vec::IntoIter<&[f32]> {
        all.iter().map(Vec::as_slice).collect::<Vec<_>>().into_iter()
    }

    fn profile() -> Profile {
        let (training, validation) = (cloud(1, 200, &[]), cloud(2, 60, &[]));
        Profile::learn(slices(&training), slices(&validation)).unwrap()
    }

    #[test]
    fn images_of_the_task_itself_are_not_separate_and_others_are() {
        let profile = profile();
        let same = separation(&profile, &cloud(3, 20, &[])).unwrap();
        let other = separation(&profile, &cloud(4, 20, &[3, 17, 30])).unwrap();
        assert!(same < 2.0, "{same}");
        assert!(other > 8.0, "{other}");
        assert!(separation(&profile, &[]).is_none());
    }

    #[test]
    fn the_separation_of_one_image_is_its_own_distance() {
        let profile = profile();
        let same = separation(&profile, &cloud(5, 1, &[])).unwrap();
        let other = separation(&profile, &cloud(6, 1, &[3, 17, 30])).unwrap();
        assert!(other > same + 2.0, "{same} {other}");
    }
}
