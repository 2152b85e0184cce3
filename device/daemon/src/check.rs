//! `run --check-config`: opens everything that `run` opens, through the same functions, and closes it again.
//!
//! The check does not open the store, socket, serial line and camera of a running device. It creates no folder: if the
//! state folder is missing, its nearest existing parent must be writable.

use std::{collections::BTreeSet, fmt, io, path::Path, process::ExitCode, sync::Arc};

use clr_onnx::RgbImage;
use clr_store::{Store, StoreError};
use rustix::{
    fs::{Access, access},
    io::Errno,
};

use super::{
    Config, DaemonError, SourceConfig, connections, descriptors,
    error::with_causes,
    http, print_line,
    runtime::{open_engine, open_store},
    source::{Source, Stop},
    warnings::{Warning, warnings},
};
use clr_engine::Engine;

/// Findings of the check.
#[derive(Default)]
struct Report {
    /// Faults that were already reported, because several checks may find the same one.
    faults: BTreeSet<String>,
    /// Process id of the device that holds the store.
    running: Option<u32>,
}

/// Checks a configuration. The exit code is success if `run` would start and the background can be used.
pub(crate) fn run(config: &Config, file: &Path) -> Result<ExitCode, DaemonError> {
    let mut report = Report::default();
    line("configuration", format_args!("{}", file.display()))?;
    match config.trust(None) {
        Ok(trust) => line("keys trusted", format_args!("{}", trust.publishers.len()))?,
        Err(error) => report.fault(&error),
    }
    let engine = report.take(backbone(config))?.map(|(engine, fault)| {
        if let Some(fault) = fault {
            report.fault(&fault);
        }
        engine
    });
    // Held to the end, because the checks below rely on the store's lock.
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
    line("result", format_args!("no faults"))?;
    Ok(ExitCode::SUCCESS)
}

impl Report {
    /// Reports a fault that would prevent the device from starting, with the message of `run`.
    fn fault(&mut self, error: &DaemonError) {
        let text = with_causes(error);
        if self.faults.insert(text.clone()) {
            eprintln!("error: {text}");
        }
    }

    /// Returns the opened value, or reports the fault and returns `None`.
    #[expect(clippy::unnecessary_wraps, reason = "used with `?` like the functions that print")]
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

/// Loads the backbone and runs it on a blank image, because some faults only occur when it is lowered.
fn backbone(config: &Config) -> Result<(Engine, Option<DaemonError>), DaemonError> {
    let (engine, fault) = open_engine(config)?;
    let backbone = engine.backbone();
    let preprocessing = backbone.preprocessing();
    let blank = RgbImage::new(preprocessing.width, preprocessing.height);
    engine.backbone_features(preprocessing, &blank)?;
    line("backbone", format_args!("{} ({})", backbone.name(), backbone.digest()))?;
    match (backbone.background(), &fault) {
        (Some(background), _) => line("background", format_args!("{}", background.id()))?,
        (None, Some(_)) => line("background", format_args!("cannot be used: no task can be chosen"))?,
        (None, None) => line(
            "background",
            format_args!("none: tasks are chosen by sketches of features"),
        )?,
    }
    Ok((engine, fault))
}

fn state(config: &Config, engine: &Engine, report: &mut Report) -> Result<Option<Store>, DaemonError> {
    let folder = config.state.display();
    if !config.store().is_dir() {
        let store = config.store();
        match check_creatable(&store) {
            Ok(()) => line("state", format_args!("{folder} (created at the first start)"))?,
            Err(error) => report.fault(&DaemonError::io(format!("cannot create folder '{}'", store.display()))(
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
                    format_args!("'{folder}' cannot be written, so nothing can be stored: {error}"),
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
        // Without the lock, an existing socket may belong to a running device, so it is not touched.
        if !folder.is_dir() || !locked && socket.exists() {
            let failed = DaemonError::io(format!("cannot listen on socket '{}'", socket.display()));
            return check_creatable(folder).map_err(failed);
        }
        connections::bind_control(&socket, config.control.group.as_deref(), true).map(|_| {
            // Removed, because nothing listens on it.
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
                line(name, format_args!("{address} (in use, probably by the running device)"))?;
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
        // Reading from standard input would consume frames.
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
            // The source was told to stop before its start, so its result is irrelevant.
            let _ = source.stop();
        }
        line("source", format_args!("{name}"))?;
        if let SourceConfig::Directory { path, .. } = &config.source
            && !path.is_dir()
        {
            let path = path.display();
            line(
                "warning",
                format_args!("the watched folder '{path}' is missing: there are no frames until it exists"),
            )?;
        }
    }
    Ok(())
}

/// Checks that a folder exists or can be created, and is writable. The error is that of creating it.
fn check_creatable(folder: &Path) -> io::Result<()> {
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

/// Prints a line of the report.
fn line(what: &str, text: fmt::Arguments<'_>) -> Result<(), DaemonError> {
    print_line(format_args!("{what:<14} {text}")).map_err(DaemonError::io("cannot write to stdout"))
}
