//! Streams of a delta: instructions and literal bytes, compressed, then the differences of codes.

use alloc::vec::Vec;

use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec_with_limit};

use super::{DeltaError, model::Model};
use crate::codec::range::{Decoder, Encoder};

/// Number of compressed streams.
pub(super) const COUNT: usize = 2;
/// Instructions: see `script.rs`.
pub(super) const INSTRUCTIONS: usize = 0;
/// Literal bytes.
pub(super) const LITERALS: usize = 1;
/// Kinds of codes, each with its own model.
const KINDS: usize = 7;

/// Maximum compression ratio of DEFLATE.
const BEST_RATIO: u64 = 1032;
/// Effort of the compressor, of 10.
const EFFORT: u8 = 10;
/// Bytes that all streams together may have in addition to twice the target's size.
const SPARE: u64 = 4096;

/// Returns the model for codes of a width; `None` for an unknown width.
pub(super) fn kind(width: u32, distances: bool) -> Option<usize> {
    match (width, distances) {
        (6, true) => Some(0),
        (6, false) => Some(1),
        (8, false) => Some(2),
        (10, false) => Some(3),
        (12, false) => Some(4),
        (16, false) => Some(5),
        (32, false) => Some(6),
        _ => None,
    }
}

pub(super) fn push_varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Splits a number of at most 32 bits off the front of `bytes`.
pub(super) fn take_varint(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0_u64;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return u32::try_from(value).ok().map(|value| value as usize);
        }
    }
    None
}

/// Writer of the streams.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) compressed: [Vec<u8>; COUNT],
    codes: Encoder,
    models: [Model; KINDS],
}

impl Writer {
    pub(super) fn varint(&mut self, stream: usize, value: usize) {
        push_varint(value, &mut self.compressed[stream]);
    }

    /// Appends one difference of codes.
    pub(super) fn code(&mut self, width: u32, distances: bool, step: u32) {
        if let Some(kind) = kind(width, distances) {
            self.models[kind].push(&mut self.codes, step);
        }
    }

    /// Appends the table and the streams, compressed where that helps.
    pub(super) fn finish(self, out: &mut Vec<u8>) {
        let packed = self.compressed.iter().map(|raw| {
            let packed = compress_to_vec(raw, EFFORT);
            if packed.len() < raw.len() { packed } else { raw.clone() }
        });
        let packed: Vec<_> = packed.collect();
        for (raw, packed) in self.compressed.iter().zip(&packed) {
            push_varint(raw.len(), out);
            push_varint(packed.len(), out);
        }
        for packed in packed {
            out.extend(packed);
        }
        out.extend(self.codes.finish());
    }
}

/// Reader of the streams.
pub(super) struct Reader<'a> {
    streams: [Vec<u8>; COUNT],
    at: [usize; COUNT],
    codes: Decoder<'a>,
    models: [Model; KINDS],
}

impl<'a> Reader<'a> {
    /// Reads the table and unpacks the streams of a delta with a target of `target` bytes.
    pub(super) fn open(mut bytes: &'a [u8], target: usize) -> Result<Self, DeltaError> {
        let mut sizes = [(0, 0); COUNT];
        for size in &mut sizes {
            let mut number = || take_varint(&mut bytes).ok_or(DeltaError::Truncated);
            *size = (number()?, number()?);
        }
        let cap = 2 * target as u64 + SPARE;
        let got = sizes.iter().map(|&(raw, _)| raw as u64).sum();
        if got > cap {
            let what = "bytes of the delta, unpacked";
            return Err(DeltaError::TooLarge { what, cap, got });
        }
        let mut streams: [Vec<u8>; COUNT] = Default::default();
        for (stream, (raw, packed)) in sizes.into_iter().enumerate() {
            let (own, rest) = bytes.split_at_checked(packed).ok_or(DeltaError::Truncated)?;
            bytes = rest;
            let damaged = DeltaError::Stream { stream: stream as u8 };
            streams[stream] = if raw == packed {
                own.to_vec()
            } else if raw < packed || raw as u64 > BEST_RATIO * packed as u64 + 64 {
                return Err(damaged);
            } else {
                let unpacked = decompress_to_vec_with_limit(own, raw).map_err(|_| damaged)?;
                if unpacked.len() != raw {
                    return Err(damaged);
                }
                unpacked
            };
        }
        Ok(Self {
            streams,
            at: [0; COUNT],
            codes: Decoder::new(bytes),
            models: Default::default(),
        })
    }

    /// Returns the next difference of codes.
    pub(super) fn code(&mut self, kind: usize) -> Option<u32> {
        self.models[kind].pop(&mut self.codes)
    }

    /// Takes `count` bytes of a stream.
    pub(super) fn take(&mut self, stream: usize, count: usize) -> Option<&[u8]> {
        let start = self.at[stream];
        let bytes = self.streams[stream].get(start..start.checked_add(count)?)?;
        self.at[stream] += count;
        Some(bytes)
    }

    pub(super) fn byte(&mut self, stream: usize) -> Option<u8> {
        self.take(stream, 1).map(|bytes| bytes[0])
    }

    pub(super) fn varint(&mut self, stream: usize) -> Option<usize> {
        let mut rest = &self.streams[stream][self.at[stream]..];
        let value = take_varint(&mut rest);
        self.at[stream] = self.streams[stream].len() - rest.len();
        value
    }

    /// Returns the position in a stream.
    pub(super) fn position(&self, stream: usize) -> usize {
        self.at[stream]
    }

    pub(super) fn is_at_end(&self, stream: usize) -> bool {
        self.at[stream] == self.streams[stream].len()
    }

    /// Returns whether every stream was consumed completely.
    pub(super) fn is_used_up(&self) -> bool {
        (0..COUNT).all(|stream| self.is_at_end(stream)) && self.codes.is_canonical()
    }
}
