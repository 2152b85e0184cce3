//! Trailer of a file: kind, reserved byte, length, signature and checksum.

use alloc::vec::Vec;

/// Bytes of a trailer in addition to the signature: kind, reserved, length, checksum.
pub(crate) const FRAME: usize = 8;
/// Kind of a trailer with a publisher's signature over a release statement: key, signature, statement.
pub(crate) const RELEASE: u8 = 3;

/// Appends a trailer of a kind.
pub(crate) fn close(mut file: Vec<u8>, kind: u8, signature: &[u8]) -> Vec<u8> {
    file.extend([kind, 0]);
    file.extend((signature.len() as u16).to_le_bytes());
    file.extend(signature);
    file.extend(crc32fast::hash(&file).to_le_bytes());
    file
}
