//! The tasks that are ready to run, and the one that is active.
//!
//! Readers never wait: the active task and the table of all tasks are each one pointer that is swapped whole. A frame
//! takes the active adapter once and keeps it to its end, so no frame ever mixes two tasks, and an adapter that was
//! replaced or removed lives until its last frame is done.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::{EngineError, ResidentAdapter};

/// Resident adapters by task name, one of them active. All methods take `&self`, from any thread.
#[derive(Debug, Default)]
pub struct TaskSet {
    tasks: ArcSwap<HashMap<String, Arc<ResidentAdapter>>>,
    active: ArcSwapOption<ResidentAdapter>,
    /// Held by writers only: insertions, removals, switches.
    writers: Mutex<()>,
}

impl TaskSet {
    /// No tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `adapter` under its own task name, or replaces the one of that name, which is returned. A replaced active
    /// task is active in its new version at once.
    pub fn insert(&self, adapter: ResidentAdapter) -> Option<Arc<ResidentAdapter>> {
        let adapter = Arc::new(adapter);
        let name = adapter.task().to_owned();
        let _writer = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tasks = HashMap::clone(&self.tasks.load());
        let replaced = tasks.insert(name, Arc::clone(&adapter));
        self.tasks.store(Arc::new(tasks));
        if let Some(replaced) = &replaced
            && self.is_active(replaced)
        {
            self.active.store(Some(adapter));
        }
        replaced
    }

    /// Takes the task out. If it was active, no task is.
    pub fn remove(&self, name: &str) -> Result<Arc<ResidentAdapter>, EngineError> {
        let _writer = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tasks = HashMap::clone(&self.tasks.load());
        let removed = tasks.remove(name).ok_or_else(|| self.unknown(name))?;
        self.tasks.store(Arc::new(tasks));
        if self.is_active(&removed) {
            self.active.store(None);
        }
        Ok(removed)
    }

    /// Makes the task active from the next frame on, and returns its adapter. Readers do not wait; two switches, or a
    /// switch and an insertion, wait for one another.
    pub fn switch(&self, name: &str) -> Result<Arc<ResidentAdapter>, EngineError> {
        let _writer = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        let adapter = self.get(name)?;
        self.active.store(Some(Arc::clone(&adapter)));
        Ok(adapter)
    }

    /// The adapter to use for the frame at hand; `None` before the first switch.
    pub fn active(&self) -> Option<Arc<ResidentAdapter>> {
        self.active.load_full()
    }

    /// The adapter of a task, active or not.
    pub fn get(&self, name: &str) -> Result<Arc<ResidentAdapter>, EngineError> {
        self.tasks.load().get(name).cloned().ok_or_else(|| self.unknown(name))
    }

    /// The names of all tasks, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.tasks.load().keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// All adapters, sorted by name: one consistent picture of the set.
    pub fn all(&self) -> Vec<Arc<ResidentAdapter>> {
        let mut adapters: Vec<_> = self.tasks.load().values().cloned().collect();
        adapters.sort_unstable_by(|a, b| a.task().cmp(b.task()));
        adapters
    }

    /// Number of tasks.
    pub fn len(&self) -> usize {
        self.tasks.load().len()
    }

    /// Whether there is no task.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_active(&self, adapter: &Arc<ResidentAdapter>) -> bool {
        self.active
            .load()
            .as_ref()
            .is_some_and(|active| Arc::ptr_eq(active, adapter))
    }

    fn unknown(&self, name: &str) -> EngineError {
        EngineError::UnknownTask {
            name: name.to_owned(),
            resident: self.names(),
        }
    }
}
