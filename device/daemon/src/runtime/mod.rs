//! State of the running device, shared by all threads: engine, store, resident adapters, trials and counters.

mod commands;
mod examples;
mod failure;
mod images;
#[cfg(feature = "tuning")]
mod parent;
mod pending_changes;
mod persisted_choice;
mod resident;
mod transfers;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use clr_adapters::{AUTO, Digest, Limits, PublicKey};
use clr_onnx::{Backbone, OnnxError};
use clr_store::{Caps, Directory, Store, StoreError, StoreOptions, StoredTask, Unavailable};
use clr_switching::ServingSet;
use clr_transfer::FailureCode;

use super::{
    Config, DaemonError, device_key,
    error::with_causes,
    images::Images,
    latency::Latencies,
    lock,
    source::{SourceState, Stop},
    tally::Tally,
    task_choice::TaskChoice,
    time::{self, now, stamp},
};
use clr_engine::{Engine, EngineError, EngineOptions, ResidentAdapter, resident_memory};

pub(crate) use resident::AdapterInfo;

/// The running device.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) config: ArcSwap<Config>,
    pub(crate) engine: Engine,
    pub(crate) store: Store,
    /// Decodes frames and taught images.
    pub(crate) images: Images,
    /// The resident adapters with their information.
    pub(crate) serving: ServingSet<ResidentAdapter, AdapterInfo>,
    pub(crate) counters: Counters,
    pub(crate) stop: Stop,
    started: Instant,
    resident_after_start: AtomicU64,
    #[cfg(feature = "tuning")]
    pub(crate) learning: super::learning_state::LearningState,
    /// Reason why the device cannot sign adapters that it learns.
    pub(crate) without_key: Option<String>,
    /// Reason why the background next to the backbone cannot be used, so that no task can be chosen.
    pub(crate) background_fault: Option<String>,
    /// The public key of the device, as found when it started.
    device_public: Option<PublicKey>,
    /// Reasons why selected tasks could not start, by task.
    start_faults: Mutex<HashMap<String, String>>,
    /// Changes that are in effect, but could not be written to the disk yet.
    pending_changes: Mutex<pending_changes::PendingChanges>,
    /// The choice of the task, if it has not been written yet.
    pending_choice: Mutex<persisted_choice::PendingChoice>,
    /// Number of stored frames by task. A task has no entry until its frames have been counted.
    kept_frames: Mutex<HashMap<String, usize>>,
    /// The file that was read last, for hosts that pull it piece by piece.
    reading: Mutex<Option<(Digest, Arc<[u8]>)>>,
    /// The stored image that was opened last, and its task. It is read by its digest, like a file.
    opened_example: Mutex<Option<(Digest, String)>>,
}

/// Counters and statistics of the running device.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) served: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) switches: AtomicU64,
    /// Truncated or damaged images.
    pub(crate) images_damaged: AtomicU64,
    /// Images over a limit.
    pub(crate) images_over_limit: AtomicU64,
    /// Number of quarantined images, and of later refusals of such images.
    pub(crate) images_rejected: AtomicU64,
    pub(crate) latencies: Mutex<Latencies>,
    /// Classified frames, by task.
    pub(crate) by_task: Mutex<HashMap<String, u64>>,
    /// Last iteration of the inference loop.
    pub(crate) alive: Mutex<Option<Instant>>,
    /// State and losses of the source.
    pub(crate) source: Arc<SourceState>,
    /// Number of results that could not be written to stdout.
    pub(crate) results_lost: Arc<AtomicU64>,
    /// Failed requests of hosts, by code.
    pub(crate) refused: Tally<FailureCode>,
    /// Refused connections and sessions by kind: `control`, `unknown`, `stranger`, `session`, `http`.
    pub(crate) connections_refused: Tally<&'static str>,
    /// Reverted adapters on trial.
    pub(crate) reverts: AtomicU64,
    /// Learning runs, by outcome.
    pub(crate) learning_runs: Tally<&'static str>,
}

