//! Signing key of the device, in `device.key`, with a copy in `device.key.copy` and its public key in `device.pub`.
//!
//! Any two of the three files suffice to detect damage to the third and to repair it. A damaged file is kept as
//! `device.key.damaged`. If the key is lost, only learning is disabled: adapters that it signed are verified with
//! `device.pub` and continue to serve. A new key is created only if the store has no adapter signed by the old one,
//! because such an adapter could not be verified any more.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clr_adapters::{Digest, PublicKey, SecretKey};

use super::error::with_causes;
use clr_adapters::{KeyFileError, generate_key, read_public_key, read_secret_key, write_public_key, write_secret_key};

/// State of the key according to the three files, determined before the store is opened.
#[derive(Debug)]
pub(crate) enum Found {
    /// The key.
    Key(SecretKey),
    /// There is no key. A new one may be created if nothing depends on the old one.
    Lost {
        /// Its public key, if known.
        public: Option<PublicKey>,
        /// The fault; `None` at the first start.
        fault: Option<String>,
    },
    /// A key exists, but must not be used.
    Unusable {
        /// Its public key, if known.
        public: Option<PublicKey>,
        /// The reason.
        fault: String,
    },
}

impl Found {
    /// Returns the public key, if known.
    pub(crate) fn public(&self) -> Option<PublicKey> {
        match self {
            Self::Key(key) => Some(key.public()),
            Self::Lost { public, .. } | Self::Unusable { public, .. } => *public,
        }
    }

    /// Returns why the key cannot be used; `None` at the first start.
    pub(crate) fn fault(&self) -> Option<&str> {
        match self {
            Self::Key(_) => None,
            Self::Lost { fault, .. } => fault.as_deref(),
            Self::Unusable { fault, .. } => Some(fault),
        }
    }
}

/// Content of a secret key's file.
enum KeyFile {
    Good(SecretKey),
    Missing,
    Bad(String),
    /// Other users can read the key.
    Open(String),
    /// The file cannot be read at the moment; the key itself may be intact.
    Unreadable(String),
}

struct Files {
    key: PathBuf,
    copy: PathBuf,
    public: PathBuf,
}

impl Files {
    fn of(state: &Path) -> Self {
        Self {
            key: state.join("device.key"),
            copy: state.join("device.key.copy"),
            public: state.join("device.pub"),
        }
    }

    /// Writes those of the files that are missing or different.
    fn write(
        &self,
        key: &SecretKey,
        files_found: [&KeyFile; 2],
        public: Option<PublicKey>,
    ) -> Result<(), KeyFileError> {
        let same = |half: &KeyFile| matches!(half, KeyFile::Good(known) if known.public() == key.public());
        let [main, copy] = files_found;
        if !same(main) {
            set_aside(&self.key, "damaged");
            write_secret_key(&self.key, key)?;
        }
        if !same(copy) {
            write_copy(&self.copy, key)?;
        }
        if public != Some(key.public()) {
            set_aside(&self.public, "damaged");
            write_public_key(&self.public, &key.public())?;
        }
        Ok(())
    }
}

/// Reads the key, and repairs a damaged file from the other two.
pub(crate) fn find(state: &Path) -> Found {
    let files = Files::of(state);
    let main = read_key_file(&files.key, read_secret_key);
    let copy = read_key_file(&files.copy, read_copy);
    let public = read_public_key(&files.public).ok();
    let belongs = |key: &SecretKey| public == Some(key.public());
    let key = match (&main, &copy) {
        (KeyFile::Open(fault), _) => {
            let fault = fault.clone();
            return Found::Unusable { public, fault };
        }
        (KeyFile::Good(key), KeyFile::Good(copied)) if key.public() == copied.public() || belongs(key) => key,
        // The copy has a checksum.
        (_, KeyFile::Good(copied)) => copied,
        (KeyFile::Good(key), _) if public.is_none() || belongs(key) => key,
        (KeyFile::Good(_), _) => {
            let fault = format!(
                "'{}' and '{}' do not match: one of them is damaged\nhint: restore the right one from a backup, or remove the wrong one, then \
                 start again",
                files.key.display(),
                files.public.display()
            );
            return Found::Unusable { public, fault };
        }
        (KeyFile::Missing, _) => {
            let fault = public.map(|_| format!("'{}' is missing", files.key.display()));
            return Found::Lost { public, fault };
        }
        (KeyFile::Unreadable(fault), _) => {
            let fault = fault.clone();
            return Found::Unusable { public, fault };
        }
        (KeyFile::Bad(fault), _) => {
            let fault = Some(fault.clone());
            return Found::Lost { public, fault };
        }
    };
    if !matches!(&main, KeyFile::Good(known) if known.public() == key.public()) {
        let why = match &main {
            KeyFile::Bad(fault) => fault.as_str(),
            KeyFile::Good(_) => "it does not match device.pub",
            _ => "it is missing",
        };
        tracing::error!(
            "'{}' is damaged or missing, its copy is used: {why}",
            files.key.display()
        );
    }
    let key = key.clone();
    if let Err(error) = files.write(&key, [&main, &copy], public) {
        tracing::warn!("cannot write a file of the device's key: {error}");
    }
    Found::Key(key)
}

