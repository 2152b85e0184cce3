//! Files of the state folder that access control keeps: atomic replacement, the key of sessions, random numbers.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use clr_transfer::{Failure, FailureCode, PeerSecret};

/// Replaces a file atomically: temporary file, fsync, rename, fsync of the folder. Only its owner may read it.
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

/// Random bytes of the system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(
            FailureCode::INTERNAL,
            format_args!("the system has no random numbers: {error}"),
        )
    })?;
    Ok(bytes)
}

/// The key of the device's sessions, in `session.key`; made at the first start. The second line is its public key, so that a damaged
/// file is noticed and not taken for another key.
pub(super) fn session_key(state: &Path) -> Result<PeerSecret, String> {
    let path = state.join("session.key");
    let place = path.display();
    match fs::read_to_string(&path) {
        Ok(text) => {
            let mut lines = text.lines();
            let secret = lines.next().and_then(|line| line.parse::<PeerSecret>().ok());
            let public = lines.next().and_then(|line| line.parse().ok());
            secret.filter(|secret| Some(secret.public()) == public).ok_or_else(|| {
                format!(
                    "'{place}' is damaged\nhint: remove it and restart for a new key; hosts then have to enrol again"
                )
            })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret = PeerSecret::from_bytes(random().map_err(|failure| failure.message)?);
            replace(&path, &format!("{}\n{}\n", secret.to_text(), secret.public()))?;
            tracing::info!(key = secret.public().short(), "made the key of sessions");
            Ok(secret)
        }
        Err(error) => Err(format!("cannot read '{place}': {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_stays_the_same_and_every_flipped_bit_of_it_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let secret = session_key(folder.path()).unwrap();
        assert_eq!(session_key(folder.path()).unwrap(), secret);
        let path = folder.path().join("session.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let sound = fs::read(&path).unwrap();
        for bit in 0..8 * sound.len() {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).unwrap();
            match session_key(folder.path()) {
                // The case of a digit, the last newline, or a bit that X25519 ignores.
                Ok(read) => assert_eq!(read.public(), secret.public(), "bit {bit}"),
                Err(reason) => assert!(reason.contains("session.key"), "{reason}"),
            }
        }
    }
}
