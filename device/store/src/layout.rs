//! Paths of a store's files.

use clr_adapters::Digest;

use crate::{error::StoreError, names};

/// The directory of the records.
pub(crate) const TASKS: &str = "tasks";
/// The directory of the records' copies.
pub(crate) const COPIES: &str = "copies";
/// The directory of the adapters.
pub(crate) const ADAPTERS: &str = "adapters";
/// The suffix of the adapters' files.
pub(crate) const ADAPTER_ENDING: &str = ".clr";
/// The directory of announced uploads.
pub(crate) const INCOMING: &str = "incoming";
/// The directory of all examples.
pub(crate) const EXAMPLES: &str = "examples";
/// The directory of the run states of tuning.
pub(crate) const CHECKPOINTS: &str = "checkpoints";
/// The file with the task to serve after a restart.
pub(crate) const ACTIVE: &str = "active";
/// The file that is locked while the store is open.
pub(crate) const LOCK: &str = "lock";
/// The file with the highest time that was noted.
pub(crate) const TIME: &str = "time";

/// The directories of a store.
pub(crate) const DIRECTORIES: [&str; 6] = [TASKS, COPIES, ADAPTERS, INCOMING, EXAMPLES, CHECKPOINTS];

/// Returns the name of a task's files.
pub(crate) fn encoded(task: &str) -> Result<String, StoreError> {
    names::encode(task).ok_or_else(|| StoreError::Name { task: task.to_owned() })
}

/// Returns the path of a task's record.
pub(crate) fn record_path(task: &str) -> Result<String, StoreError> {
    Ok(format!("{TASKS}/{}", encoded(task)?))
}

/// Returns the path of an adapter.
pub(crate) fn adapter_path(digest: &Digest) -> String {
    format!("{ADAPTERS}/{digest}{ADAPTER_ENDING}")
}

/// Returns the path of the run state of a task's tuning.
pub(crate) fn checkpoint_of(encoded: &str) -> String {
    join(CHECKPOINTS, encoded)
}

/// Returns the directory of a task's examples.
pub(crate) fn examples_of(encoded: &str) -> String {
    join(EXAMPLES, encoded)
}

/// Returns the path of a file in a directory; the root is the empty path.
pub(crate) fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() {
        name.to_owned()
    } else {
        format!("{directory}/{name}")
    }
}
