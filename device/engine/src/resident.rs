//! An adapter that is ready to run.

use std::sync::Arc;

use clr_adapters::{Preprocessing, Profile, Recipe};

use crate::{plan::Reprogrammed, scorer::Scorer};

/// An adapter in the form that the plan reads: nothing is copied, packed or checked when a frame comes.
///
/// Made by [`Engine::prepare`](crate::Engine::prepare), for that engine. Takes at most 1.2 times the bytes of the
/// decoded adapter; the backbone and the plan are the engine's and shared by all adapters.
#[derive(Debug)]
pub struct ResidentAdapter {
    pub(crate) task: String,
    pub(crate) version: u64,
    pub(crate) revision: u32,
    pub(crate) recipe: Recipe,
    pub(crate) labels: Arc<[String]>,
    pub(crate) preprocessing: Preprocessing,
    /// Divides the logits before the softmax.
    pub(crate) temperature: f32,
    /// What its images look like to the untouched backbone.
    pub(crate) profile: Option<Scorer>,
    /// `[K, F]`.
    pub(crate) head_weight: Box<[f32]>,
    /// `[K]`.
    pub(crate) head_bias: Box<[f32]>,
    pub(crate) reprogrammed: Reprogrammed,
    /// Of its parameters.
    pub(crate) bytes: usize,
    /// Which engine made it.
    pub(crate) engine: Arc<()>,
}

impl ResidentAdapter {
    /// The task's name.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// The adapter's version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Which tuning on a device it is, on top of its version; 0 for a publisher's.
    pub fn revision(&self) -> u32 {
        self.revision
    }

    /// The adapter's recipe.
    pub fn recipe(&self) -> Recipe {
        self.recipe
    }

    /// One label per class.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.head_bias.len()
    }

    /// How an image becomes the input.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// What logits are divided by before the softmax.
    pub fn temperature(&self) -> f32 {
        self.temperature
    }

    /// What the task's images look like to the untouched backbone. Without it a [`TaskChooser`](crate::TaskChooser) passes
    /// the task over.
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref().map(Scorer::profile)
    }

    /// Bytes of the adapter's own tensors, without the profile's 30 KB.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.head_weight) + size_of_val(&*self.head_bias) + self.bytes
    }
}
