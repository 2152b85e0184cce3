//! Sources of frames. Each source runs on a dedicated thread and passes its frames to a [`Mailbox`].

mod directory;
mod reopen;
mod splitter;
mod state;
mod stdin;

#[cfg(feature = "camera")]
mod camera;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{DaemonError, Mailbox, SourceConfig};
use reopen::{Session, keep_open};
pub(crate) use splitter::split;
pub(crate) use state::SourceState;

/// An encoded image from a source.
#[derive(Debug)]
pub(crate) struct Frame {
    /// File name or number, for display.
    pub(crate) name: String,
    /// JPEG, PNG, BMP or WebP.
    pub(crate) bytes: Vec<u8>,
    /// Arrival of the last byte.
    pub(crate) arrived: Instant,
    /// The image's file, if it has one.
    pub(crate) path: Option<PathBuf>,
    /// The file to delete after classification.
    pub(crate) delete: Option<PathBuf>,
}

impl Frame {
    /// Creates a frame whose last byte has just arrived.
    fn new(name: String, bytes: Vec<u8>) -> Self {
        Self {
            name,
            bytes,
            arrived: Instant::now(),
            path: None,
            delete: None,
        }
    }
}

/// Interval at which a waiting source checks whether it has to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Shared flag that asks threads to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Sends a frame to the mailbox. If it returns false, the source ends.
type Send<'a> = dyn FnMut(Frame) -> bool + 'a;

/// A running source.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) frames: Arc<Mailbox<Frame>>,
    thread: JoinHandle<Result<(), DaemonError>>,
}

impl Source {
    /// Starts the source's thread; `None` if no source is configured. Images of more than `largest` bytes are skipped.
    /// A missing folder or camera is opened as soon as it appears.
    pub(crate) fn start(
        config: &SourceConfig,
        largest: u64,
        stop: &Stop,
        state: &Arc<SourceState>,
    ) -> Result<Option<Self>, DaemonError> {
        let (stop, shared) = (stop.clone(), Arc::clone(state));
        match config.clone() {
            SourceConfig::None => Ok(None),
            SourceConfig::Directory { path, delete, latest } => {
                let name = format!("directory {}", path.display());
                let directory = directory::Directory::new(path, delete, largest);
                Self::spawn(name, latest, state, move |send| {
                    directory.run(&stop, &shared, send);
                    Ok(())
                })
                .map(Some)
            }
            SourceConfig::Stdin { latest } => Self::spawn("stdin".to_owned(), latest, state, move |send| {
                stdin::run(largest, &stop, &shared, send)
            })
            .map(Some),
            #[cfg(feature = "camera")]
            SourceConfig::Camera { path, width, height } => {
                let name = format!("camera {}", path.display());
                let camera = camera::Camera { path, width, height };
                Self::spawn(name, true, state, move |send| {
                    camera.run(&stop, &shared, send);
                    Ok(())
                })
                .map(Some)
            }
        }
    }

    fn spawn(
        name: String,
        latest: bool,
        state: &Arc<SourceState>,
        run: impl FnOnce(&mut Send<'_>) -> Result<(), DaemonError> + std::marker::Send + 'static,
    ) -> Result<Self, DaemonError> {
        let frames = Arc::new(Mailbox::new(latest));
        let (mailbox, state) = (Arc::clone(&frames), Arc::clone(state));
        state.start(&name);
        let thread = thread::Builder::new()
            .name("clr-source".to_owned())
            .spawn(move || {
                let mut send = |frame| {
                    state.frame();
                    let taken = mailbox.send(frame);
                    state.alive();
                    taken
                };
                let ended = catch_unwind(AssertUnwindSafe(|| run(&mut send)));
                mailbox.close();
                ended.unwrap_or_else(|_| {
                    let panicked = std::io::Error::other("it panicked");
                    Err(DaemonError::io("cannot read the source")(panicked))
                })
            })
            .map_err(DaemonError::io("cannot start the source's thread"))?;
        Ok(Self { name, frames, thread })
    }

    /// Stops the source, and returns the error that ended it earlier. If the thread is blocked in a system call, for
    /// example on an unreachable network disk, it is left running until the process ends.
    pub(crate) fn stop(self) -> Result<(), DaemonError> {
        const STOP_POLL_INTERVAL: Duration = Duration::from_millis(5);
        self.frames.close();
        let asked = Instant::now();
        while !self.thread.is_finished() && asked.elapsed() < 5 * POLL_INTERVAL {
            thread::sleep(STOP_POLL_INTERVAL);
        }
        if !self.thread.is_finished() {
            tracing::warn!(
                source = self.name,
                "the source's thread is blocked and was left running"
            );
            return Ok(());
        }
        self.thread.join().unwrap_or(Ok(()))
    }
}
