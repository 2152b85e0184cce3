//! Selected tasks: one, or a group whose tasks are switched together.

use std::sync::Arc;

use crate::Resident;

/// The tasks that classify a frame, in the order in which they were named. A frame takes the selection once, so it
/// never combines tasks of two selections.
#[derive(Debug)]
pub struct Selection<A> {
    tasks: Vec<Selected<A>>,
}

/// A selected task.
#[derive(Debug)]
pub enum Selected<A> {
    /// The task has this adapter.
    Ready(Arc<A>),
    /// The task with this name has no adapter. It serves as soon as one is inserted.
    Missing(String),
}

impl<A> Clone for Selected<A> {
    fn clone(&self) -> Self {
        match self {
            Self::Ready(adapter) => Self::Ready(Arc::clone(adapter)),
            Self::Missing(name) => Self::Missing(name.clone()),
        }
    }
}

impl<A: Resident> Selected<A> {
    /// Returns the task's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Ready(adapter) => adapter.task(),
            Self::Missing(name) => name,
        }
    }

    /// Returns the task's adapter.
    pub fn adapter(&self) -> Option<&Arc<A>> {
        match self {
            Self::Ready(adapter) => Some(adapter),
            Self::Missing(_) => None,
        }
    }
}

impl<A: Resident> Selection<A> {
    pub(crate) fn new(tasks: Vec<Selected<A>>) -> Self {
        Self { tasks }
    }

    /// Returns the selected tasks.
    pub fn tasks(&self) -> &[Selected<A>] {
        &self.tasks
    }

    /// Returns the names of the selected tasks.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tasks.iter().map(Selected::name)
    }

    /// Returns the adapters of the selected tasks that have one.
    pub fn adapters(&self) -> impl Iterator<Item = &Arc<A>> {
        self.tasks.iter().filter_map(Selected::adapter)
    }

    /// Returns whether the task with this name is selected.
    pub fn contains(&self, name: &str) -> bool {
        self.names().any(|selected| selected == name)
    }

    /// Returns the selection with another state of one of its tasks.
    pub(crate) fn with(&self, task: &Selected<A>) -> Self {
        let tasks = self.tasks.iter().map(|selected| {
            let same = selected.name() == task.name();
            if same { task.clone() } else { selected.clone() }
        });
        Self::new(tasks.collect())
    }

    /// Returns the selection without a task; `None` if no other task is selected.
    pub(crate) fn without(&self, name: &str) -> Option<Self> {
        let rest = self.tasks.iter().filter(|selected| selected.name() != name);
        let tasks: Vec<Selected<A>> = rest.cloned().collect();
        (!tasks.is_empty()).then(|| Self::new(tasks))
    }
}
