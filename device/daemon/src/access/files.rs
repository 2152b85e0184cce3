//! Files of access control in the state folder: atomic replacement, checksums of lines, random numbers.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use clr_transfer::{Digest, Failure, FailureCode};

/// Replaces a file atomically: temporary file, fsync, rename, fsync of the folder. Only the owner may read the file.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), String> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        if let Some(folder) = path.parent() {
            fs::File::open(folder)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|error| format!("cannot write '{}': {error}", path.display()))
}

/// Returns random bytes of the system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(
            FailureCode::INTERNAL,
            format_args!("cannot read random numbers of the system: {error}"),
        )
    })?;
    Ok(bytes)
}

/// Returns the first eight hexadecimal digits of the SHA-256 of a line.
pub(super) fn checksum(text: &str) -> String {
    let mut digits = Digest::of(text.as_bytes()).to_string();
    digits.truncate(8);
    digits
}
