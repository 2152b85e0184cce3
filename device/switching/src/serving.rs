//! The adapters that serve, with what is known of each: which file it is, and how its trial stands.

use std::{collections::HashMap, sync::Arc};

use crate::{
    Resident, TaskSet,
    sync::{Mutex, MutexGuard, lock},
};

/// What is known of an adapter that serves.
pub trait AdapterInfo {
    /// What names an adapter on trial to the store.
    type Trial;

    /// The adapter's name, while it is on trial.
    fn on_trial(&self) -> Option<Self::Trial>;

    /// It has proved itself: it is not on trial any more.
    fn confirm(&mut self);
}

/// By task; while one adapter takes another's place, both, the new one last.
type Known<A, D> = HashMap<String, Vec<(Arc<A>, D)>>;

/// Which adapters serve, kept in line with a store. Frames take the active adapter and never wait for a change that writes to the disk.
///
/// What is known belongs to an adapter, not to a name: a frame that outlives its adapter finds nothing, and its verdict changes nothing.
#[derive(Debug)]
pub struct ServingSet<A, D> {
    /// The resident adapters.
    tasks: TaskSet<A>,
    known: Mutex<Known<A, D>>,
    /// Held by whoever changes which adapter serves: store and memory change together.
    changing: Mutex<()>,
    /// Held by whoever names a task, until a restart would know of it.
    naming: Mutex<()>,
    /// Whether the task is chosen from the frame. Held for moments only, since the inference loop takes it.
    auto: Mutex<bool>,
}

/// The right to change which adapter serves a task; one thread has it at a time.
#[derive(Debug)]
pub struct UpdateGuard<'a, A, D> {
    serving: &'a ServingSet<A, D>,
    _changing: MutexGuard<'a, ()>,
}

/// The right to name the task that answers; one thread has it at a time, so that what is remembered is what is in force.
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
    /// The resident adapters.
    pub fn tasks(&self) -> &TaskSet<A> {
        &self.tasks
    }

    /// Waits until nobody else changes what serves.
    pub fn lock_updates(&self) -> UpdateGuard<'_, A, D> {
        UpdateGuard {
            serving: self,
            _changing: lock(&self.changing),
        }
    }

    /// Looks at what is known of a task's adapter.
    pub fn detail<T>(&self, task: &str, look: impl FnOnce(&D) -> T) -> Option<T> {
        lock(&self.known).get(task)?.last().map(|(_, detail)| look(detail))
    }

    /// Looks at what is known of this very adapter; nothing once another has taken its place.
    pub fn of<T>(&self, adapter: &Arc<A>, look: impl FnOnce(&mut D) -> T) -> Option<T> {
        let mut known = lock(&self.known);
        let mut known = known.get_mut(adapter.task())?.iter_mut();
        let (_, detail) = known.find(|(current, _)| Arc::ptr_eq(current, adapter))?;
        Some(look(detail))
    }

    /// Waits until nobody else names a task. Keep it until the choice is remembered.
    pub fn lock_switches(&self) -> SwitchGuard<'_, A, D> {
        SwitchGuard {
            serving: self,
            _naming: lock(&self.naming),
        }
    }

    /// Whether the task is chosen from the frame.
    pub fn auto(&self) -> bool {
        *lock(&self.auto)
    }

    /// Makes the task that a frame looks like the active one, unless somebody named a task since. Says whether it did.
    pub fn switch_chosen(&self, adapter: &Arc<A>) -> bool {
        let auto = lock(&self.auto);
        // It may have been removed since the frame was scored; the next frame will know.
        *auto && self.tasks.switch(adapter.task()).is_ok()
    }
}

impl<A: Resident, D: AdapterInfo> ServingSet<A, D> {
    /// The adapter on trial has proved itself. `store` makes that last; where it fails the trial goes on. Nothing is done, and `false`
    /// given, if the adapter is not on trial any more: something else may have happened since the verdict.
    pub fn confirm<E>(&self, adapter: &Arc<A>, store: impl FnOnce(D::Trial) -> Result<(), E>) -> Result<bool, E> {
        let _changing = self.lock_updates();
        let Some(trial) = self.of(adapter, |detail| detail.on_trial()).flatten() else {
            return Ok(false);
        };
        store(trial)?;
        self.of(adapter, D::confirm);
        Ok(true)
    }

    /// The adapter on trial has failed. `replace` makes that last and puts something else in its place, or nothing. Not called if the
    /// adapter is not on trial any more.
    pub fn revert<E>(
        &self,
        adapter: &Arc<A>,
        replace: impl FnOnce(&UpdateGuard<'_, A, D>, D::Trial) -> Result<(), E>,
    ) -> Result<bool, E> {
        let changing = self.lock_updates();
        let Some(trial) = self.of(adapter, |detail| detail.on_trial()).flatten() else {
            return Ok(false);
        };
        replace(&changing, trial)?;
        Ok(true)
    }
}

impl<A: Resident, D> SwitchGuard<'_, A, D> {
    /// The task answers from the next frame on, whatever frames look like.
    pub fn switch(&self, task: &str) -> Result<Arc<A>, A::Unknown> {
        let mut auto = lock(&self.serving.auto);
        let adapter = self.serving.tasks.switch(task)?;
        *auto = false;
        Ok(adapter)
    }

    /// From the next frame on the task is chosen from it.
    pub fn switch_to_auto(&self) {
        *lock(&self.serving.auto) = true;
    }
}

impl<A: Resident, D> UpdateGuard<'_, A, D> {
    /// Lets an adapter serve its task from the next frame on.
    pub fn put(&self, adapter: A, detail: D) {
        let adapter = Arc::new(adapter);
        let task = adapter.task().to_owned();
        // What is known of it comes before the adapter and goes after it: a frame never finds a trial without its bounds.
        let entry = (Arc::clone(&adapter), detail);
        lock(&self.serving.known).entry(task.clone()).or_default().push(entry);
        self.serving.tasks.insert(adapter);
        if let Some(known) = lock(&self.serving.known).get_mut(&task) {
            known.drain(..known.len() - 1);
        }
    }

    /// Takes a task out of service, if it is in.
    pub fn take_out(&self, task: &str) {
        let _ = self.serving.tasks.remove(task);
        lock(&self.serving.known).remove(task);
    }
}
