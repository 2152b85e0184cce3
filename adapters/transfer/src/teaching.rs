//! Messages about stored images, teaching a class, and the forecast of a tuning run.

use alloc::{string::String, vec::Vec};

use clr_adapters::Digest;
use serde::{Deserialize, Serialize};

use crate::failure::clipped;

/// Maximum bytes of a text in these messages.
const MAX_TEXT: usize = 512;
/// Maximum entries of a list in [`TuneForecast`].
const MAX_ENTRIES: usize = 64;

/// A stored image of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExampleSummary {
    /// SHA-256 of the image file.
    #[serde(with = "crate::digest_text")]
    pub id: Digest,
    /// Its class; `None` for an unlabelled frame.
    pub label: Option<String>,
    /// Bytes of the image file.
    pub bytes: u64,
    /// Time of addition, in seconds since 1970 UTC; `None` if the device did not know the time.
    pub added: Option<u64>,
}

/// Summary of a task's stored images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExampleTask {
    /// The task.
    pub task: String,
    /// Labelled images.
    pub images: u32,
    /// Number of their classes.
    pub classes: u32,
    /// Unlabelled frames.
    pub frames: u32,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Whether the task has an adapter in addition to its images.
    pub serves: bool,
}

/// Selection of a task's stored images.
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

/// Result of a removal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedExamples {
    /// Images removed.
    pub images: u32,
    /// Learned classes that are still active but have no image left.
    pub without_images: Vec<String>,
}

/// Limits of a device on stored images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeachLimits {
    /// Maximum bytes of one image file.
    pub image_bytes: u64,
    /// Maximum of images stored for one task.
    pub images_per_task: u32,
    /// Width and height of the network's input for this task, in pixels.
    pub input: [u32; 2],
}

/// The state of the last attempt to teach a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TeachPhase {
    /// None since the device started.
    #[default]
    None,
    /// In progress.
    Running,
    /// The class is active from now on.
    Taught,
    /// The class was active before; its images wait for tuning.
    Known,
    /// A new task of one class: it becomes active with a second class.
    Waiting,
    /// The class cannot be distinguished from known classes; its images were removed.
    Refused,
    /// Another failure; the images are still stored.
    Failed,
}

/// State and result of teaching a class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeachStatus {
    /// The state.
    pub phase: TeachPhase,
    /// Images of the class that were used.
    pub images: u32,
    /// Of these, recognised by class weights fitted without them.
    pub recognised: u32,
    /// The known class of most of the others.
    pub looks_like: Option<String>,
    /// A message.
    pub message: Option<String>,
    /// Advice.
    pub hint: Option<String>,
}

/// A class in the forecast of a tuning run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassForecast {
    /// The class.
    pub label: String,
    /// Stored images.
    pub images: u32,
    /// Of these, held out.
    pub held_out: u32,
    /// Whether the device learned the class, so that tuning may change its weights.
    pub learned: bool,
}

/// An obstacle to the promotion of a tuning run, with advice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// The obstacle.
    pub what: String,
    /// Advice.
    pub hint: String,
    /// Whether it prevents any promotion.
    pub blocks: bool,
}

/// Forecast of a tuning run, before it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TuneForecast {
    /// Classes with images.
    pub classes: Vec<ClassForecast>,
    /// Stored unlabelled frames.
    pub frames: u32,
    /// Images that judge the old classes: held-out frames, held-out images and canaries.
    pub judges: u32,
    /// Minimum of images that judge them.
    pub judges_needed: u32,
    /// Steps of the run.
    pub steps: u32,
    /// The trained part of the adapter, in words; `None` where nothing fits the memory.
    pub plan: Option<String>,
    /// Memory of the plan, in bytes.
    pub memory: Option<u64>,
    /// Obstacles to promotion; empty where the result can be promoted.
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
