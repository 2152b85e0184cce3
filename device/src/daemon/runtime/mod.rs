//! What the device is doing: engine, store, resident adapters, trials and counters, shared by all threads.

mod commands;
mod failure;
mod monitored;
mod remembered;
mod resident;
mod transfers;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use clr_adapters::{AUTO, Digest, Limits, SecretKey};
use clr_onnx::Backbone;
use clr_store::{Caps, Store, StoreOptions};
use clr_switching::Serving;

use super::{Config, DaemonError, latency::Latencies, source::Stop};
use crate::{
    Engine, EngineOptions, ResidentAdapter, generate_key, read_secret_key, resident_memory, write_public_key,
    write_secret_key,
};

pub(crate) use resident::Detail;
#[cfg(feature = "tuning")]
pub(crate) use transfers::UNLABELLED;

/// The running device.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) config: ArcSwap<Config>,
    pub(crate) engine: Engine,
    pub(crate) store: Store,
    /// The resident adapters and what is known of them.
    pub(crate) serving: Serving<ResidentAdapter, Detail>,
    pub(crate) counters: Counters,
    pub(crate) stop: Stop,
    started: Instant,
    resident_after_start: AtomicU64,
    #[cfg(feature = "tuning")]
    pub(crate) learning: super::learning::Learning,
    #[cfg(feature = "tuning")]
    pub(crate) me: super::learning::Myself,
    /// What a restart goes on with.
    remembered: Mutex<remembered::Remembered>,
    /// Frames kept of each task, as far as it was asked.
    kept_frames: Mutex<HashMap<String, usize>>,
    /// The file that was read last, for hosts that pull it piece by piece.
    reading: Mutex<Option<(Digest, Arc<[u8]>)>>,
}

/// What the inference loop counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) served: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) switches: AtomicU64,
    /// Connections turned away.
    pub(crate) refused_connections: super::connections::Refused,
    /// Sessions that were not opened: unknown hosts, wrong codes, plain ones where none are taken.
    pub(crate) refused_sessions: AtomicU64,
    pub(crate) latencies: Mutex<Latencies>,
    /// Frames answered, by task.
    pub(crate) by_task: Mutex<HashMap<String, u64>>,
    /// When the inference loop last came round.
    pub(crate) alive: Mutex<Option<Instant>>,
}

/// Whatever a panicking thread left behind is still a counter or a cache.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since 1970 UTC; `None` while the clock was never set (a board without a battery starts in 1970).
pub(crate) fn now() -> Option<u64> {
    /// 2025-01-01: before this program was written.
    const SET: u64 = 1_735_689_600;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    (seconds >= SET).then_some(seconds)
}

impl Runtime {
    /// Loads the backbone, opens the store and makes every task in it ready.
    pub(crate) fn start(config: Config, stop: Stop) -> Result<Arc<Self>, DaemonError> {
        let backbone = Backbone::load(&config.backbone).map_err(crate::EngineError::from)?;
        let options = EngineOptions {
            threads: config.threads,
            ..EngineOptions::default()
        };
        let engine = Engine::new(backbone, options)?;
        let folder = config.store();
        std::fs::create_dir_all(&folder)
            .map_err(DaemonError::io(format!("cannot make folder '{}'", folder.display())))?;
        let key = device_key(&config)?;
        let store = Store::open_directory(&config.store(), store_options(&config, &engine, key)?)?;
        let runtime = Self {
            engine,
            store,
            serving: Serving::default(),
            counters: Counters::default(),
            stop,
            started: Instant::now(),
            resident_after_start: AtomicU64::new(resident_memory()),
            remembered: Mutex::default(),
            kept_frames: Mutex::default(),
            reading: Mutex::default(),
            #[cfg(feature = "tuning")]
            learning: super::learning::Learning::default(),
            #[cfg(feature = "tuning")]
            me: super::learning::Myself::new(),
            config: ArcSwap::from_pointee(config),
        };
        let runtime = Arc::new(runtime);
        runtime.load_all();
        runtime.start_task();
        #[cfg(feature = "tuning")]
        {
            super::learning::introduce(&runtime);
            runtime.resume_learning();
        }
        Ok(runtime)
    }

    /// Makes every task of the store ready. One that fails does not keep the others back.
    fn load_all(&self) {
        let changing = self.serving.change();
        for state in self.store.tasks().iter() {
            if let Err(error) = self.load_at_start(&changing, &state.task) {
                tracing::error!(task = state.task, "{}", with_causes(&error));
            }
        }
    }

    /// The task of the configuration, else the one that served last.
    fn start_task(&self) {
        let config = self.config.load();
        let chosen = self.auto_marker().exists().then(|| AUTO.to_owned());
        let wanted = config.task.clone().or(chosen).or_else(|| self.store.active());
        match wanted.as_deref() {
            Some(AUTO) => self.serving.naming().switch_to_auto(),
            Some(task) => {
                if let Err(error) = self.serving.naming().switch(task) {
                    tracing::warn!("{error}");
                }
            }
            None => {}
        }
    }

    /// A file that is there while the task is chosen from the frame, so that a restart goes on with it.
    fn auto_marker(&self) -> std::path::PathBuf {
        self.config.load().state.join("auto")
    }

    /// Reads the configuration again: whose keys are trusted, trial bounds and the number of classes answered change at
    /// once; the rest at the next start.
    pub(crate) fn reload(&self, path: &std::path::Path) -> Result<(), DaemonError> {
        let config = Config::read(path)?;
        let key = device_key(&config)?;
        self.store.set_trust(config.trust(Some(key.public()))?);
        self.config.store(Arc::new(config));
        Ok(())
    }
}

/// The device's own key; made at the first start.
fn device_key(config: &Config) -> Result<SecretKey, DaemonError> {
    let path = config.state.join("device.key");
    if path.exists() {
        return Ok(read_secret_key(&path)?);
    }
    let key = generate_key()?;
    write_secret_key(&path, &key)?;
    let public = config.state.join("device.pub");
    if !public.exists() {
        write_public_key(&public, &key.public())?;
    }
    tracing::info!(key = %key.public(), "made the device's key");
    Ok(key)
}

fn store_options(config: &Config, engine: &Engine, key: SecretKey) -> Result<StoreOptions, DaemonError> {
    let limits = &config.limits;
    let mut options = StoreOptions::new(engine.backbone().digest(), config.trust(Some(key.public()))?);
    options.limits = Limits {
        file_bytes: limits.adapter_bytes,
        ..Limits::DEFAULT
    };
    options.caps = Caps {
        examples_per_task: limits.examples_per_task,
        example_bytes: limits.example_bytes as u64,
        ..Caps::DEFAULT
    };
    options.device_key = Some(key);
    Ok(options)
}

/// An error with its causes.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
