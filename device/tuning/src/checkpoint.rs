//! Run state of tuning, saved during a run so that it can resume after the process is killed.
//!
//! Layout: `CLRT`, the version as a byte, the state in postcard, and the CRC-32 of all bytes before it, little-endian.

use clr_adapters::Digest;
use clr_learning::AdamState;
use serde::{Deserialize, Serialize};

use crate::TrainableScope;

const MAGIC: &[u8] = b"CLRT";
const VERSION: u8 = 2;

/// Storage of one run's state. Once [`Checkpoints::put`] has returned, the state must survive the end of the process
/// intact.
pub trait Checkpoints {
    /// Replaces the stored state.
    fn put(&self, state: &[u8]) -> Result<(), String>;
    /// Returns the stored state; `None` if there is none.
    fn get(&self) -> Result<Option<Vec<u8>>, String>;
    /// Removes the stored state. Called at the end of a run.
    fn clear(&self) -> Result<(), String>;
}

/// Stores nothing: the run cannot be resumed.
impl Checkpoints for () {
    fn put(&self, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn get(&self) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }

    fn clear(&self) -> Result<(), String> {
        Ok(())
    }
}

/// State of a run after a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Digest of backbone, parent, images and options. A run resumes only from its own state.
    pub(crate) run: Digest,
    /// Unlabelled frames of the run. Frames that are stored later are not part of it.
    pub(crate) frames: Vec<Digest>,
    /// Finished steps.
    pub(crate) step: u32,
    /// The trained part of the adapter. It is kept when the run resumes, even if the amount of free memory has changed.
    pub(crate) scope: TrainableScope,
    /// Values of the trained parameters, in the parameters' order.
    pub(crate) values: Vec<Vec<f32>>,
    pub(crate) updates: u64,
    pub(crate) first: Vec<Vec<f32>>,
    pub(crate) second: Vec<Vec<f32>>,
}

impl State {
    pub(crate) fn moments(&self) -> AdamState {
        AdamState {
            step: self.updates,
            first: self.first.clone(),
            second: self.second.clone(),
        }
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let mut bytes = [MAGIC, &[VERSION]].concat();
        bytes = postcard::to_extend(self, bytes).map_err(|error| error.to_string())?;
        let crc = crc32fast::hash(&bytes);
        bytes.extend(crc.to_le_bytes());
        Ok(bytes)
    }

    /// Parses a state.
    ///
    /// # Errors
    /// The reason why the bytes are not a valid state, as a clause whose subject is the state.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, &'static str> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or("it is too short")?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err("its checksum is wrong");
        }
        let body = body.strip_prefix(MAGIC).ok_or("its magic number is wrong")?;
        let body = body.strip_prefix(&[VERSION]).ok_or("it has another format version")?;
        let (state, rest) = postcard::take_from_bytes::<Self>(body).map_err(|_| "it cannot be read")?;
        if !rest.is_empty() {
            return Err("it has trailing data");
        }
        Ok(state)
    }
}
