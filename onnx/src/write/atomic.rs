//! Atomic writing of files.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use crate::OnnxError;

/// Writes `bytes` to a temporary file next to `path`, makes them durable, and renames the file to `path`. On failure
/// the temporary file is removed, and an existing file at `path` stays unchanged.
pub(crate) fn atomically(path: &Path, bytes: &[u8]) -> Result<(), OnnxError> {
    let fail = |source| OnnxError::Io {
        path: path.to_owned(),
        source,
    };
    let (mut file, temporary) = create(path).map_err(fail)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    written.and_then(|()| fs::rename(&temporary, path)).map_err(|source| {
        // The original error is reported, not one of the clean-up.
        let _ = fs::remove_file(&temporary);
        fail(source)
    })
}

fn create(path: &Path) -> std::io::Result<(fs::File, PathBuf)> {
    let name = path
        .file_name()
        .ok_or_else(|| std::io::Error::new(ErrorKind::InvalidInput, "not a file name"))?;
    let mut attempt = 0_u32;
    loop {
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}-{attempt}.tmp", std::process::id()));
        let temporary = path.with_file_name(temporary);
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < 1000 => attempt += 1,
            result => return Ok((result?, temporary)),
        }
    }
}
