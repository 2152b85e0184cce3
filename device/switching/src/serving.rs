//! Serving adapters with information on each: its file and the state of its trial.

use std::{collections::HashMap, sync::Arc};

use crate::{
    Resident, Selection, TaskSet,
    sync::{Mutex, MutexGuard, lock},
};

/// Information on a serving adapter.
pub trait AdapterInfo {
    /// Identifier of an adapter on trial in the store.
    type Trial;

    /// Returns the adapter's identifier while it is on trial.
    fn on_trial(&self) -> Option<Self::Trial>;

    /// Marks the adapter as confirmed.
    fn confirm(&mut self);
}

/// Adapters by task. While one replaces another, the list has both, the new one last.
type Known<A, D> = HashMap<String, Vec<(Arc<A>, D)>>;

/// Serving adapters, kept consistent with a store. A frame takes the active adapter, and never waits for a change that
/// writes to the disk.
///
/// The information belongs to an adapter, not to a task name. If an adapter is replaced while it processes a frame, the
/// frame finds no information and its verdict has no effect.
#[derive(Debug)]
pub struct ServingSet<A, D> {
    /// The resident adapters.
    tasks: TaskSet<A>,
    known: Mutex<Known<A, D>>,
    /// Held during a change of a serving adapter, so that store and memory change together.
    changing: Mutex<()>,
    /// Held during a manual switch until the choice is stored for the next start.
    naming: Mutex<()>,
    /// Whether the task is selected for each frame. Held only briefly, because the inference loop locks it too.
    auto: Mutex<bool>,
}

/// Exclusive right to change the serving adapter of a task.
#[derive(Debug)]
pub struct UpdateGuard<'a, A, D> {
    serving: &'a ServingSet<A, D>,
    _changing: MutexGuard<'a, ()>,
}

/// Exclusive right to switch the active tasks, so that the stored choice equals the current one.
#[derive(Debug)]
pub struct SwitchGuard<'a, A, D> {
    serving: &'a ServingSet<A, D>,
    _naming: MutexGuard<'a, ()>,
}

impl<A: Resident, D> Default for ServingSet<A, D> {
    fn default() -> Self {
        Self {
            tasks: TaskSet::new(),
            known: Mutex::new(HashMap::new()),
            changing: Mutex::new(()),
            naming: Mutex::new(()),
            auto: Mutex::new(false),
        }
    }
}

impl<A: Resident, D> ServingSet<A, D> {
    /// Returns the resident adapters.
    pub fn tasks(&self) -> &TaskSet<A> {
        &self.tasks
    }

    /// Locks changes of the serving adapters; blocks while another thread holds the guard.
    pub fn lock_updates(&self) -> UpdateGuard<'_, A, D> {
        UpdateGuard {
            serving: self,
            _changing: lock(&self.changing),
        }
    }

    /// Reads the information on a task's adapter.
    pub fn info<T>(&self, task: &str, look: impl FnOnce(&D) -> T) -> Option<T> {
        lock(&self.known).get(task)?.last().map(|(_, detail)| look(detail))
    }

    /// Calls `look` with the information on this adapter; returns `None` if another one has replaced it.
    pub fn info_of<T>(&self, adapter: &Arc<A>, look: impl FnOnce(&mut D) -> T) -> Option<T> {
        let mut known = lock(&self.known);
        let mut known = known.get_mut(adapter.task())?.iter_mut();
        let (_, detail) = known.find(|(current, _)| Arc::ptr_eq(current, adapter))?;
        Some(look(detail))
    }

    /// Locks manual switches; blocks while another thread holds the guard. The caller holds it until the choice is
    /// stored.
    pub fn lock_switches(&self) -> SwitchGuard<'_, A, D> {
        SwitchGuard {
            serving: self,
            _naming: lock(&self.naming),
        }
    }

    /// Returns whether the task is selected for each frame.
    pub fn auto(&self) -> bool {
        *lock(&self.auto)
    }

    /// Switches to the task selected for a frame, unless a task was chosen manually in the meantime. Returns whether it
    /// switched.
    pub fn switch_chosen(&self, adapter: &Arc<A>) -> bool {
        let auto = lock(&self.auto);
        // The task may have been removed since the frame was scored.
        *auto && self.tasks.switch(adapter.task()).is_ok()
    }
}

