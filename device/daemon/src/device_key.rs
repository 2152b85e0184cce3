//! The device's own key, in `device.key`, with a copy in `device.key.copy` and its public half in `device.pub`.
//!
//! Any two of the three tell which is damaged, and that one is rewritten; a damaged file is kept as `device.key.damaged`. If the key is lost,
//! only learning stops: what it signed is verified by `device.pub` and continues to serve. A new key is made only if the store holds nothing
//! that the old one signed, as nothing could verify that any more.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clr_adapters::{Digest, PublicKey, SecretKey};

use clr_adapters::{KeyFileError, generate_key, read_public_key, read_secret_key, write_public_key, write_secret_key};

/// What the three files tell before the store is opened.
#[derive(Debug)]
pub(crate) enum Found {
    /// The key.
    Key(SecretKey),
    /// There is no key; a new one may be made if nothing depends on the old one.
    Lost {
        /// Its public half, if that is known.
        public: Option<PublicKey>,
        /// What is wrong; nothing at the first start of all.
        fault: Option<String>,
    },
    /// There is a key that is not to be used.
    Unusable {
        /// Its public half, if that is known.
        public: Option<PublicKey>,
        /// Why.
        fault: String,
    },
}

impl Found {
    /// The public half, if it is known.
    pub(crate) fn public(&self) -> Option<PublicKey> {
        match self {
            Self::Key(key) => Some(key.public()),
            Self::Lost { public, .. } | Self::Unusable { public, .. } => *public,
        }
    }

    /// Why the key cannot be used, in words; nothing at the first start of all.
    pub(crate) fn fault(&self) -> Option<&str> {
        match self {
            Self::Key(_) => None,
            Self::Lost { fault, .. } => fault.as_deref(),
            Self::Unusable { fault, .. } => Some(fault),
        }
    }
}

/// A secret key's file.
enum Half {
    Good(SecretKey),
    Missing,
    Bad(String),
    /// Others may read it.
    Open(String),
    /// The system does not let it be read now: that says nothing about the key.
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

    /// Writes what is missing or different, as far as the disk lets it.
    fn write(&self, key: &SecretKey, halves: [&Half; 2], public: Option<PublicKey>) -> Result<(), KeyFileError> {
        let same = |half: &Half| matches!(half, Half::Good(known) if known.public() == key.public());
        let [main, copy] = halves;
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

/// Reads the key, and mends what one of the other files can mend.
pub(crate) fn find(state: &Path) -> Found {
    let files = Files::of(state);
    let main = read_half(&files.key, read_secret_key);
    let copy = read_half(&files.copy, read_copy);
    let public = read_public_key(&files.public).ok();
    let belongs = |key: &SecretKey| public == Some(key.public());
    let key = match (&main, &copy) {
        (Half::Open(fault), _) => {
            let fault = fault.clone();
            return Found::Unusable { public, fault };
        }
        (Half::Good(key), Half::Good(copied)) if key.public() == copied.public() || belongs(key) => key,
        // The copy has a checksum.
        (_, Half::Good(copied)) => copied,
        (Half::Good(key), _) if public.is_none() || belongs(key) => key,
        (Half::Good(_), _) => {
            let fault = format!(
                "'{}' and '{}' do not belong together: one of them is damaged\nhint: put the right one back from a backup, or remove the \
                 wrong one, then start again",
                files.key.display(),
                files.public.display()
            );
            return Found::Unusable { public, fault };
        }
        (Half::Missing, _) => {
            let fault = public.map(|_| format!("'{}' is missing", files.key.display()));
            return Found::Lost { public, fault };
        }
        (Half::Unreadable(fault), _) => {
            let fault = fault.clone();
            return Found::Unusable { public, fault };
        }
        (Half::Bad(fault), _) => {
            let fault = Some(fault.clone());
            return Found::Lost { public, fault };
        }
    };
    if !matches!(&main, Half::Good(known) if known.public() == key.public()) {
        let why = match &main {
            Half::Bad(fault) => fault.as_str(),
            Half::Good(_) => "it does not belong to device.pub",
            _ => "it is missing",
        };
        tracing::error!("'{}' is damaged or gone, its copy is used: {why}", files.key.display());
    }
    let key = key.clone();
    if let Err(error) = files.write(&key, [&main, &copy], public) {
        tracing::warn!("a file of the device's key cannot be written: {error}");
    }
    Found::Key(key)
}

/// Makes a new key in place of one that is lost, unless the store holds what the old one signed (`needed`).
///
/// # Errors
/// Why there is no key, with a hint.
pub(crate) fn replace(state: &Path, fault: Option<&str>, needed: bool) -> Result<SecretKey, String> {
    let files = Files::of(state);
    if needed {
        let fault = fault.unwrap_or("the device's key is missing");
        return Err(format!(
            "{fault}\nhint: put '{}' back from a backup; or take what the old key signed out of service (clr-device restore TASK, or remove TASK), \
             move the file away and start again, and a new key is made",
            files.key.display()
        ));
    }
    let made = generate_key().and_then(|key| {
        let halves = [&Half::Missing, &Half::Missing];
        files.write(&key, halves, None)?;
        Ok(key)
    });
    let key = made.map_err(|error| {
        let why = super::runtime::with_causes(&error);
        format!(
            "the device's key cannot be made: {why}\nhint: make '{}' writable and start again",
            state.display()
        )
    })?;
    if let Some(fault) = fault {
        tracing::error!("the device has a new key, as nothing depends on the old one: {fault}");
    }
    tracing::info!(key = %key.public(), "made the device's key");
    Ok(key)
}

fn read_half(path: &Path, read: impl FnOnce(&Path) -> Result<SecretKey, KeyFileError>) -> Half {
    if path.is_dir() {
        return Half::Bad(format!("'{}' is a folder", path.display()));
    }
    match read(path) {
        Ok(key) => Half::Good(key),
        Err(KeyFileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Half::Missing,
        Err(error @ KeyFileError::Open { .. }) => Half::Open(error.to_string()),
        Err(error @ KeyFileError::Read { .. }) if !is_content(&error) => {
            Half::Unreadable(super::runtime::with_causes(&error))
        }
        Err(error) => Half::Bad(super::runtime::with_causes(&error)),
    }
}

/// Whether a file could be read, and is no text.
fn is_content(error: &KeyFileError) -> bool {
    matches!(error, KeyFileError::Read { source, .. } if matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::Other))
}

/// A copy is a key file with a second line: the first 16 hexadecimal digits of the first line's SHA-256.
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

/// Keeps a file or a folder under another name, if there is one: `device.key.damaged`, then with numbers.
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
    // The first ones are worth most.
    let name = free.unwrap_or_else(|| named(9));
    match fs::rename(path, &name) {
        Ok(()) => tracing::error!("'{}' is kept as '{}'", path.display(), name.display()),
        Err(error) => tracing::warn!("cannot set '{}' aside: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state folder with a key, and the key's public half.
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
                    // Another key: a digit that is damaged into another digit.
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
                // And it is mended.
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
