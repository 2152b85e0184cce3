//! Resident adapters, prepared to run.

use std::sync::Arc;

use clr_adapters::{Preprocessing, Profile, Recipe};

use crate::{plan::Reprogrammed, scorer::Scorer};

/// An adapter in the plan's layout, so that a frame does not have to copy, pack or check anything.
///
/// Created by [`Engine::prepare`](crate::Engine::prepare), for that engine only. Takes at most 1.2 times the bytes of
/// the decoded adapter. The backbone and the plan belong to the engine and are shared by all adapters.
#[derive(Debug)]
pub struct ResidentAdapter {
    pub(crate) task: String,
    pub(crate) version: u64,
    pub(crate) revision: u32,
    pub(crate) recipe: Recipe,
    pub(crate) labels: Arc<[String]>,
    pub(crate) preprocessing: Preprocessing,
    /// Temperature, by which the logits are divided before the softmax.
    pub(crate) temperature: f32,
    /// Feature profile of the task's images, prepared for scoring.
    pub(crate) profile: Option<Scorer>,
    /// Weight of the head, `[K, F]`.
    pub(crate) head_weight: Box<[f32]>,
    /// Bias of the head, `[K]`.
    pub(crate) head_bias: Box<[f32]>,
    pub(crate) reprogrammed: Reprogrammed,
    /// First step that differs from the unmodified backbone, if the runtime executes the plan and there is one.
    pub(crate) first_step: Option<usize>,
    /// Bytes of the adapter's own tensors.
    pub(crate) bytes: usize,
    /// Identity of the engine that prepared the adapter.
    pub(crate) engine: Arc<()>,
}

impl ResidentAdapter {
    /// Returns the task's name.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// Returns the adapter's version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the number of tunings on a device since the adapter's version; 0 for a publisher's adapter.
    pub fn revision(&self) -> u32 {
        self.revision
    }

    /// Returns the adapter's recipe.
    pub fn recipe(&self) -> Recipe {
        self.recipe
    }

    /// Returns the labels, one per class.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Returns the number of classes.
    pub fn classes(&self) -> usize {
        self.head_bias.len()
    }

    /// Returns the preprocessing from image to network input.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Returns the temperature, by which the logits are divided before the softmax.
    pub fn temperature(&self) -> f32 {
        self.temperature
    }

    /// Returns the profile of the task's images in the features of the unmodified backbone. Without a profile, a
    /// [`TaskChooser`](crate::TaskChooser) never selects the task.
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref().map(Scorer::profile)
    }

    /// Returns the bytes of the adapter's own tensors, without the profile's 30 KB.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.head_weight) + size_of_val(&*self.head_bias) + self.bytes
    }
}
