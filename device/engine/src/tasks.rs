//! Set of the tasks that are ready to run, of which one or several are active.

use clr_switching::Resident;

use crate::{EngineError, ResidentAdapter};

/// Resident adapters by task name, of which one or several are active. All methods take `&self` and can be called from
/// any thread.
///
/// Readers never block. A frame takes the [`Selection`](crate::Selection) once and keeps it until the end, so no frame
/// mixes two selections. A replaced or removed adapter stays in memory until its last frame is finished.
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
