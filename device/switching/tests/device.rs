//! A minimal device for tests: an adapter is just its digest, and the store is in memory. Changes follow the same steps
//! as in the daemon.

use std::sync::Arc;

use clr_switching::{AdapterInfo, Resident, Selected, ServingSet, UpdateGuard};

#[cfg(loom)]
use loom::sync::Mutex;
#[cfg(not(loom))]
use std::sync::Mutex;

#[derive(Debug)]
pub(crate) struct Adapter {
    pub(crate) task: &'static str,
    pub(crate) digest: u32,
}

impl Resident for Adapter {
    type Unknown = String;

    fn task(&self) -> &str {
        self.task
    }

    fn unknown(name: String, resident: Vec<String>) -> String {
        format!("{name} is not among {resident:?}")
    }
}

#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) digest: u32,
    pub(crate) trial: bool,
    /// Frames counted.
    pub(crate) frames: u32,
}

impl AdapterInfo for Known {
    type Trial = u32;

    fn on_trial(&self) -> Option<u32> {
        self.trial.then_some(self.digest)
    }

    fn confirm(&mut self) {
        self.trial = false;
    }
}

/// The stored state of the task `birds`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) confirmed: Option<u32>,
    pub(crate) trial: Option<u32>,
}

pub(crate) struct Device {
    pub(crate) serving: ServingSet<Adapter, Known>,
    store: Mutex<Stored>,
    /// The stored choice of the tasks.
    remembered: Mutex<Vec<&'static str>>,
}

impl Device {
    /// Creates a device with the active task `birds`, confirmed as adapter 1.
    pub(crate) fn new() -> Self {
        let device = Self {
            serving: ServingSet::default(),
            store: Mutex::new(Stored {
                confirmed: Some(1),
                trial: None,
            }),
            remembered: Mutex::new(Vec::new()),
        };
        device.load(&device.serving.lock_updates());
        device.switch(&["birds"]).expect("birds is loaded");
        device
    }

    pub(crate) fn stored(&self) -> Stored {
        *self.store.lock().unwrap()
    }

    /// Switches to a task or a group, and stores the choice.
    pub(crate) fn switch(&self, tasks: &[&'static str]) -> Result<(), String> {
        let naming = self.serving.lock_switches();
        naming.switch(tasks)?;
        *self.remembered.lock().unwrap() = tasks.to_vec();
        Ok(())
    }

    /// Switches to automatic selection, and stores the choice.
    pub(crate) fn switch_to_auto(&self) {
        let naming = self.serving.lock_switches();
        naming.switch_to_auto();
        *self.remembered.lock().unwrap() = vec!["auto"];
    }

    /// Asserts that the stored choice equals the current one.
    pub(crate) fn check_remembered(&self) {
        let remembered = self.remembered.lock().unwrap().clone();
        if self.serving.auto() {
            assert_eq!(remembered, ["auto"]);
        } else {
            assert_eq!(remembered, self.tasks());
        }
    }

    /// Returns the names of the selected tasks.
    pub(crate) fn tasks(&self) -> Vec<String> {
        let selection = self.serving.tasks().selection();
        selection.map_or_else(Vec::new, |selection| selection.names().map(str::to_owned).collect())
    }

    /// Classifies with the selected tasks, as a frame does. Returns each task with its adapter's digest.
    pub(crate) fn group_answers(&self) -> Vec<(String, Option<u32>)> {
        let Some(selection) = self.serving.tasks().selection() else {
            return Vec::new();
        };
        let answer = |task: &Selected<Adapter>| (task.name().to_owned(), task.adapter().map(|adapter| adapter.digest));
        selection.tasks().iter().map(answer).collect()
    }

    /// Adds a second task, `cars`.
    pub(crate) fn with_cars(&self) {
        let known = Known {
            digest: 9,
            trial: false,
            frames: 0,
        };
        let cars = Adapter {
            task: "cars",
            digest: 9,
        };
        self.serving.lock_updates().put(cars, known);
    }

    /// Loads the serving adapter of the store.
    fn load(&self, changing: &UpdateGuard<'_, Adapter, Known>) {
        let Stored { confirmed, trial } = self.stored();
        let Some(digest) = trial.or(confirmed) else {
            changing.take_out("birds");
            return;
        };
        let known = Known {
            digest,
            trial: trial.is_some(),
            frames: 0,
        };
        changing.put(Adapter { task: "birds", digest }, known);
    }

    /// Changes the store, then loads the adapter that serves according to it.
    fn change(&self, change: impl FnOnce(&mut Stored)) {
        let changing = self.serving.lock_updates();
        change(&mut self.store.lock().unwrap());
        self.load(&changing);
    }

    pub(crate) fn install(&self, digest: u32) {
        self.change(|stored| stored.trial = Some(digest));
    }

    /// Reverts to the confirmed adapter.
    pub(crate) fn mark_bad(&self) {
        self.change(|stored| stored.trial = None);
    }

    pub(crate) fn mark_good(&self) {
        self.change(|stored| stored.confirmed = stored.trial.take().or(stored.confirmed));
    }

    /// Removes the task.
    pub(crate) fn remove(&self) {
        let _naming = self.serving.lock_switches();
        let changing = self.serving.lock_updates();
        *self.store.lock().unwrap() = Stored::default();
        changing.remove("birds");
        self.remembered.lock().unwrap().retain(|task| *task != "birds");
    }

    /// Reverts the only adapter of the task, so that it has none.
    pub(crate) fn lose(&self) {
        self.change(|stored| *stored = Stored::default());
    }

    pub(crate) fn confirm(&self, adapter: &Arc<Adapter>) -> bool {
        let store = |digest| {
            let mut stored = self.store.lock().unwrap();
            assert_eq!(stored.trial, Some(digest), "another adapter is on trial in the store");
            stored.confirmed = stored.trial.take();
            Ok::<_, ()>(())
        };
        self.serving.confirm(adapter, store).unwrap()
    }

    pub(crate) fn revert(&self, adapter: &Arc<Adapter>) -> bool {
        let replace = |changing: &UpdateGuard<'_, Adapter, Known>, digest| {
            let trial = self.store.lock().unwrap().trial.take();
            assert_eq!(trial, Some(digest), "another adapter is on trial in the store");
            self.load(changing);
            Ok::<_, ()>(())
        };
        self.serving.revert(adapter, replace).unwrap()
    }

    /// Takes the active adapter, as a frame does.
    pub(crate) fn frame(&self) -> Option<Arc<Adapter>> {
        self.serving.tasks().active()
    }

    pub(crate) fn answers(&self) -> Option<u32> {
        self.frame().map(|adapter| adapter.digest)
    }

    /// Asserts that store and memory agree, and that each serving adapter has its information.
    pub(crate) fn check(&self) {
        let stored = self.stored();
        let serves = self.serving.tasks().get("birds").ok();
        let digest = serves.as_ref().map(|adapter| adapter.digest);
        assert_eq!(digest, stored.trial.or(stored.confirmed));
        let known = self.serving.info("birds", |known| (known.digest, known.on_trial()));
        assert_eq!(known, digest.map(|digest| (digest, stored.trial)));
        if let Some(adapter) = serves {
            assert_eq!(self.serving.info_of(&adapter, |known| known.digest), digest);
        }
    }
}
