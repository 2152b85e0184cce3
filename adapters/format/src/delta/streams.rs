//! The streams of a difference: numbers of one kind together, each stream compressed on its own.

use alloc::vec::Vec;

use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec_with_limit};

use super::DeltaError;

/// How many there are.
pub(super) const COUNT: usize = 9;
/// What to do: see `script.rs`.
pub(super) const INSTRUCTIONS: usize = 0;
/// Bytes that the base has nothing for.
pub(super) const LITERALS: usize = 1;
/// Differences of the 6-bit distances of steps.
pub(super) const DISTANCES: usize = 2;
/// Differences of other codes of 6 bits.
pub(super) const SIX: usize = 3;
/// Differences of codes of 8 bits.
pub(super) const EIGHT: usize = 4;
/// The lowest bytes of differences of wider codes; the others follow in the next streams.
pub(super) const WIDE: usize = 5;

/// DEFLATE never does better than this.
const BEST_RATIO: u64 = 1032;
/// Effort of the compressor, of 10.
const EFFORT: u8 = 10;
/// What streams may hold together beyond twice the file that comes out.
const SPARE: u64 = 4096;

/// The streams that differences of codes go to: one for each byte of a code.
pub(super) fn planes(width: u32, distances: bool) -> core::ops::Range<usize> {
    match width {
        6 if distances => DISTANCES..DISTANCES + 1,
        ..8 => SIX..SIX + 1,
        8 => EIGHT..EIGHT + 1,
        _ => WIDE..WIDE + width.div_ceil(8) as usize,
    }
}

fn push_varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a number of at most 32 bits off the front of `bytes`.
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

/// Being written.
#[derive(Default)]
pub(super) struct Writer(pub(super) [Vec<u8>; COUNT]);

impl Writer {
    pub(super) fn varint(&mut self, stream: usize, value: usize) {
        push_varint(value, &mut self.0[stream]);
    }

    /// Appends the table and the streams, compressed where that helps.
    pub(super) fn finish(self, out: &mut Vec<u8>) {
        let packed = self.0.iter().map(|raw| {
            let packed = compress_to_vec(raw, EFFORT);
            if packed.len() < raw.len() { packed } else { raw.clone() }
        });
        let packed: Vec<_> = packed.collect();
        for (raw, packed) in self.0.iter().zip(&packed) {
            push_varint(raw.len(), out);
            push_varint(packed.len(), out);
        }
        for packed in packed {
            out.extend(packed);
        }
    }
}

/// Being read.
pub(super) struct Reader {
    streams: [Vec<u8>; COUNT],
    at: [usize; COUNT],
}

impl Reader {
    /// Reads the table and unpacks the streams of a difference that makes a file of `target` bytes.
    pub(super) fn open(mut bytes: &[u8], target: usize) -> Result<Self, DeltaError> {
        let mut sizes = [(0, 0); COUNT];
        for size in &mut sizes {
            let mut number = || take_varint(&mut bytes).ok_or(DeltaError::Truncated);
            *size = (number()?, number()?);
        }
        let cap = 2 * target as u64 + SPARE;
        let got = sizes.iter().map(|&(raw, _)| raw as u64).sum();
        if got > cap {
            let what = "bytes of the difference, unpacked";
            return Err(DeltaError::TooLarge { what, cap, got });
        }
        let mut reader = Self {
            streams: Default::default(),
            at: [0; COUNT],
        };
        for (stream, (raw, packed)) in sizes.into_iter().enumerate() {
            let (own, rest) = bytes.split_at_checked(packed).ok_or(DeltaError::Truncated)?;
            bytes = rest;
            let damaged = DeltaError::Stream { stream: stream as u8 };
            reader.streams[stream] = if raw == packed {
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
        if bytes.is_empty() {
            Ok(reader)
        } else {
            Err(DeltaError::TrailingBytes)
        }
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

    /// Where a stream stands.
    pub(super) fn position(&self, stream: usize) -> usize {
        self.at[stream]
    }

    pub(super) fn is_at_end(&self, stream: usize) -> bool {
        self.at[stream] == self.streams[stream].len()
    }

    /// Whether every stream was taken whole.
    pub(super) fn is_used_up(&self) -> bool {
        (0..COUNT).all(|stream| self.is_at_end(stream))
    }
}
