//! What the images of a task look like, from few of them.
//!
//! With twenty images none can be spared for measuring how far a task's own stray. So each fifth is measured by a profile of the
//! others, and the profile itself is of all: its distances are a little smaller, which errs on the side of taking an image for its own.

use clr_adapters::{Profile, sketch};

/// Parts that are measured in turn.
const FOLDS: usize = 5;

/// The profile of images with these features of the untouched backbone, in the order of their classes; none for too few.
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
