//! Applies an untrusted delta to its base.
//!
//! Every size is checked before memory is reserved, every instruction before it is executed, and the result's digest at
//! the end.

use alloc::vec::Vec;

use super::{
    COMPACT, DeltaError, MAGIC, PREFIX, VERSION,
    bits::{packed_bytes, stepped},
    compact,
    script::{CODES, COPY, DISTANCE_FLAG, LITERAL, SEEK},
    streams::{INSTRUCTIONS, LITERALS, Reader, kind},
};
use crate::{
    Digest,
    codec::bits::{Fields, Packer},
};

/// Applies `delta` to `base`. Returns exactly the bytes of the target, at most `cap`. Uses memory of two to three times
/// the file's size.
///
/// # Errors
/// [`DeltaError`] if the delta is damaged, is for another base, or is too large.
pub fn apply(base: &[u8], delta: &[u8], cap: usize) -> Result<Vec<u8>, DeltaError> {
    if !delta.starts_with(&MAGIC) {
        let cut = MAGIC.starts_with(delta);
        return Err(if cut { DeltaError::Truncated } else { DeltaError::Magic });
    }
    let (prefix, streams) = delta.split_first_chunk::<PREFIX>().ok_or(DeltaError::Truncated)?;
    let version = prefix[4];
    if ![VERSION, COMPACT].contains(&version) {
        return Err(DeltaError::Version {
            expected: COMPACT,
            got: version,
        });
    }
    let digest = |at: usize| {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(&prefix[at..at + 32]);
        Digest(bytes)
    };
    let length = u32::from_le_bytes([prefix[69], prefix[70], prefix[71], prefix[72]]) as usize;
    if length > cap {
        return Err(DeltaError::TooLarge {
            what: "bytes of the new file",
            cap: cap as u64,
            got: length as u64,
        });
    }
    let (expected, got) = (digest(5), Digest::of(base));
    if expected != got {
        return Err(DeltaError::WrongBase { expected, got });
    }
    let out = if version == COMPACT {
        compact::follow(base, streams, length)?
    } else {
        let mut reader = Reader::open(streams, length)?;
        let out = follow(base, &mut reader, length)?;
        if !reader.is_used_up() {
            return Err(DeltaError::TrailingBytes);
        }
        out
    };
    let (expected, got) = (digest(37), Digest::of(&out));
    if expected != got {
        return Err(DeltaError::WrongTarget { expected, got });
    }
    Ok(out)
}

/// Executes all instructions.
pub(super) fn follow(base: &[u8], reader: &mut Reader<'_>, length: usize) -> Result<Vec<u8>, DeltaError> {
    let mut out = Vec::new();
    let mut cursor = 0;
    while !reader.is_at_end(INSTRUCTIONS) {
        let at = reader.position(INSTRUCTIONS);
        instruction(base, reader, length, &mut cursor, &mut out).ok_or(DeltaError::Instruction { at })?;
    }
    Ok(out)
}

/// Executes one instruction; `None` if it is invalid.
fn instruction(
    base: &[u8],
    reader: &mut Reader<'_>,
    length: usize,
    cursor: &mut usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    let room = length - out.len();
    match reader.byte(INSTRUCTIONS)? {
        COPY => {
            let count = reader.varint(INSTRUCTIONS).filter(|&count| count <= room)?;
            let end = cursor.checked_add(count)?;
            let bytes = base.get(*cursor..end)?;
            make_room(out, count, length);
            out.extend_from_slice(bytes);
            *cursor = end;
        }
        SEEK => {
            let number = reader.varint(INSTRUCTIONS)? as i64;
            let distance = (number >> 1) ^ -(number & 1);
            let to = usize::try_from(*cursor as i64 + distance).ok()?;
            *cursor = Some(to).filter(|&to| to <= base.len())?;
        }
        LITERAL => {
            let count = reader.varint(INSTRUCTIONS).filter(|&count| count <= room)?;
            let bytes = reader.take(LITERALS, count)?;
            make_room(out, count, length);
            out.extend_from_slice(bytes);
        }
        CODES => {
            let form = reader.byte(INSTRUCTIONS)?;
            let (width, distances) = (u32::from(form & !DISTANCE_FLAG), form & DISTANCE_FLAG != 0);
            let kind = kind(width, distances)?;
            let count = reader.varint(INSTRUCTIONS)?;
            let bytes = packed_bytes(width, count).filter(|&bytes| bytes <= room)?;
            let end = cursor.checked_add(bytes)?;
            let source = base.get(*cursor..end)?;
            make_room(out, bytes, length);
            codes(source, reader, width, kind, count, out)?;
            *cursor = end;
        }
        _ => return None,
    }
    Some(())
}

/// Reserves memory for `count` more bytes by doubling the capacity, up to `length`.
fn make_room(out: &mut Vec<u8>, count: usize, length: usize) {
    let needed = out.len() + count;
    if out.capacity() < needed {
        out.reserve_exact((2 * needed).min(length.max(needed)) - out.len());
    }
}

fn codes(
    source: &[u8],
    reader: &mut Reader<'_>,
    width: u32,
    kind: usize,
    count: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    let mut fields = Fields::new(width, source);
    let mut packer = Packer::default();
    for _ in 0..count {
        let step = reader.code(kind)?;
        if width < 32 && step >> width != 0 {
            return None;
        }
        packer.push(width, stepped(width, fields.next(), step), out);
    }
    packer.finish(out);
    Some(())
}
