//! Set of resident tasks with one active task.
//!
//! Readers never block: the active task and the table of all tasks are each a pointer that is swapped atomically. A
//! frame takes the active adapter once and keeps it until the end, so no frame mixes two tasks. A replaced or removed
//! adapter stays in memory until its last frame is finished.

use std::{collections::HashMap, sync::Arc};

use crate::sync::{Mutex, Slot, Table, lock};

/// An adapter that is ready to run.
pub trait Resident {
    /// Error for a task that is not resident.
    type Unknown;

    /// Returns its task's name.
    fn task(&self) -> &str;

    /// Returns the error for a task `name` that is not in the sorted list `resident`.
    fn unknown(name: String, resident: Vec<String>) -> Self::Unknown;
}

/// Resident adapters by task name, of which one is active. All methods take `&self` and can be called from any thread.
#[derive(Debug)]
pub struct TaskSet<A> {
    tasks: Table<HashMap<String, Arc<A>>>,
    active: Slot<A>,
    /// Held only by writers: insertions, removals and switches.
    writers: Mutex<()>,
}

impl<A> Default for TaskSet<A> {
    fn default() -> Self {
        Self {
            tasks: Table::new(HashMap::new()),
            active: Slot::empty(),
            writers: Mutex::new(()),
        }
    }
}

impl<A: Resident> TaskSet<A> {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `adapter` under its task name. If the name is in use, replaces and returns the previous adapter. If that
    /// task is active, the new adapter is active immediately.
    pub fn insert(&self, adapter: impl Into<Arc<A>>) -> Option<Arc<A>> {
        let adapter = adapter.into();
        let name = adapter.task().to_owned();
        let _writer = lock(&self.writers);
        let mut tasks = self.tasks.read(HashMap::clone);
        let replaced = tasks.insert(name, Arc::clone(&adapter));
        self.tasks.store(tasks);
        if let Some(replaced) = &replaced
            && self.active.holds(replaced)
        {
            self.active.store(Some(adapter));
        }
        replaced
    }

    /// Removes the task. If it was active, no task is active afterwards.
    pub fn remove(&self, name: &str) -> Result<Arc<A>, A::Unknown> {
        let _writer = lock(&self.writers);
        let mut tasks = self.tasks.read(HashMap::clone);
        let removed = tasks.remove(name).ok_or_else(|| self.unknown(name))?;
        self.tasks.store(tasks);
        if self.active.holds(&removed) {
            self.active.store(None);
        }
        Ok(removed)
    }

    /// Makes the task active from the next frame on, and returns its adapter. Readers do not block; switches,
    /// insertions and removals block each other.
    pub fn switch(&self, name: &str) -> Result<Arc<A>, A::Unknown> {
        let _writer = lock(&self.writers);
        let adapter = self.get(name)?;
        self.active.store(Some(Arc::clone(&adapter)));
        Ok(adapter)
    }

    /// Returns the adapter for the current frame; `None` before the first switch.
    pub fn active(&self) -> Option<Arc<A>> {
        self.active.load()
    }

    /// Returns the adapter of a task, active or not.
    pub fn get(&self, name: &str) -> Result<Arc<A>, A::Unknown> {
        let found = self.tasks.read(|tasks| tasks.get(name).cloned());
        found.ok_or_else(|| self.unknown(name))
    }

    /// Returns the names of all tasks, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.tasks.read(|tasks| tasks.keys().cloned().collect());
        names.sort_unstable();
        names
    }

    /// Returns all adapters as a consistent snapshot, sorted by name.
    pub fn all(&self) -> Vec<Arc<A>> {
        let mut adapters: Vec<_> = self.tasks.read(|tasks| tasks.values().cloned().collect());
        adapters.sort_unstable_by(|a: &Arc<A>, b| a.task().cmp(b.task()));
        adapters
    }

    /// Returns the number of tasks.
    pub fn len(&self) -> usize {
        self.tasks.read(HashMap::len)
    }

    /// Returns whether the set contains no task.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn unknown(&self, name: &str) -> A::Unknown {
        A::unknown(name.to_owned(), self.names())
    }
}
