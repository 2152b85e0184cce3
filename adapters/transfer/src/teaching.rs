//! Messages about stored images, teaching of a class, and the forecast of a tuning run.

use alloc::{string::String, vec::Vec};

use clr_adapters::Digest;
use serde::{Deserialize, Serialize};

use crate::failure::clipped;

/// Maximum bytes of a text in these messages.
const MAX_TEXT: usize = 512;
/// Maximum number of entries of a list in [`TuneForecast`].
const MAX_ENTRIES: usize = 64;

/// A stored image of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExampleSummary {
    /// SHA-256 of the image file.
    #[serde(with = "crate::digest_text")]
    pub id: Digest,
    /// Class of the image; `None` for an unlabelled frame.
    pub label: Option<String>,
    /// Bytes of the image file.
    pub bytes: u64,
    /// Time of addition, in seconds since 1970-01-01 UTC; `None` if the device did not know the time.
    pub added: Option<u64>,
}

/// Summary of a task's stored images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExampleTask {
    /// The task.
    pub task: String,
    /// Number of labelled images.
    pub images: u32,
    /// Number of classes of the labelled images.
    pub classes: u32,
    /// Number of unlabelled frames.
    pub frames: u32,
    /// Bytes of all images and frames.
    pub bytes: u64,
    /// Whether the task also has an adapter.
    pub serves: bool,
}

/// Selection of a task's stored images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ExampleSelection {
    /// The image with this digest.
    Image(Digest),
    /// All images of a class.
    Label(String),
    /// All unlabelled frames.
    Frames,
}

/// Result of a removal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedExamples {
    /// Number of removed images.
    pub images: u32,
    /// Classes taught on the device that are still active but have no image left.
    pub without_images: Vec<String>,
}

/// Limits of a device on stored images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TeachLimits {
    /// Maximum bytes of one image file.
    pub image_bytes: u64,
    /// Maximum number of stored images per task.
    pub images_per_task: u32,
    /// Width and height of the network input for this task, in pixels.
    pub input: [u32; 2],
}

impl TeachLimits {
    /// Creates limits from the maximum bytes of an image file, the maximum number of images per task, and width and
    /// height of the network input in pixels.
    #[must_use]
    pub const fn new(image_bytes: u64, images_per_task: u32, input: [u32; 2]) -> Self {
        Self {
            image_bytes,
            images_per_task,
            input,
        }
    }
}

/// The state of the last attempt to teach a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TeachPhase {
    /// No attempt was made since the device started.
    #[default]
    None,
    /// The attempt is in progress.
    Running,
    /// The class is active from now on.
    Taught,
    /// The class was active before; its new images are kept for the next tuning run.
    Known,
    /// The class is the only one of a new task, which becomes active with its second class.
    Waiting,
    /// The class cannot be distinguished from known classes. Its images were removed.
    Refused,
    /// Teaching failed for another reason. The images are still stored.
    Failed,
}

/// State and result of teaching a class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeachStatus {
    /// The state.
    pub phase: TeachPhase,
    /// Number of images of the class that were used.
    pub images: u32,
    /// Number of these that were recognised by class weights fitted without them.
    pub recognised: u32,
    /// The known class that most of the unrecognised images were assigned to.
    pub looks_like: Option<String>,
    /// A message on the outcome.
    pub message: Option<String>,
    /// Advice on how to proceed.
    pub hint: Option<String>,
}

/// A class in the forecast of a tuning run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassForecast {
    /// The class.
    pub label: String,
    /// Number of stored images.
    pub images: u32,
    /// Number of these images that are held out.
    pub held_out: u32,
    /// Whether the class was taught on the device, so that tuning may change its weights.
    pub learned: bool,
}

/// An obstacle to promoting the result of a tuning run, with advice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// The obstacle.
    pub what: String,
    /// Advice on how to remove the obstacle.
    pub hint: String,
    /// Whether the obstacle prevents every promotion.
    pub blocks: bool,
}

/// Forecast of a tuning run, before it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TuneForecast {
    /// Classes with images.
    pub classes: Vec<ClassForecast>,
    /// Number of stored unlabelled frames.
    pub frames: u32,
    /// Number of images with which the old classes are tested: held-out frames, held-out images and canaries.
    pub judges: u32,
    /// Minimum number of images needed to test the old classes.
    pub judges_needed: u32,
    /// Number of steps of the run.
    pub steps: u32,
    /// Description of the adapter's part that would be trained; `None` if nothing fits in memory.
    pub plan: Option<String>,
    /// Memory of the plan, in bytes.
    pub memory: Option<u64>,
    /// Obstacles to promotion; empty if the result can be promoted.
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
