//! Feature profile of a task's training images.

use clr_adapters::{Background, Encoding, OwnScores, Profile, StepSize, sketch};
use clr_learning::{LabelledFeatures, Network};
use clr_onnx::Backbone;

use crate::{
    batches::SplitImages,
    data::evenly_spaced,
    error::Result,
    evaluate::block_statistics_of,
    observer::{Meter, Observer, Phase},
    options::TrainOptions,
};

/// Maximum number of training images that a profile is fitted to.
const TRAINING: usize = 600;
/// Maximum number of validation images whose scores are measured.
const VALIDATION: usize = 2_000;

/// A profile whose steps are known, and the scores of validation images.
pub(super) struct TaskProfile {
    profile: Profile,
    /// Steps of the profile's mean and factor in a compact file.
    pub(super) steps: [StepSize; 2],
    /// Indices and scores of validation images against the background; empty without a background.
    scores: Vec<(usize, f32)>,
}

impl TaskProfile {
    /// Fits the profile of the training images: against the backbone's background if it has one and the file can hold
    /// such a profile, otherwise to sketches of the features. Returns `None` for too few images.
    pub(super) fn learn(
        network: &Network,
        (train, validation): (&SplitImages, &SplitImages),
        features: (&LabelledFeatures, &LabelledFeatures),
        options: &TrainOptions,
        observer: &mut dyn Observer,
    ) -> Result<Option<Self>> {
        match background(network.backbone(), options) {
            Some(background) => against(background, network, train, validation, options, observer),
            None => Ok(of_sketches(features, options.encoding == Encoding::Compact)),
        }
    }

    /// Returns whether [`TaskProfile::learn`] reads the features.
    pub(super) fn reads_features(backbone: &Backbone, options: &TrainOptions) -> bool {
        background(backbone, options).is_none()
    }

    /// Returns the profile without the scores of its own images that need the task's head.
    pub(super) fn without_head(&self) -> Profile {
        self.profile.clone()
    }

    /// Returns the profile with the scores of validation images, to which the task's head contributes; `logits` are
    /// those of all validation images. `None` if a score is not finite.
    pub(super) fn finished(&self, logits: &[Vec<f32>]) -> Option<Profile> {
        match self.profile.own_scores {
            OwnScores::Distances { .. } => Some(self.profile.clone()),
            OwnScores::Ratios(_) => {
                let logits: Vec<Vec<f32>> = self.scores.iter().map(|&(image, _)| logits[image].clone()).collect();
                let scores = self.scores.iter().map(|&(_, score)| score).collect();
                self.profile.clone().with_scores(scores, &logits)
            }
        }
    }
}

/// Returns the background of the backbone, if the file can hold a profile against it.
fn background<'a>(backbone: &'a Backbone, options: &TrainOptions) -> Option<&'a Background> {
    let background = backbone.background().filter(|_| options.encoding == Encoding::Compact);
    background.map(|background| &**background)
}

fn of_sketches((train, validation): (&LabelledFeatures, &LabelledFeatures), compact: bool) -> Option<TaskProfile> {
    let rows = train.features.iter().map(Vec::as_slice);
    let mut profile = Profile::learn(rows, validation.features.iter().map(Vec::as_slice))?;
    let steps = profile.steps();
    if compact {
        let rounded = profile.rounded(steps);
        let sketches = validation.features.iter().map(|x| sketch(x, rounded.dimensions()));
        let distances = sketches.map(|sketch| rounded.distance(&sketch)).collect();
        profile = rounded.with_distances(distances)?;
    }
    Some(TaskProfile {
        profile,
        steps,
        scores: Vec::new(),
    })
}

fn against(
    background: &Background,
    network: &Network,
    train: &SplitImages,
    validation: &SplitImages,
    options: &TrainOptions,
    observer: &mut dyn Observer,
) -> Result<Option<TaskProfile>> {
    let own: Vec<usize> = evenly_spaced(train.len(), TRAINING).collect();
    let others: Vec<usize> = evenly_spaced(validation.len(), VALIDATION).collect();
    let mut meter = Meter::new(Phase::Features, own.len() + others.len());
    let mut coordinates = |images: &SplitImages, order: &[usize]| -> Result<Vec<Vec<f32>>> {
        let progress = |n| meter.advance(n, observer);
        let statistics = block_statistics_of(network, images, order, options.workers(), progress)?;
        Ok(statistics.iter().map(|image| background.coordinates(image)).collect())
    };
    let (training, validation) = (coordinates(train, &own)?, coordinates(validation, &others)?);
    let Some(profile) = Profile::learn_against(background, &training) else {
        return Ok(None);
    };
    let steps = profile.steps();
    let profile = profile.rounded(steps);
    let scores = validation.iter().map(|point| profile.score_against(background, point));
    Ok(Some(TaskProfile {
        scores: others.into_iter().zip(scores).collect(),
        profile,
        steps,
    }))
}