impl Runtime {
    /// Loads the backbone, opens the store and prepares its tasks.
    pub(crate) fn start(config: Config, stop: Stop) -> Result<Arc<Self>, DaemonError> {
        let (engine, background) = open_engine(&config)?;
        let background_fault = background.map(|error| with_causes(&error));
        if let Some(fault) = &background_fault {
            tracing::error!("no task can be chosen: {fault}");
        }
        let (store, key) = open_store(&config, &engine)?;
        let public = key.public();
        let without_key = give_key(&store, &config, key);
        let images = Images::open(&config, engine.backbone().preprocessing());
        let runtime = Arc::new(Self {
            engine,
            store,
            images,
            serving: ServingSet::default(),
            counters: Counters::default(),
            stop,
            started: Instant::now(),
            resident_after_start: AtomicU64::new(resident_memory()),
            without_key,
            background_fault,
            device_public: public,
            start_faults: Mutex::default(),
            pending_changes: Mutex::default(),
            pending_choice: Mutex::default(),
            kept_frames: Mutex::default(),
            reading: Mutex::default(),
            opened_example: Mutex::default(),
            #[cfg(feature = "tuning")]
            learning: super::learning_state::LearningState::default(),
            config: ArcSwap::from_pointee(config),
        });
        runtime
            .counters
            .images_rejected
            .store(runtime.images.quarantined_at_start(), Ordering::Relaxed);
        // If the last run crashed while decoding an image, the adapters on trial are not to blame.
        runtime.load_all(!runtime.images.crashed_on_image());
        time::start(&runtime.store);
        runtime.start_tasks();
        Ok(runtime)
    }

    /// Returns the time since the start.
    pub(crate) fn uptime(&self) -> std::time::Duration {
        self.started.elapsed()
    }

    /// Prepares every task of the store. If one fails, the others are not affected. `blamed` states whether an adapter
    /// on trial may have caused the unclean end of the last run.
    fn load_all(&self, blamed: bool) {
        let changing = self.serving.lock_updates();
        for state in self.store.tasks().iter() {
            if let Err(error) = self.load_at_start(&changing, &state.task, blamed) {
                tracing::error!(task = state.task, "{}", with_causes(&error));
            }
        }
    }

    /// Selects the configured tasks or, without any, the persisted choice.
    fn start_tasks(&self) {
        let by_marker = self.marker().symlink_metadata().is_ok();
        let switching = self.serving.lock_switches();
        match self.wanted() {
            Some(TaskChoice::Auto) => switching.switch_to_auto(),
            Some(TaskChoice::Tasks(tasks)) => {
                let selection = switching.select(&tasks);
                for task in selection.tasks().iter().filter(|task| task.adapter().is_none()) {
                    let task = task.name();
                    let reason = match self.store.serving(task) {
                        Err(of_store) => of_store.to_string(),
                        Ok(_) => "it has no usable adapter".to_owned(),
                    };
                    tracing::error!(task, "cannot activate the task: {reason}");
                    let reason = reason.lines().next().unwrap_or_default().to_owned();
                    lock(&self.start_faults).insert(task.to_owned(), reason);
                }
            }
            None => {}
        }
        if by_marker && let Err(failure) = self.persist(TaskChoice::Auto) {
            tracing::warn!("{failure}");
        }
    }

    /// Returns the configured tasks or, without any, the persisted choice.
    pub(crate) fn wanted(&self) -> Option<TaskChoice> {
        let stored = || {
            if self.marker().symlink_metadata().is_ok() {
                return Some(TaskChoice::Auto);
            }
            let names = self.store.active();
            match names.as_slice() {
                [] => None,
                [name] if name == AUTO => Some(TaskChoice::Auto),
                _ => Some(TaskChoice::Tasks(names)),
            }
        };
        self.config.load().task.clone().or_else(stored)
    }

    /// Returns the names of the selected tasks without an adapter.
    pub(crate) fn missing_tasks(&self) -> Vec<String> {
        let selection = self.serving.tasks().selection();
        let tasks = selection.as_ref().map_or(&[][..], |selection| selection.tasks());
        let missing = tasks.iter().filter(|task| task.adapter().is_none());
        missing.map(|task| task.name().to_owned()).collect()
    }

    /// Returns the reason why a task cannot classify.
    pub(crate) fn why_missing(&self, task: &str) -> String {
        match self.store.task(task) {
            Ok(state) => state.reverted.map_or_else(
                || "it has no usable adapter".to_owned(),
                |reverted| format!("its adapter was reverted: {}", reverted.reason),
            ),
            // Without the hint: the reason is part of a line.
            Err(error) => error.to_string().lines().next().unwrap_or_default().to_owned(),
        }
    }

    /// Returns the reasons why selected tasks could not start, and still have no adapter.
    fn start_faults(&self) -> Vec<String> {
        let faults = lock(&self.start_faults);
        let missing = self.missing_tasks().into_iter();
        missing.filter_map(|task| faults.get(&task).cloned()).collect()
    }

    /// Returns the reason why no task is active and frames are not classified.
    pub(crate) fn why_no_task(&self) -> String {
        match self.start_faults().first() {
            Some(reason) => format!("no task is active: {reason}"),
            None => "no task is active".to_owned(),
        }
    }