/// Creates a new key in place of a lost one. `needed` states that the store has adapters signed by the lost key.
///
/// # Errors
/// Fails if `needed` is true, or if the key cannot be written. The message states why there is no key, with a hint.
pub(crate) fn replace(state: &Path, fault: Option<&str>, needed: bool) -> Result<SecretKey, String> {
    let files = Files::of(state);
    if needed {
        let fault = fault.unwrap_or("the device's key is missing");
        return Err(format!(
            "{fault}\nhint: restore '{}' from a backup; or remove the adapters signed by the old key (clr-device restore TASK, or remove TASK), \
             move the file away and start again for a new key",
            files.key.display()
        ));
    }
    let made = generate_key().and_then(|key| {
        let files_found = [&KeyFile::Missing, &KeyFile::Missing];
        files.write(&key, files_found, None)?;
        Ok(key)
    });
    let key = made.map_err(|error| {
        let why = with_causes(&error);
        format!(
            "cannot create the device's key: {why}\nhint: make '{}' writable and start again",
            state.display()
        )
    })?;
    if let Some(fault) = fault {
        tracing::error!("the device has a new key, as nothing depends on the old one: {fault}");
    }
    tracing::info!(key = %key.public(), "device key created");
    Ok(key)
}

fn read_key_file(path: &Path, read: impl FnOnce(&Path) -> Result<SecretKey, KeyFileError>) -> KeyFile {
    if path.is_dir() {
        return KeyFile::Bad(format!("'{}' is a folder", path.display()));
    }
    match read(path) {
        Ok(key) => KeyFile::Good(key),
        Err(KeyFileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => KeyFile::Missing,
        Err(error @ KeyFileError::Open { .. }) => KeyFile::Open(error.to_string()),
        Err(error @ KeyFileError::Read { .. }) if !is_content(&error) => KeyFile::Unreadable(with_causes(&error)),
        Err(error) => KeyFile::Bad(with_causes(&error)),
    }
}

/// Returns whether the file was read but its content is not a valid key.
fn is_content(error: &KeyFileError) -> bool {
    matches!(error, KeyFileError::Read { source, .. } if matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::Other))
}

/// Reads a copy of the key. It is a key file with a second line: the first 16 hexadecimal digits of the first line's
/// SHA-256.
fn read_copy(path: &Path) -> Result<SecretKey, KeyFileError> {
    let failed = |source| KeyFileError::Read {
        path: path.to_owned(),
        source,
    };
    let text = fs::read_to_string(path).map_err(failed)?;
    let sound = text
        .split_once('\n')
        .filter(|(key, sum)| sum.trim_end() == checksum(key));
    let (key, _) = sound.ok_or_else(|| failed(io::Error::other("its checksum is wrong")))?;
    key.parse().map_err(|source| KeyFileError::Text {
        path: path.to_owned(),
        source,
    })
}

fn checksum(line: &str) -> String {
    Digest::of(line.as_bytes()).to_string()[..16].to_owned()
}

