//! What the pictures of a task look like, from few of them.
//!
//! With twenty pictures none can be spared for measuring how far a task's own stray. So each fifth is measured by a profile of the
//! others, and the profile itself is of all: its distances are a little smaller, which errs on the side of taking a picture for its own.

use clr_adapters::{Profile, sketch};

/// Parts that are measured in turn.
const FOLDS: usize = 5;
/// The limit lies at least this much above the typical distance, as for tasks that a host trained.
const LEAST_SPREAD: f32 = 1.1;

/// The profile of pictures with these features of the untouched backbone, in the order of their classes; none for too few.
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
    distances.sort_by(f32::total_cmp);
    let mut profile = Profile::learn(features.iter().copied(), features.iter().copied())?;
    profile.typical = distances[distances.len() / 2].max(profile.typical);
    profile.limit = distances[(distances.len() - 1) * 95 / 100].max(LEAST_SPREAD * profile.typical);
    profile.limit.is_finite().then_some(profile)
}
