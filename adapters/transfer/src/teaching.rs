//! Images filed to learn from, the class taught from them, and the outlook of a tuning run.

use alloc::{string::String, vec::Vec};

use clr_adapters::Digest;
use serde::{Deserialize, Serialize};

use crate::failure::clipped;

/// Longest text in these messages, in bytes.
const MAX_TEXT: usize = 512;
/// Most entries of a list in [`TuneForecast`].
const MAX_ENTRIES: usize = 64;

/// A stored image of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExampleSummary {
    /// SHA-256 of the image file.
    #[serde(with = "crate::digest_text")]
    pub id: Digest,
    /// Its class; none for a frame that the device kept for itself.
    pub label: Option<String>,
    /// Bytes of the image file.
    pub bytes: u64,
    /// When it was filed, in seconds since 1970 UTC, where the device knew the time.
    pub added: Option<u64>,
}

/// What is stored of one task's images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExampleTask {
    /// The task.
    pub task: String,
    /// Labelled images.
    pub images: u32,
    /// Their classes.
    pub classes: u32,
    /// Unlabelled frames that the device kept for itself.
    pub frames: u32,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Whether the task has an adapter; without one there are only the images.
    pub serves: bool,
}

/// Which stored images of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ExampleSelection {
    /// One image.
    Image(Digest),
    /// All images of a class.
    Label(String),
    /// All unlabelled frames.
    Frames,
}

/// What became of a removal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedExamples {
    /// Images removed.
    pub images: u32,
    /// Classes that the device learned, that still answer, and of which no image is left.
    pub without_images: Vec<String>,
}

/// What a device takes as an image to learn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeachLimits {
    /// Bytes of one image file.
    pub image_bytes: u64,
    /// Images stored for one task.
    pub images_per_task: u32,
    /// Width and height of the network's input for this task, in pixels.
    pub input: [u32; 2],
}

/// The state of the last attempt to teach a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TeachPhase {
    /// No host asked since the device started.
    #[default]
    None,
    /// Under way.
    Running,
    /// The class answers from now on.
    Taught,
    /// The class answered before; its images wait for tuning.
    Known,
    /// A new task of one class: the second class makes it answer.
    Waiting,
    /// The class cannot be told from what the task knows; its images were removed.
    Refused,
    /// Something else went wrong; the images are still filed.
    Failed,
}

/// How teaching a class went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeachStatus {
    /// Where it is.
    pub phase: TeachPhase,
    /// Images of the class that were used.
    pub images: u32,
    /// Of these, answered as the class by class weights fitted without them.
    pub recognised: u32,
    /// The known class that most of the others are answered as.
    pub looks_like: Option<String>,
    /// In words.
    pub message: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A class in the outlook of a tuning run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassForecast {
    /// The class.
    pub label: String,
    /// Images filed.
    pub images: u32,
    /// Of these, held out to judge the result.
    pub held_out: u32,
    /// Whether the device learned the class, so that tuning may change its weights.
    pub learned: bool,
}

/// What keeps the result of a tuning run from being promoted, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// What is missing.
    pub what: String,
    /// A way to get it.
    pub hint: String,
    /// Whether nothing can be promoted without it.
    pub blocks: bool,
}

/// The outlook of a tuning run, before it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TuneForecast {
    /// Classes with images.
    pub classes: Vec<ClassForecast>,
    /// Unlabelled frames kept.
    pub frames: u32,
    /// Images that will judge the classes known before: held-out frames, held-out images and canaries.
    pub judges: u32,
    /// Images that must judge them.
    pub judges_needed: u32,
    /// Steps that the run would take.
    pub steps: u32,
    /// What would be trained, in words; none where the memory allows nothing.
    pub plan: Option<String>,
    /// Memory that this takes, in bytes.
    pub memory: Option<u64>,
    /// What is missing; nothing where the result can be promoted.
    pub lacks: Vec<Lack>,
}

fn clip(text: &mut String) {
    let length = clipped(text, MAX_TEXT).len();
    text.truncate(length);
}

impl TeachStatus {
    /// Brings texts under their caps.
    pub(crate) fn clip(&mut self) {
        [&mut self.looks_like, &mut self.message, &mut self.hint]
            .into_iter()
            .flatten()
            .for_each(clip);
    }
}

impl RemovedExamples {
    /// Brings the list under its cap.
    pub(crate) fn clip(&mut self) {
        self.without_images.truncate(MAX_ENTRIES);
    }
}

impl TuneForecast {
    /// Brings texts and lists under their caps.
    pub(crate) fn clip(&mut self) {
        self.classes.truncate(MAX_ENTRIES);
        self.lacks.truncate(MAX_ENTRIES);
        self.plan.as_mut().into_iter().for_each(clip);
        for lack in &mut self.lacks {
            clip(&mut lack.what);
            clip(&mut lack.hint);
        }
    }
}