fn write_copy(path: &Path, key: &SecretKey) -> Result<(), KeyFileError> {
    use std::{io::Write as _, os::unix::fs::PermissionsExt as _};
    let line = key.reveal();
    let text = format!("{line}\n{}\n", checksum(&line));
    let folder = path.parent().unwrap_or(Path::new("."));
    if path.is_dir() {
        set_aside(path, "damaged");
    }
    let write = || {
        let mut builder = tempfile::Builder::new();
        let mut file = builder
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|source| KeyFileError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Renames an existing file or folder with a suffix such as `device.key.damaged`, and with numbers if the name is
/// taken.
pub(crate) fn set_aside(path: &Path, ending: &str) {
    if path.symlink_metadata().is_err() {
        return;
    }
    let named = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{ending}"));
        if number > 1 {
            name.push(number.to_string());
        }
        PathBuf::from(name)
    };
    let free = (1..9).map(named).find(|name| name.symlink_metadata().is_err());
    // The oldest files are kept; the last name is overwritten.
    let name = free.unwrap_or_else(|| named(9));
    match fs::rename(path, &name) {
        Ok(()) => tracing::error!("'{}' is kept as '{}'", path.display(), name.display()),
        Err(error) => tracing::warn!("cannot rename '{}': {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a state folder with a key, and the public key.
    fn with_key() -> (tempfile::TempDir, PublicKey) {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            find(folder.path()),
            Found::Lost {
                public: None,
                fault: None
            }
        ));
        let key = replace(folder.path(), None, false).unwrap();
        (folder, key.public())
    }

    fn found(folder: &Path) -> Option<PublicKey> {
        match find(folder) {
            Found::Key(key) => Some(key.public()),
            _ => None,
        }
    }

    #[test]
    fn any_one_of_the_three_files_may_be_damaged_in_any_way() {
        for name in ["device.key", "device.key.copy", "device.pub"] {
            for way in 0..6_usize {
                let (folder, key) = with_key();
                let path = folder.path().join(name);
                let whole = fs::read(&path).unwrap();
                fs::remove_file(&path).unwrap();
                match way {
                    0 => {}
                    1 => fs::create_dir_all(path.join("inner")).unwrap(),
                    2 => fs::write(&path, []).unwrap(),
                    3 => fs::write(&path, &whole[..40]).unwrap(),
                    // A damaged digit may give another valid key.
                    4 => {
                        let mut other = whole.clone();
                        let at = whole.iter().rposition(u8::is_ascii_digit).unwrap();
                        other[at] = if whole[at] == b'1' { b'2' } else { b'1' };
                        fs::write(&path, other).unwrap();
                    }
                    _ => fs::write(&path, b"\xff\xfe").unwrap(),
                }
                if name != "device.pub" && path.is_file() {
                    use std::os::unix::fs::PermissionsExt as _;
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
                }
                assert_eq!(found(folder.path()), Some(key), "{name}, {way}");
                // The file is repaired.
                assert_eq!(fs::read(&path).unwrap(), whole, "{name}, {way}");
            }
        }
    }

    #[test]
    fn a_lost_key_is_replaced_only_if_nothing_depends_on_it_and_its_file_is_kept() {
        let (folder, key) = with_key();
        let path = folder.path().join("device.key");
        fs::remove_file(folder.path().join("device.key.copy")).unwrap();
        fs::write(&path, b"not a key").unwrap();
        let Found::Lost { public, fault } = find(folder.path()) else {
            panic!("a key")
        };
        assert_eq!(public, Some(key));
        let refused = replace(folder.path(), fault.as_deref(), true).unwrap_err();
        assert!(refused.contains("hint:") && refused.contains("device.key"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"not a key");
        let new = replace(folder.path(), fault.as_deref(), false).unwrap();
        assert_ne!(new.public(), key);
        assert_eq!(
            fs::read(folder.path().join("device.key.damaged")).unwrap(),
            b"not a key"
        );
        assert_eq!(found(folder.path()), Some(new.public()));
    }

    #[test]
    fn a_key_that_others_may_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt as _;
        let (folder, key) = with_key();
        let path = folder.path().join("device.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let Found::Unusable { public, fault } = find(folder.path()) else {
            panic!("used")
        };
        assert!(public == Some(key) && fault.contains("chmod 600"), "{fault}");
    }
}
