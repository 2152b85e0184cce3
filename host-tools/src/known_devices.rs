//! Keys of this host and of its enrolled devices, in `~/.config/clr/` (or `$CLR_CONFIG`).
//!
//! ```text
//! host.key         x25519-secret:…       created on first use, readable only by its owner
//! known_devices    ENDPOINT x25519:…     one line per device
//! ```

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail};
use clr_transfer::{Endpoint, PeerKey, PeerSecret, Security};

use crate::destination::write_atomically;

/// The folder of both files.
#[derive(Clone, Debug)]
pub(crate) struct KnownDevices {
    folder: PathBuf,
}

impl KnownDevices {
    /// Opens `$CLR_CONFIG`; default: the platform's configuration folder.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let folder = match std::env::var_os("CLR_CONFIG") {
            Some(folder) => PathBuf::from(folder),
            None => directories::BaseDirs::new()
                .context("no home folder to store keys in\nhint: set CLR_CONFIG to a folder")?
                .config_dir()
                .join("clr"),
        };
        Ok(Self { folder })
    }

    fn list(&self) -> PathBuf {
        self.folder.join("known_devices")
    }

    /// Returns the secret key of this host. Creates it on first use.
    pub(crate) fn secret(&self) -> anyhow::Result<PeerSecret> {
        let path = self.folder.join("host.key");
        match read_text(&path) {
            Ok(text) => {
                #[cfg(unix)]
                {
                    use std::os::unix::fs::PermissionsExt as _;
                    let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
                    if mode & 0o077 != 0 {
                        bail!(
                            "'{0}' can be read by others (mode {mode:03o})\nhint: chmod 600 '{0}'; if it was shared, remove it, and enrol again",
                            path.display()
                        );
                    }
                }
                text.parse::<PeerSecret>().map_err(|error| {
                    anyhow!(
                        "'{}' is damaged: {error}\nhint: remove it for a new key, and enrol again with each device",
                        path.display()
                    )
                })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_key(&path),
            Err(error) => Err(error).with_context(|| format!("cannot read '{}'", path.display())),
        }
    }

    fn entries(&self) -> anyhow::Result<Vec<(String, PeerKey)>> {
        let path = self.list();
        let text = match read_text(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("cannot read '{}'", path.display())),
        };
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        let entry = |(number, line): (usize, &str)| {
            let read = line.trim().rsplit_once(' ');
            let read = read.and_then(|(place, key)| Some((place.trim().to_owned(), key.parse::<PeerKey>().ok()?)));
            read.with_context(|| {
                format!(
                    "line {number} of '{}' is not `ENDPOINT x25519:KEY`\nhint: remove the line, and enrol again with \
                     that device",
                    path.display()
                )
            })
        };
        lines.map(entry).collect()
    }

    /// Returns the security of sessions with a device: encrypted if its key is known.
    pub(crate) fn security(&self, endpoint: &Endpoint) -> anyhow::Result<Security> {
        let place = endpoint.to_string();
        let known = self.entries()?.into_iter().find(|(known, _)| *known == place);
        Ok(match known {
            Some((_, device)) => Security::Known {
                secret: self.secret()?,
                device,
            },
            None => Security::Plain,
        })
    }

    /// Stores the key of a device.
    pub(crate) fn remember(&self, endpoint: &Endpoint, key: PeerKey) -> anyhow::Result<()> {
        let place = endpoint.to_string();
        let mut entries = self.entries()?;
        entries.retain(|(known, _)| *known != place);
        entries.push((place, key));
        self.write(&entries)
    }

    /// Replaces a device's old key by the key that it announced, for every endpoint with the old key.
    pub(crate) fn follow(&self, old: PeerKey, new: PeerKey) -> anyhow::Result<()> {
        let mut entries = self.entries()?;
        for (_, key) in entries.iter_mut().filter(|(_, key)| *key == old) {
            *key = new;
        }
        self.write(&entries)
    }

    /// Removes a device from the list. Returns whether it was known.
    pub(crate) fn forget(&self, endpoint: &Endpoint) -> anyhow::Result<bool> {
        let place = endpoint.to_string();
        let mut entries = self.entries()?;
        let before = entries.len();
        entries.retain(|(known, _)| *known != place);
        if entries.len() < before {
            self.write(&entries)?;
        }
        Ok(entries.len() < before)
    }

    fn write(&self, entries: &[(String, PeerKey)]) -> anyhow::Result<()> {
        let lines: Vec<String> = entries.iter().map(|(place, key)| format!("{place} {key}\n")).collect();
        write_atomically(&self.list(), lines.concat().as_bytes())
    }
}

