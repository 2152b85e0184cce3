//! Envelope of a file: magic, version, lengths, signed bytes, signature trailer and checksum.

use alloc::vec::Vec;
use core::ops::Range;

use crate::{
    DecodeError, Limits, PublicKey, Release, Signature, SignedRelease, SignerClass,
    trailer::{self, FRAME, RELEASE},
};

/// The magic number: a byte above 127, the format's name, and line ends that a copy in text mode would change.
pub(crate) const MAGIC: [u8; 8] = *b"\x89CLR\r\n\x1a\n";
/// The newest format version. Encodings that version 2 has are written as version 2.
pub(crate) const VERSION: u16 = 3;
/// Bytes before the header.
const PREFIX: usize = 20;
/// Bytes of a signature: the public key and the Ed25519 signature.
const SIGNATURE: usize = 32 + 64;

/// Where a file's header is. The payload follows it.
pub(crate) struct Frame {
    pub(crate) header: Range<usize>,
    /// Bytes of the payload according to the prefix.
    payload: usize,
}

impl Frame {
    /// Reads the lengths in a prefix; `None` if the file, which may lack its payload, cannot contain the header.
    pub(crate) fn of(file: &[u8]) -> Option<Self> {
        let prefix = file.get(..PREFIX)?;
        let header = PREFIX..PREFIX.checked_add(u32_at(prefix, 12) as usize)?;
        (header.end <= file.len()).then_some(Self {
            header,
            payload: u32_at(prefix, 16) as usize,
        })
    }

    /// Returns the complete file without its payload.
    pub(crate) fn without_payload(&self, file: &[u8]) -> Vec<u8> {
        let rest = file.get(self.header.end + self.payload..).unwrap_or_default();
        [&file[..self.header.end], rest].concat()
    }
}

/// The parts of a file with a valid envelope.
pub(crate) struct Envelope<'a> {
    pub(crate) header: &'a [u8],
    pub(crate) payload: &'a [u8],
    /// Offset of the payload in the file.
    pub(crate) payload_offset: usize,
    /// The format version, a readable one.
    pub(crate) version: u16,
    /// The bytes before the trailer, which are signed directly or through a release statement.
    pub(crate) signed: &'a [u8],
    /// The signature, not verified.
    pub(crate) signature: Option<Signature>,
    /// The signed release statement, not verified.
    pub(crate) release: Option<Release>,
}

impl Envelope<'_> {
    /// Returns whether the signature is valid, over the statement if there is one, otherwise over the bytes before the
    /// trailer. [`Release::check_content`] checks that the statement describes these bytes.
    pub(crate) fn signature_holds(&self) -> bool {
        match (&self.signature, &self.release) {
            (None, _) => false,
            (Some(signature), None) => signature.holds(self.signed),
            (Some(signature), Some(release)) => SignedRelease {
                release: release.clone(),
                key: signature.key,
                signature: signature.bytes,
            }
            .holds(),
        }
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes([bytes[offset], bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]])
}

/// Returns the bytes of an unsigned file with a header and payload of the given sizes.
pub(crate) fn file_bytes(header: usize, payload: usize) -> usize {
    PREFIX + header + payload + FRAME
}

/// Wraps a header and a payload of a format version in the unsigned envelope.
pub(crate) fn seal(version: u16, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut file = Vec::with_capacity(file_bytes(header.len(), payload.len()));
    file.extend(MAGIC);
    file.extend(version.to_le_bytes());
    file.extend([0; 2]);
    file.extend((header.len() as u32).to_le_bytes());
    file.extend((payload.len() as u32).to_le_bytes());
    file.extend(header);
    file.extend(payload);
    trailer::close(file, 0, &[])
}

/// Checks everything except the header and payload, and splits the file.
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
            expected: (PREFIX + FRAME) as u64,
            got: size,
        };
        return Err(if cut { truncated } else { DecodeError::Magic });
    }
    if file.len() < PREFIX + FRAME {
        return Err(DecodeError::Truncated {
            expected: (PREFIX + FRAME) as u64,
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
    let unsigned = PREFIX as u64 + header + payload + FRAME as u64;
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
    let (signature, release) = read_signature(kind, &file[trailer + 4..file.len() - 4])?;
    Ok(Envelope {
        header: &file[PREFIX..payload_offset],
        payload: &file[payload_offset..trailer],
        payload_offset,
        version,
        signed: &file[..trailer],
        signature,
        release,
    })
}

/// Parses a trailer: a public key, its signature and, for statements, the signed statement.
fn read_signature(kind: u8, bytes: &[u8]) -> Result<(Option<Signature>, Option<Release>), DecodeError> {
    let class = match kind {
        0 => None,
        RELEASE => {
            let signed = SignedRelease::from_bytes(bytes)?;
            return Ok((Some(signed.signature()), Some(signed.release)));
        }
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
    let signature = class.zip(parts).map(|(class, ((key, _), bytes))| Signature {
        class,
        key: PublicKey(*key),
        bytes: *bytes,
    });
    Ok((signature, None))
}
