//! Session key of the device, in `state/session.key`, and its predecessor.
//!
//! ```text
//! x25519-secret:…                       the current key
//! x25519:…                              its public key, which reveals damage
//! old x25519-secret:… UNTIL CHECKSUM    its predecessor, valid until UNTIL, in seconds since 1970
//! ```
//!
//! The checksum is the first eight digits of the SHA-256 of the rest of the line. If the third line is damaged, only
//! the old key is lost.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clr_transfer::{Failure, FailureCode, KeyRotation, PeerSecret};

use super::files::{self, checksum};

/// Validity of the old key after a rotation, in seconds.
const OLD_SECONDS: u64 = 90 * 24 * 3_600;

/// The keys accepted in handshakes.
#[derive(Debug)]
pub(super) struct SessionKeys {
    path: PathBuf,
    current: PeerSecret,
    old: Option<OldKey>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct OldKey {
    secret: PeerSecret,
    /// End of the old key's validity, in seconds since 1970.
    until: u64,
}

impl OldKey {
    fn line(&self) -> String {
        let text = format!("old {} {}", self.secret.to_text(), self.until);
        format!("{text} {}", checksum(&text))
    }

    fn read(line: &str) -> Option<Self> {
        let (text, sum) = line.rsplit_once(' ')?;
        let (secret, until) = text.strip_prefix("old ")?.split_once(' ')?;
        let old = Self {
            secret: secret.parse().ok()?,
            until: until.parse().ok()?,
        };
        (sum == checksum(text)).then_some(old)
    }
}

impl SessionKeys {
    /// Reads the file; creates it at the first start. Removes an old key that has expired at `now`.
    pub(super) fn open(state: &Path, now: u64) -> Result<Self, String> {
        let path = state.join("session.key");
        let place = path.display();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let current = PeerSecret::from_bytes(files::random().map_err(|failure| failure.message)?);
                tracing::info!(key = current.public().short(), "session key created");
                let mut keys = Self {
                    path,
                    current: current.clone(),
                    old: None,
                };
                keys.write(current, None)?;
                return Ok(keys);
            }
            Err(error) => return Err(format!("cannot read '{place}': {error}")),
        };
        let mut lines = text.lines();
        let secret = lines.next().and_then(|line| line.parse::<PeerSecret>().ok());
        let public = lines.next().and_then(|line| line.parse().ok());
        let current = secret.filter(|secret| Some(secret.public()) == public).ok_or_else(|| {
            format!("'{place}' is damaged\nhint: remove it and restart for a new key; hosts then have to enrol again")
        })?;
        let old = lines.next().and_then(|line| {
            let old = OldKey::read(line);
            if old.is_none() {
                tracing::error!(
                    "the old key in '{place}' is damaged: hosts that do not know the new one have to enrol again"
                );
            }
            old
        });
        let expired = old.as_ref().is_some_and(|old| old.until <= now);
        let mut keys = Self { path, current, old };
        if expired {
            keys.old = None;
            if let Err(reason) = keys.write(keys.current.clone(), None) {
                tracing::warn!("the old session key has expired, but stays in its file: {reason}");
            }
        }
        Ok(keys)
    }

    /// Returns the current key.
    pub(super) fn current(&self) -> &PeerSecret {
        &self.current
    }

    /// Returns the old key if it is still valid.
    pub(super) fn old(&self, now: u64) -> Option<&PeerSecret> {
        let old = self.old.as_ref().filter(|old| now < old.until)?;
        Some(&old.secret)
    }

    /// Creates a new key; the current one becomes the old one.
    pub(super) fn rotate(&mut self, now: u64) -> Result<(), Failure> {
        if self.old(now).is_some() {
            let days = self.seconds_left(now).div_ceil(24 * 3_600);
            return Err(Failure::new(
                FailureCode::BUSY,
                format_args!(
                    "the old key is valid for {days} more days\nhint: `clr-device rotate-key --drop-old` first; \
                     hosts that have not connected since then have to enrol again"
                ),
            ));
        }
        let new = PeerSecret::from_bytes(files::random()?);
        let old = OldKey {
            secret: self.current.clone(),
            until: now.saturating_add(OLD_SECONDS),
        };
        // Written to the disk first. If hosts learned a key and a restart lost it, they would be locked out.
        self.write(new, Some(old)).map_err(|reason| {
            Failure::new(
                FailureCode::STORAGE,
                format_args!("the key is unchanged: {reason}\nhint: repair the disk, then rotate again"),
            )
        })
    }

    /// Drops the old key.
    pub(super) fn drop_old(&mut self) -> Result<(), Failure> {
        // Removed in memory first, because a failed write must not keep a stolen key in use.
        self.old = None;
        self.write(self.current.clone(), None).map_err(|reason| {
            Failure::new(
                FailureCode::STORAGE,
                format_args!(
                    "the old key is dropped until the next start only: {reason}\nhint: repair the disk, then drop it again"
                ),
            )
        })
    }

    /// Returns the keys for a reply of the protocol.
    pub(super) fn rotation(&self, now: u64) -> KeyRotation {
        KeyRotation {
            key: self.current.public().to_string(),
            old: self.old(now).map(|old| old.public().to_string()),
            seconds: u32::try_from(self.seconds_left(now)).unwrap_or(u32::MAX),
        }
    }

    fn seconds_left(&self, now: u64) -> u64 {
        self.old.as_ref().map_or(0, |old| old.until.saturating_sub(now))
    }

    fn write(&mut self, current: PeerSecret, old: Option<OldKey>) -> Result<(), String> {
        let mut text = format!("{}\n{}\n", current.to_text(), current.public());
        if let Some(old) = &old {
            text.push_str(&old.line());
            text.push('\n');
        }
        files::replace(&self.path, &text)?;
        (self.current, self.old) = (current, old);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn open(folder: &Path, now: u64) -> SessionKeys {
        SessionKeys::open(folder, now).unwrap()
    }

    #[test]
    fn the_key_stays_the_same_and_every_flipped_bit_of_the_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mut keys = open(folder.path(), NOW);
        assert_eq!(open(folder.path(), NOW).current(), keys.current());
        keys.rotate(NOW).unwrap();
        let (current, old) = (keys.current().public(), keys.old(NOW).unwrap().public());
        let path = folder.path().join("session.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let sound = fs::read(&path).unwrap();
        for bit in 0..8 * sound.len() {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).unwrap();
            match SessionKeys::open(folder.path(), NOW) {
                // Accepted flips: the case of a hexadecimal digit, the last newline, a bit that X25519 ignores, or a
                // bit in the old key's line.
                Ok(read) => {
                    assert_eq!(read.current().public(), current, "bit {bit}");
                    assert!(read.old(NOW).is_none_or(|read| read.public() == old), "bit {bit}");
                }
                Err(reason) => assert!(reason.contains("session.key"), "{reason}"),
            }
        }
    }

    #[test]
    fn a_rotation_keeps_the_old_key_for_ninety_days_and_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let mut keys = open(folder.path(), NOW);
        let first = keys.current().clone();
        keys.rotate(NOW).unwrap();
        assert_ne!(*keys.current(), first);
        let again = open(folder.path(), NOW + OLD_SECONDS - 1);
        assert_eq!(again.current(), keys.current());
        assert_eq!(again.old(NOW + OLD_SECONDS - 1), Some(&first));
        assert_eq!(again.old(NOW + OLD_SECONDS), None);
        assert_eq!(again.rotation(NOW + OLD_SECONDS - 60).seconds, 60);
        // Two old keys are never kept at once, so a second rotation would silently lock out hosts that only know the
        // first of them.
        let refused = keys.rotate(NOW).unwrap_err();
        assert!(refused.message.contains("90 more days"), "{refused}");
        keys.rotate(NOW + OLD_SECONDS).unwrap();
        assert_eq!(keys.old(NOW + OLD_SECONDS), Some(again.current()));
        // An expired key does not stay on the disk.
        open(folder.path(), NOW + 3 * OLD_SECONDS);
        let text = fs::read_to_string(folder.path().join("session.key")).unwrap();
        assert!(!text.contains("old "));
    }

    #[test]
    fn a_dropped_key_stays_dropped_and_a_disk_that_cannot_be_written_changes_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let mut keys = open(folder.path(), NOW);
        keys.rotate(NOW).unwrap();
        keys.drop_old().unwrap();
        assert_eq!(open(folder.path(), NOW).old(NOW), None);
        let current = keys.current().clone();
        // A folder in the temporary file's place.
        fs::create_dir(folder.path().join("session.new")).unwrap();
        assert_eq!(keys.rotate(NOW).unwrap_err().code, FailureCode::STORAGE);
        assert_eq!((keys.current(), keys.old(NOW)), (&current, None));
        fs::remove_dir(folder.path().join("session.new")).unwrap();
        keys.rotate(NOW).unwrap();
        fs::create_dir(folder.path().join("session.new")).unwrap();
        assert_eq!(keys.drop_old().unwrap_err().code, FailureCode::STORAGE);
        assert_eq!(keys.old(NOW), None, "dropped in memory immediately");
    }
}
