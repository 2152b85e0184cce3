//! Feature profile of a task from few images, by cross-validation.
//!
//! With twenty images, none can be reserved for measuring the distances of the task's own images. The images are
//! therefore divided into fifths, and the distances of each fifth are measured with a profile of the others. The final
//! profile is fitted to all images. Its distances are slightly smaller, which favours assigning an image to the task.

use clr_adapters::{Profile, sketch};

/// Folds of the cross-validation.
const FOLDS: usize = 5;

/// Fits the profile of images with these features `[F]` of the unmodified backbone, sorted by class. Returns `None` for
/// too few images.
pub(crate) fn profile(features: &[&[f32]]) -> Option<Profile> {
    let mut distances = Vec::with_capacity(features.len());
    for fold in 0..FOLDS {
        let part = |inside: bool| {
            let own = move |(index, _): &(usize, &&[f32])| (index % FOLDS == fold) == inside;
            features.iter().enumerate().filter(own).map(|(_, &x)| x)
        };
        let others = Profile::learn(part(false), part(true))?;
        distances.extend(part(true).map(|x| others.distance(&sketch(x, others.dimensions()))));
    }
    Profile::learn(features.iter().copied(), features.iter().copied())?.with_distances(distances)
}