fn make_key(path: &Path) -> anyhow::Result<PeerSecret> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow!("the system has no random numbers: {error}"))?;
    let secret = PeerSecret::from_bytes(seed);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create folder '{}'", folder.display()))?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options
        .open(path)
        .with_context(|| format!("cannot write '{}'", path.display()))?;
    writeln!(file, "{}", secret.to_text())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write '{}'", path.display()))?;
    Ok(secret)
}

/// Reads a text file that a person may have edited: UTF-8, with or without a byte order mark.
fn read_text(path: &Path) -> io::Result<String> {
    clr_adapters::text_from_bytes(fs::read(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_known_by_its_endpoint_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownDevices {
            folder: folder.path().join("clr"),
        };
        let (robot, other): (Endpoint, Endpoint) =
            ("tcp:robot:7171".parse().unwrap(), "tcp:other:7171".parse().unwrap());
        assert_eq!(known.security(&robot).unwrap(), Security::Plain);
        known.remember(&robot, PeerKey([1; 32])).unwrap();
        known.remember(&robot, PeerKey([2; 32])).unwrap();
        let secret = known.secret().unwrap();
        let device = PeerKey([2; 32]);
        assert_eq!(known.security(&robot).unwrap(), Security::Known { secret, device });
        assert_eq!(known.security(&other).unwrap(), Security::Plain);
        assert!(known.forget(&robot).unwrap() && !known.forget(&robot).unwrap());
    }

    #[test]
    fn a_new_key_replaces_the_old_one_for_all_endpoints_of_that_device_only() {
        let folder = tempfile::tempdir().unwrap();
        let known = KnownDevices {
            folder: folder.path().to_owned(),
        };
        for (place, number) in [("tcp:robot:7171", 1), ("tcp:10.0.0.2:7171", 1), ("tcp:other:7171", 2)] {
            known.remember(&place.parse().unwrap(), PeerKey([number; 32])).unwrap();
        }
        known.follow(PeerKey([1; 32]), PeerKey([3; 32])).unwrap();
        let keys: Vec<u8> = known.entries().unwrap().iter().map(|(_, key)| key.0[0]).collect();
        assert_eq!(keys, [3, 3, 2]);
        // If the user removed the device in the meantime, it is not added again.
        known.forget(&"tcp:robot:7171".parse().unwrap()).unwrap();
        known.follow(PeerKey([1; 32]), PeerKey([4; 32])).unwrap();
        assert_eq!(known.entries().unwrap().len(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_may_read_and_a_damaged_list_are_reported() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let known = KnownDevices {
            folder: folder.path().to_owned(),
        };
        assert_eq!(known.secret().unwrap(), known.secret().unwrap());
        let path = folder.path().join("host.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(known.secret().unwrap_err().to_string().contains("hint: chmod 600"));
        let key = PeerKey([2; 32]);
        fs::write(known.list(), format!("\u{feff}tcp:robot:7171 {key}\r\n")).unwrap();
        let saved_by_an_editor = known.entries().unwrap();
        assert_eq!(saved_by_an_editor, [("tcp:robot:7171".to_owned(), key)]);
        fs::write(known.list(), "tcp:robot:7171 x25519:12\n").unwrap();
        let robot = "tcp:robot:7171".parse().unwrap();
        assert!(known.security(&robot).unwrap_err().to_string().contains("line 1 of"));
    }
}
