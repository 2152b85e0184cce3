//! Output files: writability is tested before the work, files are replaced atomically, and stale temporary files are
//! removed.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, anyhow, bail};

use clr_fetch::is_alive;

use crate::system_error;

/// Prefix of temporary files, `.clr-<pid>-…`.
const PREFIX: &str = ".clr-";
/// Minimum age of a temporary file for its removal if its process does not run, because the process may run on another
/// machine.
const STALE: Duration = Duration::from_mins(2);

/// Tests whether `bytes` can be written to `path`, before the work starts. Changes nothing.
///
/// # Errors
/// If `path` is a folder, a device or read-only, or if its folder is not writable or has no space.
pub(crate) fn try_output(path: &Path, bytes: u64) -> anyhow::Result<()> {
    let target = resolve(path)?;
    probe(folder_of(&target), path, bytes)
}

/// Does the same as [`try_output`], for a folder of files.
pub(crate) fn try_folder(path: &Path, bytes: u64) -> anyhow::Result<()> {
    if path.exists() && !path.is_dir() {
        bail!(
            "cannot write into '{}': it is a file, expected a folder\nhint: name another folder",
            path.display()
        );
    }
    probe(path, path, bytes)
}

/// Writes a file atomically: a temporary file in the same folder, then a rename.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    publish(path, bytes, |_| Ok(()))
}

/// Writes like [`write_atomically`], but renames the file only if `check` accepts the written file.
pub(crate) fn publish(
    path: &Path,
    bytes: &[u8],
    check: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let staged = Staged::new(path, bytes)?;
    check(staged.file.path())?;
    staged.commit()
}

/// Writes several files. All of them are complete on disk before the first one is renamed.
pub(crate) fn write_together(files: &[(&Path, &[u8])]) -> anyhow::Result<()> {
    let staged = files.iter().map(|(path, bytes)| Staged::new(path, bytes));
    let staged = staged.collect::<anyhow::Result<Vec<_>>>()?;
    staged.into_iter().try_for_each(Staged::commit)
}

/// A complete temporary file and its destination.
struct Staged {
    file: tempfile::NamedTempFile,
    target: PathBuf,
    path: PathBuf,
}

impl Staged {
    fn new(path: &Path, bytes: &[u8]) -> anyhow::Result<Self> {
        let target = resolve(path)?;
        let folder = folder_of(&target);
        fs::create_dir_all(folder).map_err(|error| cannot_write(path, folder, error))?;
        let mut file = temporary(folder).map_err(|error| cannot_write(path, folder, error))?;
        file.write_all(bytes)
            .and_then(|()| file.as_file().sync_all())
            .map_err(|error| cannot_write(path, folder, error))?;
        Ok(Self {
            file,
            target,
            path: path.to_owned(),
        })
    }

    fn commit(self) -> anyhow::Result<()> {
        let context = || format!("cannot write '{}'", self.path.display());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // A temporary file is private by default.
            fs::set_permissions(self.file.path(), fs::Permissions::from_mode(0o644)).with_context(context)?;
        }
        self.file
            .persist(&self.target)
            .map_err(|error| error.error)
            .with_context(context)?;
        Ok(())
    }
}

fn temporary(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}-", std::process::id()))
        .suffix(".tmp")
        .tempfile_in(folder)
}

/// Returns the file to write. For a link, this is its target, so that the link is kept.
fn resolve(path: &Path) -> anyhow::Result<PathBuf> {
    let fail = |reason: &str, hint: &str| anyhow!("cannot write '{}': {reason}\nhint: {hint}", path.display());
    let text = path.as_os_str().to_string_lossy();
    if path.is_dir() || text.ends_with(['/', '\\']) && !text.is_empty() {
        let file = path.join("NAME");
        return Err(fail(
            "it is a folder, expected a file",
            &format!("name a file in it, such as {}", file.display()),
        ));
    }
    if path.file_name().is_none() {
        return Err(fail("it is not a file name", "name a file"));
    }
    let mut target = path.to_owned();
    for _ in 0..32 {
        match fs::read_link(&target) {
            Ok(link) => target = folder_of(&target).join(link),
            Err(_) => break,
        }
    }
    match fs::metadata(&target) {
        Ok(metadata) if !metadata.is_file() => Err(fail(
            "it is a device or a pipe, expected a file",
            "name a file; --json prints the result",
        )),
        Ok(metadata) if metadata.permissions().readonly() => Err(fail(
            "the file is read-only",
            &format!(
                "make it writable (chmod u+w '{}'), or name another file",
                path.display()
            ),
        )),
        _ => Ok(target),
    }
}

