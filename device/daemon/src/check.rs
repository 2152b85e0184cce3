//! `run --check-config`: opens what `run` would open, by the same functions, and closes it again.
//!
//! A store that a running device holds is not opened, nor is what that device has open itself: its socket, serial line and camera. No
//! folder is made: where the state folder is missing, its nearest parent must be writable.

use std::{collections::BTreeSet, fmt, io, path::Path, process::ExitCode, sync::Arc};

use clr_onnx::RgbImage;
use clr_store::{Store, StoreError};
use rustix::{
    fs::{Access, access},
    io::Errno,
};

use super::{
    Config, DaemonError, SourceConfig, connections, descriptors, http, print_line,
    runtime::{open_engine, open_store, with_causes},
    source::{Source, Stop},
    warnings::{Warning, warnings},
};
use clr_engine::Engine;

/// What the check found so far.
#[derive(Default)]
struct Report {
    /// What was said already: one fault may be met twice.
    faults: BTreeSet<String>,
    /// The process that holds the store.
    running: Option<u32>,
}

/// Checks a configuration that was read; the exit code says whether `run` would start.
pub(crate) fn run(config: &Config, file: &Path) -> Result<ExitCode, DaemonError> {
    let mut report = Report::default();
    line("configuration", format_args!("{}", file.display()))?;
    match config.trust(None) {
        Ok(trust) => line("keys trusted", format_args!("{}", trust.publishers.len()))?,
        Err(error) => report.fault(&error),
    }
    let engine = report.take(backbone(config))?;
    // Held to the end: what is opened below relies on the lock.
    let store = match &engine {
        Some(engine) => state(config, engine, &mut report)?,
        None => None,
    };
    control(config, store.is_some(), &mut report)?;
    ports(config, &mut report)?;
    source(config, &mut report)?;
    let limits = descriptors::prepare(config);
    let limit = limits
        .limit
        .map_or_else(|| "none".to_owned(), |limit| limit.to_string());
    line("open files", format_args!("at most {limit}"))?;
    for Warning { text, hint } in warnings(config, file) {
        line("warning", format_args!("{text}\n               hint: {hint}"))?;
    }
    if !report.faults.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    line("result", format_args!("sound"))?;
    Ok(ExitCode::SUCCESS)
}

impl Report {
    /// Says what stops the device, in the words of `run`.
    fn fault(&mut self, error: &DaemonError) {
        let text = with_causes(error);
        if self.faults.insert(text.clone()) {
            eprintln!("error: {text}");
        }
    }

    /// What was opened, or nothing and a fault.
    #[expect(clippy::unnecessary_wraps, reason = "used with `?` next to lines that are written")]
    fn take<T>(&mut self, opened: Result<T, DaemonError>) -> Result<Option<T>, DaemonError> {
        match opened {
            Ok(opened) => Ok(Some(opened)),
            Err(error) => {
                self.fault(&error);
                Ok(None)
            }
        }
    }
}

/// Loads the backbone and answers a blank image with it: what cannot be lowered shows only then.
fn backbone(config: &Config) -> Result<Engine, DaemonError> {
    let engine = open_engine(config)?;
    let backbone = engine.backbone();
    let preprocessing = backbone.preprocessing();
    let blank = RgbImage::new(preprocessing.width, preprocessing.height);
    engine.backbone_features(preprocessing, &blank)?;
    line("backbone", format_args!("{} ({})", backbone.name(), backbone.digest()))?;
    Ok(engine)
}

fn state(config: &Config, engine: &Engine, report: &mut Report) -> Result<Option<Store>, DaemonError> {
    let folder = config.state.display();
    if !config.store().is_dir() {
        let store = config.store();
        match can_be_made(&store) {
            Ok(()) => line("state", format_args!("{folder} (made at the first start)"))?,
            Err(error) => report.fault(&DaemonError::io(format!("cannot make folder '{}'", store.display()))(
                error,
            )),
        }
        return Ok(None);
    }
    match open_store(config, engine) {
        Ok((store, key)) => {
            let tasks = store.tasks().len();
            line("state", format_args!("{folder} ({tasks} tasks)"))?;
            for problem in store.problems() {
                line("warning", format_args!("{problem}"))?;
            }
            if let Some(fault) = key.fault() {
                line("warning", format_args!("learning is off: {fault}"))?;
            }
            if let Err(error) = access(&config.state, Access::WRITE_OK | Access::EXEC_OK) {
                line(
                    "warning",
                    format_args!("'{folder}' cannot be written, so nothing new is kept: {error}"),
                )?;
            }
            Ok(Some(store))
        }
        Err(DaemonError::Store(StoreError::Locked { pid })) => {
            report.running = Some(pid.unwrap_or(0));
            let by = pid.map_or_else(String::new, |pid| format!(", process {pid}"));
            line(
                "state",
                format_args!("{folder} (in use by the running device{by}: not opened)"),
            )?;
            Ok(None)
        }
        Err(error) => {
            report.fault(&error);
            Ok(None)
        }
    }
}

