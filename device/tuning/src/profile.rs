//! Feature profile of a task from few images, by cross-validation, and of a class that is taught.
//!
//! With twenty images, none can be reserved for measuring the scores of the task's own images. The images are therefore
//! divided into fifths, and the scores of each fifth are measured with a profile of the others. The final profile is
//! fitted to all images. Its scores are slightly better, which favours assigning an image to the task.

use clr_adapters::{Adapter, Background, Profile, StepSize, sketch};
use clr_learning::Network;

use crate::{error::Result, features::unmodified, images::Image};

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

/// Step of the mean of a taught class in a file whose values have no steps.
const FINE: StepSize = StepSize(-20);

/// Describes the images of the last class in the adapter's profile, if they are unusual for the task: otherwise, the device
/// would call them unknown when it chooses the task itself.
pub(crate) fn describe_class(adapter: &mut Adapter, network: &Network, images: &[Image]) -> Result<()> {
    let header = &mut adapter.header;
    let (Some(profile), Some(background)) = (&mut header.profile, network.backbone().background()) else {
        return Ok(());
    };
    if !profile.belongs_to(background) {
        return Ok(());
    }
    let mut points = Vec::with_capacity(images.len());
    for image in images {
        let pass = unmodified(network, &header.preprocessing, image)?;
        points.push(background.coordinates(&pass.block_statistics));
    }
    let step = header.steps.map_or(FINE, |steps| steps.profile_mean);
    profile.teach(header.labels.len().saturating_sub(1) as u32, background, &points, step);
    Ok(())
}

/// Returns the images of a fold, or those outside of it.
fn part<'a>(images: &'a [&'a [f32]], fold: usize, inside: bool) -> impl Iterator<Item = &'a [f32]> {
    let own = move |(index, _): &(usize, &&[f32])| (index % FOLDS == fold) == inside;
    images.iter().enumerate().filter(own).map(|(_, &x)| x)
}