impl<A: Resident, D: AdapterInfo> ServingSet<A, D> {
    /// Confirms an adapter on trial. `store` makes the confirmation durable; if it fails, the trial continues. Returns
    /// `false` without a change if the adapter is no longer on trial, because it may have been replaced since the
    /// verdict.
    pub fn confirm<E>(&self, adapter: &Arc<A>, store: impl FnOnce(D::Trial) -> Result<(), E>) -> Result<bool, E> {
        let _changing = self.lock_updates();
        let Some(trial) = self.info_of(adapter, |detail| detail.on_trial()).flatten() else {
            return Ok(false);
        };
        store(trial)?;
        self.info_of(adapter, D::confirm);
        Ok(true)
    }

    /// Reverts an adapter on trial. `replace` makes the reversion durable, and replaces or removes the adapter. If the
    /// adapter is no longer on trial, returns `false` without calling `replace`.
    pub fn revert<E>(
        &self,
        adapter: &Arc<A>,
        replace: impl FnOnce(&UpdateGuard<'_, A, D>, D::Trial) -> Result<(), E>,
    ) -> Result<bool, E> {
        let changing = self.lock_updates();
        let Some(trial) = self.info_of(adapter, |detail| detail.on_trial()).flatten() else {
            return Ok(false);
        };
        replace(&changing, trial)?;
        Ok(true)
    }
}

impl<A: Resident, D> SwitchGuard<'_, A, D> {
    /// Switches to these tasks from the next frame on, and ends automatic selection.
    ///
    /// # Errors
    /// As [`TaskSet::switch_all`]; nothing has changed then.
    pub fn switch(&self, tasks: &[impl AsRef<str>]) -> Result<Arc<Selection<A>>, A::Unknown> {
        let mut auto = lock(&self.serving.auto);
        let selection = self.serving.tasks.switch_all(tasks)?;
        *auto = false;
        Ok(selection)
    }

    /// Selects these tasks like [`SwitchGuard::switch`], including those that have no adapter yet.
    pub fn select(&self, tasks: &[impl AsRef<str>]) -> Arc<Selection<A>> {
        let mut auto = lock(&self.serving.auto);
        *auto = false;
        self.serving.tasks.select(tasks)
    }

    /// Selects the task automatically from the next frame on.
    pub fn switch_to_auto(&self) {
        *lock(&self.serving.auto) = true;
    }
}

impl<A: Resident, D> UpdateGuard<'_, A, D> {
    /// Lets an adapter serve its task from the next frame on.
    pub fn put(&self, adapter: A, detail: D) {
        let adapter = Arc::new(adapter);
        let task = adapter.task().to_owned();
        // The information is added before the adapter and removed after it, so a frame never finds an adapter on trial
        // without the bounds of its trial.
        let entry = (Arc::clone(&adapter), detail);
        lock(&self.serving.known).entry(task.clone()).or_default().push(entry);
        self.serving.tasks.insert(adapter);
        if let Some(known) = lock(&self.serving.known).get_mut(&task) {
            known.drain(..known.len() - 1);
        }
    }

    /// Takes the adapter of a task out of service, if it has one. If the task is active, it stays selected.
    pub fn take_out(&self, task: &str) {
        self.serving.tasks.withdraw(task);
        lock(&self.serving.known).remove(task);
    }

    /// Removes a task. If it was active, the other active tasks remain active.
    pub fn remove(&self, task: &str) {
        let _ = self.serving.tasks.remove(task);
        lock(&self.serving.known).remove(task);
    }
}
