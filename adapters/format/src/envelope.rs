//! The outermost layer: magic, version, lengths, the signed bytes, the signature trailer, the checksum over all.

use alloc::vec::Vec;

use crate::{DecodeError, Limits, PublicKey, Signature, SignerClass};

/// The first bytes: one above 127, the name, and line ends that a text-mode copy would change.
pub(crate) const MAGIC: [u8; 8] = *b"\x89CLR\r\n\x1a\n";
/// The format version that is written, and the newest that is read.
pub(crate) const VERSION: u16 = 2;
/// Bytes before the header.
const PREFIX: usize = 20;
/// Bytes of a signature: the public key and the Ed25519 signature.
const SIGNATURE: usize = 32 + 64;
/// Bytes behind the payload without the signature: kind, reserved, length, checksum.
const TRAILER: usize = 8;

/// The parts of a file whose outermost layer is sound.
pub(crate) struct Envelope<'a> {
    pub(crate) header: &'a [u8],
    pub(crate) payload: &'a [u8],
    /// Where the payload starts in the file.
    pub(crate) payload_offset: usize,
    /// The format version, one that this program reads.
    pub(crate) version: u16,
    /// The bytes that a signature is over: everything before the trailer.
    pub(crate) signed: &'a [u8],
    /// The signature, not verified.
    pub(crate) signature: Option<Signature>,
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes([bytes[offset], bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]])
}

/// Bytes of a file with a header and payload of the given sizes, unsigned.
pub(crate) fn file_bytes(header: usize, payload: usize) -> usize {
    PREFIX + header + payload + TRAILER
}

/// Puts the unsigned envelope of the newest version around a header and a payload.
pub(crate) fn seal(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(file_bytes(header.len(), payload.len()));
    file.extend(MAGIC);
    file.extend(VERSION.to_le_bytes());
    file.extend([0; 2]);
    file.extend((header.len() as u32).to_le_bytes());
    file.extend((payload.len() as u32).to_le_bytes());
    file.extend(header);
    file.extend(payload);
    close(file, None)
}

/// Puts the trailer behind the bytes before it.
pub(crate) fn close(mut file: Vec<u8>, signature: Option<&Signature>) -> Vec<u8> {
    if let Some(signature) = signature {
        file.extend([signature.class as u8, 0]);
        file.extend((SIGNATURE as u16).to_le_bytes());
        file.extend(signature.key.0);
        file.extend(signature.bytes);
    } else {
        file.extend([0; 4]);
    }
    file.extend(crc32fast::hash(&file).to_le_bytes());
    file
}

/// Checks everything that can be checked without reading the header, and takes the file apart.
pub(crate) fn open<'a>(file: &'a [u8], limits: &Limits) -> Result<Envelope<'a>, DecodeError> {
    let size = file.len() as u64;
    if file.len() > limits.file_bytes {
        return Err(DecodeError::TooLarge {
            what: "file bytes",
            cap: limits.file_bytes as u64,
            got: size,
        });
    }
    if !file.starts_with(&MAGIC) {
        let cut = MAGIC.starts_with(file);
        let truncated = DecodeError::Truncated {
            expected: (PREFIX + TRAILER) as u64,
            got: size,
        };
        return Err(if cut { truncated } else { DecodeError::Magic });
    }
    if file.len() < PREFIX + TRAILER {
        return Err(DecodeError::Truncated {
            expected: (PREFIX + TRAILER) as u64,
            got: size,
        });
    }
    let version = u16_at(file, 8);
    if !(1..=VERSION).contains(&version) {
        return Err(DecodeError::Version {
            expected: VERSION,
            got: version,
        });
    }
    if u16_at(file, 10) != 0 {
        return Err(DecodeError::Reserved { place: "prefix" });
    }
    let (header, payload) = (u64::from(u32_at(file, 12)), u64::from(u32_at(file, 16)));
    if header > limits.header_bytes as u64 {
        return Err(DecodeError::TooLarge {
            what: "header bytes",
            cap: limits.header_bytes as u64,
            got: header,
        });
    }
    let unsigned = PREFIX as u64 + header + payload + TRAILER as u64;
    if size < unsigned {
        return Err(DecodeError::Truncated {
            expected: unsigned,
            got: size,
        });
    }
    let payload_offset = PREFIX + header as usize;
    let trailer = payload_offset + payload as usize;
    let (kind, signature) = (file[trailer], u16_at(file, trailer + 2));
    let expected = unsigned + u64::from(signature);
    if size < expected {
        return Err(DecodeError::Truncated { expected, got: size });
    }
    if size > expected {
        return Err(DecodeError::TrailingBytes { expected, got: size });
    }
    let (body, stored) = (&file[..file.len() - 4], u32_at(file, file.len() - 4));
    let crc = crc32fast::hash(body);
    if crc != stored {
        return Err(DecodeError::FileChecksum {
            expected: stored,
            got: crc,
        });
    }
    if file[trailer + 1] != 0 {
        return Err(DecodeError::Reserved { place: "trailer" });
    }
    let signature = read_signature(kind, &file[trailer + 4..file.len() - 4])?;
    Ok(Envelope {
        header: &file[PREFIX..payload_offset],
        payload: &file[payload_offset..trailer],
        payload_offset,
        version,
        signed: &file[..trailer],
        signature,
    })
}

/// The signature of a trailer: a public key and what it signed with.
fn read_signature(kind: u8, bytes: &[u8]) -> Result<Option<Signature>, DecodeError> {
    let class = match kind {
        0 => None,
        kind => Some(SignerClass::from_kind(kind).ok_or(DecodeError::SignatureKind { kind })?),
    };
    let expected = if class.is_some() { SIGNATURE } else { 0 };
    if bytes.len() != expected {
        return Err(DecodeError::SignatureLength {
            expected: expected as u16,
            got: bytes.len() as u16,
        });
    }
    let parts = bytes.split_first_chunk().zip(bytes.last_chunk());
    Ok(class.zip(parts).map(|(class, ((key, _), bytes))| Signature {
        class,
        key: PublicKey(*key),
        bytes: *bytes,
    }))
}
