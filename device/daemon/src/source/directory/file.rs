//! Reading of a file in the watched folder, safe for every file type.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _},
    os::unix::fs::FileTypeExt as _,
    path::Path,
};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// Reason why a directory entry gives no frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// The file was removed meanwhile.
    Vanished,
    /// Skipped for this reason.
    Skipped(String),
}

impl From<std::io::Error> for Unfit {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Vanished,
            _ => Self::Skipped(format!("cannot read it: {error}")),
        }
    }
}

fn kind(kind: fs::FileType) -> &'static str {
    match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_char_device() || kind.is_block_device() => "a device",
        () => "of an unknown kind",
    }
}

fn expect_file(metadata: &fs::Metadata) -> Result<(), Unfit> {
    if metadata.is_file() {
        return Ok(());
    }
    let kind = kind(metadata.file_type());
    Err(Unfit::Skipped(format!("it is {kind}, expected a regular file")))
}

/// Reads a regular file of at most `largest` bytes. Other types are not opened, because opening a FIFO may block,
/// opening a device may have side effects, and a symbolic link may refer to either.
pub(super) fn read(path: &Path, largest: u64) -> Result<Vec<u8>, Unfit> {
    expect_file(&fs::symlink_metadata(path)?)?;
    // The file may be replaced between the two calls.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::empty()).map_err(std::io::Error::from)?;
    let file = File::from(file);
    let metadata = file.metadata()?;
    expect_file(&metadata)?;
    let mut bytes = Vec::new();
    if metadata.len() <= largest {
        bytes
            .try_reserve_exact(metadata.len() as usize)
            .map_err(std::io::Error::from)?;
        // The file may still grow.
        file.take(largest.saturating_add(1)).read_to_end(&mut bytes)?;
    }
    if metadata.len() > largest || bytes.len() as u64 > largest {
        let reason = format!("more than {largest} bytes, the cap of an image (limits.image_bytes)");
        return Err(Unfit::Skipped(reason));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use rustix::fs::{FileType, mknodat};

    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_everything_else_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("image.png"), b"bytes").unwrap();
        mknodat(CWD, at("fifo.png"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let _socket = UnixListener::bind(at("socket.png")).unwrap();
        fs::create_dir(at("folder.png")).unwrap();
        symlink("image.png", at("link.png")).unwrap();
        symlink("/dev/zero", at("device.png")).unwrap();
        let big = File::create(at("big.png")).unwrap();
        big.set_len(1001).unwrap();
        let read = |path: &Path| super::read(path, 1000);
        assert_eq!(read(&at("image.png")).unwrap(), b"bytes");
        for (name, named) in [
            ("fifo.png", "FIFO"),
            ("socket.png", "socket"),
            ("folder.png", "directory"),
            ("link.png", "symbolic link"),
            ("device.png", "symbolic link"),
            ("big.png", "bytes"),
        ] {
            let Err(Unfit::Skipped(reason)) = read(&at(name)) else {
                panic!("{name} was read")
            };
            assert!(reason.contains(named), "{name}: {reason}");
        }
        assert_eq!(read(&at("none.png")), Err(Unfit::Vanished));
        assert!(matches!(read(Path::new("/dev/null")), Err(Unfit::Skipped(reason)) if reason.contains("device")));
    }
}