/// Writes a file of `bytes` in `folder` and removes it. Errors name `path`.
fn probe(folder: &Path, path: &Path, bytes: u64) -> anyhow::Result<()> {
    let fail = |error| cannot_write(path, folder, error);
    // A missing folder is created together with the first file.
    let existing = folder.ancestors().map(in_place).find(|ancestor| ancestor.exists());
    let existing = existing.unwrap_or(Path::new("."));
    if existing != in_place(folder) {
        tracing::info!("the folder '{}' does not exist and will be created", folder.display());
    }
    sweep(existing);
    let mut file = temporary(existing).map_err(fail)?;
    let block = [0; 1 << 13];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(block.len() as u64);
        file.write_all(&block[..now as usize]).map_err(fail)?;
        left -= now;
    }
    if bytes > 0 {
        file.as_file().sync_all().map_err(fail)?;
    }
    file.close().map_err(fail)
}

/// Removes temporary files of interrupted runs from a folder.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(".tmp")?.split_once('-'))
            .and_then(|(pid, _)| pid.parse::<u32>().ok());
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let old = age.is_some_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age > STALE));
        if owner.is_some_and(|pid| !is_alive(pid)) && old {
            tracing::debug!("removing '{}' of an interrupted run", entry.path().display());
            // Another process may be sweeping too.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    in_place(path.parent().unwrap_or(Path::new("")))
}

/// Returns the path, or the current folder for an empty path.
fn in_place(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

/// Returns an error of the file system, with a hint.
fn cannot_write(path: &Path, folder: &Path, error: io::Error) -> anyhow::Error {
    let hint = system_error::hint(&error, Some(folder)).unwrap_or_else(|| "name a writable path".to_owned());
    // `tempfile` adds the name of the temporary file, which is removed here.
    let text = error.to_string();
    let reason = text.split(" at path ").next().unwrap_or(&text);
    anyhow!("cannot write '{}': {reason}\nhint: {hint}", path.display())
}

/// Returns whether both paths are the same existing file.
pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_fails_its_check_leaves_nothing_and_keeps_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.clr");
        write_atomically(&path, b"old").unwrap();
        let error = publish(&path, b"new", |written| {
            assert_eq!(fs::read(written).unwrap(), b"new");
            anyhow::bail!("no")
        });
        assert!(error.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.clr"]);
    }

    #[test]
    fn trying_a_destination_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.clr");
        fs::write(&path, "old").unwrap();
        try_output(&path, 100_000).unwrap();
        try_folder(folder.path(), 1).unwrap();
        try_output(&folder.path().join("missing/deep/a.clr"), 1).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.clr"]);
    }

    #[test]
    fn unusable_destinations_are_refused_with_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "old").unwrap();
        for path in [
            folder.path().to_owned(),
            folder.path().join("new/"),
            file.join("a.clr"),
            PathBuf::from(".."),
        ] {
            let error = format!("{:#}", try_output(&path, 0).unwrap_err());
            assert!(error.contains("cannot write") && error.contains("hint: "), "{error}");
        }
        assert!(try_folder(&file, 0).is_err());
        assert_eq!(names(folder.path()), ["file"]);
        #[cfg(target_os = "linux")]
        for path in ["/dev/null", "/proc/x.clr"] {
            assert!(try_output(Path::new(path), 0).is_err(), "{path}");
            assert!(write_atomically(Path::new(path), b"x").is_err(), "{path}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_a_read_only_file_too() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        symlink("file", &link).unwrap();
        write_atomically(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
        assert!(format!("{:#}", try_output(&link, 0).unwrap_err()).contains("read-only"));
    }

    #[test]
    fn several_files_are_written_all_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let first = folder.path().join("a");
        fs::write(&first, "old").unwrap();
        let second = folder.path().join("b");
        fs::create_dir(&second).unwrap();
        assert!(write_together(&[(&first, b"new"), (&second, b"new")]).is_err());
        assert_eq!(fs::read(&first).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a", "b"]);
    }

    #[test]
    fn leftovers_of_an_interrupted_run_are_removed_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - Duration::from_hours(1);
        for (name, time) in [
            (".clr-4294967294-a.tmp", old),
            (".clr-4294967294-b.tmp", SystemTime::now()),
            (&format!(".clr-{}-c.tmp", std::process::id())[..], old),
            ("own.tmp", old),
        ] {
            let file = fs::File::create(folder.path().join(name)).unwrap();
            file.set_modified(time).unwrap();
        }
        try_output(&folder.path().join("a"), 0).unwrap();
        let left = names(folder.path());
        assert!(left.len() == 3 || !Path::new("/proc/self").exists(), "{left:?}");
        assert!(!left.contains(&".clr-4294967294-a.tmp".to_owned()) || !Path::new("/proc/self").exists());
    }
}
