//! Where frames come from. A source runs on a thread of its own and hands its frames to a [`Mailbox`].

mod directory;
mod pictures;
mod stdin;

#[cfg(feature = "camera")]
mod camera;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{DaemonError, Mailbox, SourceConfig};

/// One picture as it came: encoded, or a camera's.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Which, for people: a file's name or a number.
    pub(crate) name: String,
    /// JPEG, PNG, BMP or WebP.
    pub(crate) bytes: Vec<u8>,
    /// When the last of its bytes were there.
    pub(crate) arrived: Instant,
    /// Its file, if it has one.
    pub(crate) path: Option<PathBuf>,
    /// The file to delete once it was answered.
    pub(crate) delete: Option<PathBuf>,
}

impl Frame {
    /// A frame whose last byte came now.
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

/// How long a source waits for news before it looks whether to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// Tells threads to end.
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

/// Frames that a mailbox takes; false ends the source.
type Send<'a> = dyn FnMut(Frame) -> bool + 'a;

/// A source that runs.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) frames: Arc<Mailbox<Frame>>,
    thread: Option<JoinHandle<()>>,
}

impl Source {
    /// Starts the source's thread; `None` without a source.
    pub(crate) fn start(config: &SourceConfig, stop: &Stop) -> Result<Option<Self>, DaemonError> {
        let stop = stop.clone();
        match config.clone() {
            SourceConfig::None => Ok(None),
            SourceConfig::Directory { path, delete, latest } => {
                let watch = directory::Directory::open(&path, delete)?;
                let name = format!("directory {}", path.display());
                Self::spawn(name, latest, move |send| watch.run(&stop, send)).map(Some)
            }
            SourceConfig::Stdin { latest } => {
                Self::spawn("stdin".to_owned(), latest, move |send| stdin::run(&stop, send)).map(Some)
            }
            #[cfg(feature = "camera")]
            SourceConfig::Camera { path, width, height } => {
                let camera = camera::Camera::open(&path, width, height)?;
                let name = format!("camera {}", path.display());
                Self::spawn(name, true, move |send| camera.run(&stop, send)).map(Some)
            }
        }
    }

    fn spawn(
        name: String,
        latest: bool,
        run: impl FnOnce(&mut Send<'_>) -> Result<(), DaemonError> + std::marker::Send + 'static,
    ) -> Result<Self, DaemonError> {
        let frames = Arc::new(Mailbox::new(latest));
        let (mailbox, label) = (Arc::clone(&frames), name.clone());
        let thread = thread::Builder::new()
            .name("clr-source".to_owned())
            .spawn(move || {
                if let Err(error) = run(&mut |frame| mailbox.send(frame)) {
                    let cause = std::error::Error::source(&error).map_or(String::new(), |cause| format!(": {cause}"));
                    tracing::error!(source = label, "{error}{cause}");
                }
                mailbox.close();
            })
            .map_err(DaemonError::io("cannot start the source's thread"))?;
        Ok(Self {
            name,
            frames,
            thread: Some(thread),
        })
    }

    /// Ends the source. A thread that still waits for standard input is left to the process's end.
    pub(crate) fn stop(mut self) {
        self.frames.close();
        if let Some(thread) = self.thread.take()
            && self.name != "stdin"
        {
            let _ = thread.join();
        }
    }
}
