//! Set of resident tasks, of which one or several are active.
//!
//! Readers never block: the selection of the active tasks and the table of all tasks are each a pointer that is swapped
//! atomically. A frame takes the selection once and keeps it until the end, so no frame mixes two selections. A
//! replaced or removed adapter stays in memory until its last frame is finished.

use std::{collections::HashMap, sync::Arc};

use crate::{
    Resident, Selected, Selection,
    sync::{Mutex, Slot, Table, lock},
};

/// Resident adapters by task name, of which one or several are active. All methods take `&self` and can be called from
/// any thread.
#[derive(Debug)]
pub struct TaskSet<A> {
    tasks: Table<HashMap<String, Arc<A>>>,
    active: Slot<Selection<A>>,
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
        let _writer = lock(&self.writers);
        let mut tasks = self.tasks.read(HashMap::clone);
        let replaced = tasks.insert(adapter.task().to_owned(), Arc::clone(&adapter));
        self.tasks.store(tasks);
        self.update(&Selected::Ready(adapter));
        replaced
    }

    /// Removes the task. If it was active, the other active tasks remain active.
    pub fn remove(&self, name: &str) -> Result<Arc<A>, A::Unknown> {
        let _writer = lock(&self.writers);
        let removed = self.take(name);
        if let Some(selection) = self.selection().filter(|selection| selection.contains(name)) {
            self.active.store(selection.without(name).map(Arc::new));
        }
        removed.ok_or_else(|| self.unknown(name))
    }

    /// Removes the adapter of a task. If the task is active, it stays selected, and serves again when an adapter is
    /// inserted.
    pub fn withdraw(&self, name: &str) -> Option<Arc<A>> {
        let _writer = lock(&self.writers);
        let removed = self.take(name);
        self.update(&Selected::Missing(name.to_owned()));
        removed
    }

    /// Makes this task alone active from the next frame on, and returns its adapter. Readers do not block; switches,
    /// insertions and removals block each other.
    pub fn switch(&self, name: &str) -> Result<Arc<A>, A::Unknown> {
        let _writer = lock(&self.writers);
        let adapter = self.get(name)?;
        let selected = Selected::Ready(Arc::clone(&adapter));
        self.active.store(Some(Arc::new(Selection::new(vec![selected]))));
        Ok(adapter)
    }

    /// Makes a group of tasks active from the next frame on: a frame is classified by all of them, or by all of the
    /// previous selection. The names are distinct; without a name, no task is active.
    ///
    /// # Errors
    /// [`Resident::unknown`] for the first task that is not resident; the selection has not changed.
    pub fn switch_all(&self, names: &[impl AsRef<str>]) -> Result<Arc<Selection<A>>, A::Unknown> {
        let _writer = lock(&self.writers);
        let tasks = names.iter().map(|name| self.get(name.as_ref()).map(Selected::Ready));
        let tasks: Result<Vec<_>, _> = tasks.collect();
        Ok(self.activate(tasks?))
    }

    /// Selects tasks like [`TaskSet::switch_all`], including those that are not resident yet.
    pub fn select(&self, names: &[impl AsRef<str>]) -> Arc<Selection<A>> {
        let _writer = lock(&self.writers);
        let tasks = names.iter().map(|name| {
            let found = self.get(name.as_ref());
            found.map_or_else(|_| Selected::Missing(name.as_ref().to_owned()), Selected::Ready)
        });
        self.activate(tasks.collect())
    }

    /// Returns the first active adapter, for a set of which one task at a time is active; `None` before the first
    /// switch.
    pub fn active(&self) -> Option<Arc<A>> {
        self.active.load()?.adapters().next().cloned()
    }

    /// Returns the tasks for the current frame; `None` before the first switch.
    pub fn selection(&self) -> Option<Arc<Selection<A>>> {
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

    /// Removes an adapter from the table. The caller holds the lock of the writers.
    fn take(&self, name: &str) -> Option<Arc<A>> {
        let mut tasks = self.tasks.read(HashMap::clone);
        let removed = tasks.remove(name)?;
        self.tasks.store(tasks);
        Some(removed)
    }

    /// Replaces the selection. The caller holds the lock of the writers.
    fn activate(&self, tasks: Vec<Selected<A>>) -> Arc<Selection<A>> {
        let selection = Arc::new(Selection::new(tasks));
        let active = (!selection.tasks().is_empty()).then(|| Arc::clone(&selection));
        self.active.store(active);
        selection
    }

    /// Changes the state of a task within the selection, if it is selected. The caller holds the lock of the writers.
    fn update(&self, task: &Selected<A>) {
        if let Some(selection) = self.selection().filter(|selection| selection.contains(task.name())) {
            self.active.store(Some(Arc::new(selection.with(task))));
        }
    }

    fn unknown(&self, name: &str) -> A::Unknown {
        A::unknown(name.to_owned(), self.names())
    }
}