    /// Returns a message for each fault that does not stop the device: problems of the store, a missing key for
    /// learning, a background that cannot be used, a chosen task that could not start, and changes that could not be written yet.
    pub(crate) fn faults(&self) -> Vec<String> {
        let store = self.store.problems().iter().map(ToString::to_string);
        let rest = self
            .without_key
            .iter()
            .map(|reason| format!("learning is off: {reason}"))
            .chain(self.background_fault.clone());
        store
            .chain(rest)
            .chain(self.start_faults())
            .chain(self.pending_changes())
            .collect()
    }

    /// Records a clean end.
    pub(crate) fn close(&self) {
        self.flush_changes(true);
        self.end_uses();
        time::stop(&self.store);
    }

    /// Reloads the configuration. Trusted keys, audience, minimum versions, trial bounds and `top_k` change
    /// immediately, the rest at the next start.
    pub(crate) fn reload(&self, path: &std::path::Path) -> Result<(), DaemonError> {
        let config = Config::read(path)?;
        self.store.set_trust(config.trust(self.device_public)?);
        self.config.store(Arc::new(config));
        Ok(())
    }
}

/// Loads the backbone into an engine.
///
/// A background that cannot be used is not an error: the tasks that are named still classify. It is returned as the
/// second value, and no task can be chosen.
pub(crate) fn open_engine(config: &Config) -> Result<(Engine, Option<DaemonError>), DaemonError> {
    let of_onnx = |error: OnnxError| DaemonError::from(EngineError::from(error));
    let mut backbone = Backbone::load_without_background(&config.backbone).map_err(of_onnx)?;
    let fault = backbone.add_background_next_to(&config.backbone).err().map(of_onnx);
    let options = EngineOptions::default().with_threads(config.threads);
    Ok((Engine::new(backbone, options)?, fault))
}

/// Opens the store and finds the device's key. An unreadable state folder is not an error: the device then serves
/// nothing and logs the reason.
pub(crate) fn open_store(config: &Config, engine: &Engine) -> Result<(Store, device_key::Found), DaemonError> {
    let folder = config.store();
    let found = device_key::find(&config.state);
    let options = || store_options(config, engine, found.public());
    let opened = match Directory::open(&folder) {
        Ok(directory) => Store::open(Arc::new(directory), options()?),
        Err(source) => {
            let (action, file) = ("open", folder.display().to_string());
            Err(StoreError::Io { action, file, source })
        }
    };
    match opened {
        Err(StoreError::Io { source, .. }) => {
            tracing::error!("cannot open the store in '{}': {source}", folder.display());
            let store = Store::open(Arc::new(Unavailable::new(&source)), options()?)?;
            // Without the store, it is unknown whether a lost key was in use.
            let found = match found {
                device_key::Found::Lost {
                    public,
                    fault: Some(fault),
                } => device_key::Found::Unusable { public, fault },
                found => found,
            };
            Ok((store, found))
        }
        opened => Ok((opened?, found)),
    }
}

/// Gives the device's key to the store, and creates a new one if necessary. If there is no key, returns the reason.
fn give_key(store: &Store, config: &Config, found: device_key::Found) -> Option<String> {
    let key = match found {
        device_key::Found::Key(key) => Ok(key),
        device_key::Found::Unusable { fault, .. } => Err(fault),
        device_key::Found::Lost { fault, .. } => {
            let tasks = store.tasks();
            let needed = tasks.iter().any(StoredTask::is_tuned);
            device_key::replace(&config.state, fault.as_deref(), needed)
        }
    };
    match key {
        Ok(key) => {
            store.set_device_key(key);
            None
        }
        Err(reason) => {
            tracing::error!("learning is off, everything else works: {reason}");
            Some(reason)
        }
    }
}

fn store_options(config: &Config, engine: &Engine, device: Option<PublicKey>) -> Result<StoreOptions, DaemonError> {
    let limits = &config.limits;
    let mut options = StoreOptions::new(engine.backbone().digest(), config.trust(device)?);
    options.limits = Limits {
        file_bytes: limits.adapter_bytes,
        ..Limits::DEFAULT
    };
    options.caps = Caps {
        tasks: limits.tasks,
        state_bytes: limits.state_bytes,
        reserve_bytes: limits.reserve_bytes,
        examples_per_task: limits.examples_per_task,
        example_bytes: limits.example_bytes as u64,
        upload_bytes_per_day: limits.upload_bytes_per_day,
        // Space for two adapters of the maximum size, or for more smaller ones.
        staged_bytes: 2 * limits.adapter_bytes.max(limits.example_bytes) as u64,
        ..Caps::DEFAULT
    };
    Ok(options)
}
