//! The state of a run that goes on after a kill.
//!
//! `CLRT`, the version as a byte, postcard, and the CRC-32 of all bytes before it, little-endian.

use clr_adapters::Digest;
use clr_learning::AdamState;
use serde::{Deserialize, Serialize};

use crate::TrainableScope;

const MAGIC: &[u8] = b"CLRT";
const VERSION: u8 = 2;

/// Where a run puts its state: a file, a place in a store. What [`Checkpoints::put`] has taken must survive a kill, whole.
pub trait Checkpoints {
    /// Replaces the state.
    fn put(&self, state: &[u8]) -> Result<(), String>;
    /// The state, if there is one.
    fn get(&self) -> Result<Option<Vec<u8>>, String>;
    /// Forgets the state, once a run has ended.
    fn clear(&self) -> Result<(), String>;
}

/// Keeps nothing.
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

/// What a run needs to go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Of backbone, parent, images and options: a run only continues its own state.
    pub(crate) run: Digest,
    /// The unlabelled frames among the images: those that came later are not the run's.
    pub(crate) frames: Vec<Digest>,
    /// Finished steps.
    pub(crate) step: u32,
    /// What is trained: memory that was free then may not be free now, but a run stays what it is.
    pub(crate) scope: TrainableScope,
    /// Of the trained parameters, in their order.
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

    /// Reads a state.
    ///
    /// # Errors
    /// Why the bytes are none, in words.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, &'static str> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or("it is too short")?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err("its checksum is wrong");
        }
        let body = body.strip_prefix(MAGIC).ok_or("it is something else")?;
        let body = body.strip_prefix(&[VERSION]).ok_or("it is of another version")?;
        let (state, rest) = postcard::take_from_bytes::<Self>(body).map_err(|_| "it cannot be read")?;
        if !rest.is_empty() {
            return Err("it has bytes behind its end");
        }
        Ok(state)
    }
}