fn control(config: &Config, locked: bool, report: &mut Report) -> Result<(), DaemonError> {
    let socket = config.socket();
    let folder = socket.parent().unwrap_or(Path::new("/"));
    let opened = connections::check_socket_path(&socket).and_then(|()| {
        if report.running.is_some() {
            return Ok(());
        }
        // Without the lock a socket that is there may be a living device's.
        if !folder.is_dir() || !locked && socket.exists() {
            let failed = DaemonError::io(format!("cannot listen on socket '{}'", socket.display()));
            return can_be_made(folder).map_err(failed);
        }
        connections::bind_control(&socket, config.control.group.as_deref(), true).map(|_| {
            // It must not outlive the check: no thread listens on it.
            let _ = std::fs::remove_file(&socket);
        })
    });
    match opened {
        Ok(()) => line("control", format_args!("{}", socket.display())),
        Err(error) => {
            report.fault(&error);
            Ok(())
        }
    }
}

fn ports(config: &Config, report: &mut Report) -> Result<(), DaemonError> {
    let tcp = config
        .tcp
        .as_ref()
        .map(|tcp| (tcp.listen, connections::bind_tcp(tcp.listen)));
    let http = config.http.as_ref().map(|http| (http.listen, http::bind(http.listen)));
    for (name, opened) in [("tcp", tcp), ("http", http)] {
        let Some((address, opened)) = opened else { continue };
        match opened {
            Ok(_) => line(name, format_args!("{address}"))?,
            Err(DaemonError::Listen { source, .. })
                if report.running.is_some() && source.kind() == io::ErrorKind::AddrInUse =>
            {
                line(
                    name,
                    format_args!("{address} (in use, as it seems by the running device)"),
                )?;
            }
            Err(error) => report.fault(&error),
        }
    }
    if let Some(serial) = &config.serial {
        let port = serial.port.display();
        if report.running.is_some() {
            line("serial", format_args!("{port} (not opened: a device is running)"))?;
        } else if report.take(connections::open_serial(serial))?.is_some() {
            line("serial", format_args!("{port}"))?;
        }
    }
    Ok(())
}

fn source(config: &Config, report: &mut Report) -> Result<(), DaemonError> {
    let name = match &config.source {
        SourceConfig::None => return line("source", format_args!("none")),
        // Reading it would take frames away.
        SourceConfig::Stdin { .. } => return line("source", format_args!("stdin")),
        SourceConfig::Directory { path, .. } => format!("directory {}", path.display()),
        #[cfg(feature = "camera")]
        SourceConfig::Camera { path, .. } if report.running.is_some() => {
            return line(
                "source",
                format_args!("camera {} (not opened: a device is running)", path.display()),
            );
        }
        #[cfg(feature = "camera")]
        SourceConfig::Camera { path, .. } => format!("camera {}", path.display()),
    };
    let stop = Stop::default();
    stop.set();
    if let Some(source) = report.take(Source::start(
        &config.source,
        config.limits.image_bytes(),
        &stop,
        &Arc::default(),
    ))? {
        if let Some(source) = source {
            // It was told to stop before it began; what ends it is no fault.
            let _ = source.stop();
        }
        line("source", format_args!("{name}"))?;
        if let SourceConfig::Directory { path, .. } = &config.source
            && !path.is_dir()
        {
            let path = path.display();
            line(
                "warning",
                format_args!("the watched folder '{path}' is missing: no frame comes until it is there"),
            )?;
        }
    }
    Ok(())
}

/// Whether a folder is there or can be made, and can be written; the error is the one that making it would give.
fn can_be_made(folder: &Path) -> io::Result<()> {
    let existing = folder.ancestors().find(|path| path.exists());
    let existing = existing
        .filter(|path| !path.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    if !existing.is_dir() {
        let is_it = existing == folder;
        return Err(if is_it { Errno::EXIST } else { Errno::NOTDIR }.into());
    }
    Ok(access(existing, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// A line of the report.
fn line(what: &str, text: fmt::Arguments<'_>) -> Result<(), DaemonError> {
    print_line(format_args!("{what:<14} {text}")).map_err(DaemonError::io("cannot write to stdout"))
}
