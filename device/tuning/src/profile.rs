//! Feature profile of a task from few images, by cross-validation.
//!
//! With twenty images, none can be reserved for measuring the scores of the task's own images. The images are therefore
//! divided into fifths, and the scores of each fifth are measured with a profile of the others. The final profile is
//! fitted to all images. Its scores are slightly better, which favours assigning an image to the task.

use clr_adapters::{Background, Profile, sketch};

/// Folds of the cross-validation.
const FOLDS: usize = 5;

/// Fits the profile of images with these features `[F]` of the unmodified backbone, sorted by class. Returns `None` for
/// too few images.
pub(crate) fn profile_of_sketches(features: &[&[f32]]) -> Option<Profile> {
    let mut distances = Vec::with_capacity(features.len());
    for fold in 0..FOLDS {
        let others = Profile::learn(part(features, fold, false), part(features, fold, true))?;
        let own = part(features, fold, true).map(|x| others.distance(&sketch(x, others.dimensions())));
        distances.extend(own);
    }
    Profile::learn(features.iter().copied(), features.iter().copied())?.with_distances(distances)
}

/// Fits the profile of images with these block statistics `[S]`, sorted by class, against a background. Returns `None`
/// for too few images.
pub(crate) fn profile_against(background: &Background, statistics: &[Vec<f32>]) -> Option<Profile> {
    let points: Vec<Vec<f32>> = statistics.iter().map(|image| background.coordinates(image)).collect();
    let slices: Vec<&[f32]> = points.iter().map(Vec::as_slice).collect();
    let mut scores = Vec::with_capacity(points.len());
    for fold in 0..FOLDS {
        let training: Vec<Vec<f32>> = part(&slices, fold, false).map(<[f32]>::to_vec).collect();
        let others = Profile::learn_against(background, &training)?;
        scores.extend(part(&slices, fold, true).map(|point| others.score_against(background, point)));
    }
    Profile::learn_against(background, &points)?.with_scores(scores, &[])
}

/// Returns the images of a fold, or those outside of it.
fn part<'a>(images: &'a [&'a [f32]], fold: usize, inside: bool) -> impl Iterator<Item = &'a [f32]> {
    let own = move |(index, _): &(usize, &&[f32])| (index % FOLDS == fold) == inside;
    images.iter().enumerate().filter(own).map(|(_, &x)| x)
}
