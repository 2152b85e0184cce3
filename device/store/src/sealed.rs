//! Sealed files: small contents with a magic number, a length and a checksum.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic: kind of the file, and version of its layout |
//! | 8 | 4 | `N`, bytes of the contents, little-endian |
//! | 12 | `N` | contents |
//! | 12 + `N` | 4 | CRC-32 (IEEE) of all bytes before it, little-endian |

use crate::{
    error::StoreError,
    problem::Damage,
    storage::{Storage, read_file},
};

/// Bytes around the contents.
pub(crate) const OVERHEAD: usize = 16;

/// A task's record, `root/tasks/…`, and its copy.
pub(crate) const RECORD: [u8; 8] = *b"CLRtask\x02";
/// A record of format 1, which is still read.
pub(crate) const RECORD_1: [u8; 8] = *b"CLRtask\x01";
/// The highest time ever recorded, `root/time`, and its copy.
pub(crate) const TIME: [u8; 8] = *b"CLRtime\x01";
/// The tasks to serve after a restart, `root/active`.
pub(crate) const ACTIVE: [u8; 8] = *b"CLRactv\x01";
/// A tuning checkpoint, `root/checkpoints/…`.
pub(crate) const CHECKPOINT: [u8; 8] = *b"CLRtune\x01";
/// The head of an example, `root/examples/…`; the image follows.
pub(crate) const EXAMPLE: [u8; 8] = *b"CLRexmp\x01";
/// The head of an upload in progress, `root/incoming/…`; the pieces follow.
pub(crate) const PART: [u8; 8] = *b"CLRpart\x02";

pub(crate) fn seal(magic: [u8; 8], contents: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(contents.len() + OVERHEAD);
    file.extend(magic);
    file.extend((contents.len() as u32).to_le_bytes());
    file.extend(contents);
    file.extend(crc32fast::hash(&file).to_le_bytes());
    file
}

/// Returns the contents of a sealed file, and the bytes that follow it.
pub(crate) fn open_prefix(magic: [u8; 8], file: &[u8]) -> Result<(&[u8], &[u8]), Damage> {
    let Some((head, rest)) = file.split_first_chunk::<12>() else {
        return Err(Damage::Short);
    };
    if head[..8] != magic {
        return Err(Damage::Magic);
    }
    let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
    let Some((contents, rest)) = rest.split_at_checked(length) else {
        return Err(Damage::Short);
    };
    let Some((stored, rest)) = rest.split_first_chunk::<4>() else {
        return Err(Damage::Short);
    };
    if crc32fast::hash(&file[..12 + length]) != u32::from_le_bytes(*stored) {
        return Err(Damage::Checksum);
    }
    Ok((contents, rest))
}

/// Returns the contents of a sealed file; trailing bytes are an error.
pub(crate) fn open(magic: [u8; 8], file: &[u8]) -> Result<&[u8], Damage> {
    let (contents, rest) = open_prefix(magic, file)?;
    if rest.is_empty() {
        Ok(contents)
    } else {
        Err(Damage::Form)
    }
}

/// Reads a sealed file and returns its contents.
pub(crate) fn read(storage: &dyn Storage, path: &str, magic: [u8; 8], cap: u64) -> Result<Vec<u8>, StoreError> {
    let file = read_file(storage, path, cap).map_err(StoreError::io("read", path))?;
    let contents = open(magic, &file).map_err(|damage| StoreError::Damaged {
        file: path.to_owned(),
        damage,
    })?;
    Ok(contents.to_vec())
}
