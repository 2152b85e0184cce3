//! The tasks that are ready to run, and the one that is active.

use clr_switching::Resident;

use crate::{EngineError, ResidentAdapter};

/// Resident adapters by task name, one of them active. All methods take `&self`, from any thread.
///
/// Readers never wait: a frame takes the active adapter once and keeps it to its end, so no frame ever mixes two tasks, and an
/// adapter that was replaced or removed lives until its last frame is done.
pub type TaskSet = clr_switching::TaskSet<ResidentAdapter>;

impl Resident for ResidentAdapter {
    type Unknown = EngineError;

    fn task(&self) -> &str {
        &self.task
    }

    fn unknown(name: String, resident: Vec<String>) -> EngineError {
        EngineError::UnknownTask { name, resident }
    }
}
