//! Key files with one line each. Only the owner can read a secret key's file.

use alloc::{borrow::ToOwned as _, string::ToString as _};
use core::str::FromStr;
use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::{KeyError, PublicKey, SecretKey, text_from_bytes};

/// Error of a key file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("cannot read key '{}'", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write key '{}'", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file exists already.
    #[error("key '{}' exists already\nhint: keys are never overwritten; choose another name", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file's text is not a key of this kind.
    #[error("'{}' is not such a key", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: KeyError,
    },
    /// Other users than the owner can read a secret key's file.
    #[error("secret key '{0}' can be read by others (mode {mode:03o})\nhint: chmod 600 '{0}', and make a new pair if it was shared", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The permission bits of the file.
        mode: u32,
    },
    /// The system's random number generator failed.
    #[error("the system has no random numbers: {0}")]
    Random(getrandom::Error),
}

fn read<K: FromStr<Err = KeyError>>(path: &Path) -> Result<K, KeyFileError> {
    let failed = |source| KeyFileError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = std::fs::read(path).map_err(failed)?;
    let text = text_from_bytes(bytes).map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    text.parse().map_err(|source| KeyFileError::Text {
        path: path.to_owned(),
        source,
    })
}

/// Generates a key from the system's random numbers.
pub fn generate_key() -> Result<SecretKey, KeyFileError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(KeyFileError::Random)?;
    Ok(SecretKey::from_bytes(&seed))
}

/// Reads a public key.
pub fn read_public_key(path: &Path) -> Result<PublicKey, KeyFileError> {
    read(path)
}

/// Reads a secret key. On Unix, refuses a file that others may read.
pub fn read_secret_key(path: &Path) -> Result<SecretKey, KeyFileError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = std::fs::metadata(path).map_err(|source| KeyFileError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Open {
                path: path.to_owned(),
                mode,
            });
        }
    }
    read(path)
}

/// Writes a secret key that only the owner can read. Never overwrites a file.
pub fn write_secret_key(path: &Path, key: &SecretKey) -> Result<(), KeyFileError> {
    write(path, &key.reveal(), 0o600)
}

/// Writes a public key. Never overwrites a file.
pub fn write_public_key(path: &Path, key: &PublicKey) -> Result<(), KeyFileError> {
    write(path, &key.to_string(), 0o644)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), KeyFileError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let failed = |source| KeyFileError::Write {
        path: path.to_owned(),
        source,
    };
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = builder.tempfile_in(folder).map_err(failed)?;
    writeln!(file, "{text}").map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(KeyFileError::Exists { path: path.to_owned() })
        }
        Err(error) => Err(failed(error.error)),
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec::Vec};

    use super::*;

    #[test]
    fn a_key_pair_is_read_back_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, public) = (folder.path().join("a.key"), folder.path().join("a.pub"));
        let key = generate_key().unwrap();
        write_secret_key(&secret, &key).unwrap();
        write_public_key(&public, &key.public()).unwrap();
        assert_eq!(read_secret_key(&secret).unwrap().public(), key.public());
        assert_eq!(read_public_key(&public).unwrap(), key.public());
        let again = write_secret_key(&secret, &generate_key().unwrap());
        assert!(matches!(again, Err(KeyFileError::Exists { .. })));
        assert_eq!(read_secret_key(&secret).unwrap().public(), key.public());
        assert!(matches!(read_public_key(&secret), Err(KeyFileError::Text { .. })));
    }

    #[test]
    fn keys_saved_by_windows_editors_are_read_and_utf_16_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pub");
        let key = generate_key().unwrap().public();
        std::fs::write(&path, format!("\u{feff}{key}\r\n")).unwrap();
        assert_eq!(read_public_key(&path).unwrap(), key);
        let utf16: Vec<u8> = format!("\u{feff}{key}\r\n")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        std::fs::write(&path, utf16).unwrap();
        let Err(KeyFileError::Read { source, .. }) = read_public_key(&path) else {
            panic!("expected an unreadable key");
        };
        assert!(source.to_string().contains("UTF-16"), "{source}");
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_key_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        write_secret_key(&path, &generate_key().unwrap()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            read_secret_key(&path),
            Err(KeyFileError::Open { mode: 0o640, .. })
        ));
    }
}
