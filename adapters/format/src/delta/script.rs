//! Writer of a delta's instructions. A cursor moves through the base; the target is written front to back.

use super::{
    bits::{packed_bytes, step},
    streams::{INSTRUCTIONS, LITERALS, Writer},
};
use crate::codec::bits::Fields;

/// Copies this many bytes at the cursor, and moves the cursor past them.
pub(super) const COPY: u8 = 0;
/// Moves the cursor by a zigzag number.
pub(super) const SEEK: u8 = 1;
/// Takes this many literal bytes.
pub(super) const LITERAL: u8 = 2;
/// Adds this many differences to the base's codes at the cursor, and moves the cursor past them. The next byte is the
/// width in bits, with [`DISTANCE_FLAG`] for distances.
pub(super) const CODES: u8 = 3;
/// Flag in the width byte for 6-bit distances of steps.
pub(super) const DISTANCE_FLAG: u8 = 0x80;

/// The last instruction, which may still be extended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pending {
    Nothing,
    Copy(usize),
    Literal(usize),
    Codes { width: u32, distances: bool, count: usize },
}

/// Writer of instructions; merges adjacent ones of the same kind.
pub(super) struct Script<'a> {
    base: &'a [u8],
    cursor: usize,
    pending: Pending,
    pub(super) streams: Writer,
}

impl<'a> Script<'a> {
    pub(super) fn new(base: &'a [u8]) -> Self {
        Self {
            base,
            cursor: 0,
            pending: Pending::Nothing,
            streams: Writer::default(),
        }
    }

    pub(super) fn cursor(&self) -> usize {
        self.cursor
    }

    fn flush(&mut self) {
        let (code, number) = match core::mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Nothing => return,
            Pending::Copy(count) => (COPY, count),
            Pending::Literal(count) => (LITERAL, count),
            Pending::Codes {
                width,
                distances,
                count,
            } => {
                let flag = if distances { DISTANCE_FLAG } else { 0 };
                self.streams.compressed[INSTRUCTIONS].extend([CODES, width as u8 | flag]);
                self.streams.varint(INSTRUCTIONS, count);
                return;
            }
        };
        self.streams.compressed[INSTRUCTIONS].push(code);
        self.streams.varint(INSTRUCTIONS, number);
    }

    fn seek(&mut self, to: usize) {
        if to == self.cursor {
            return;
        }
        self.flush();
        let distance = to as i64 - self.cursor as i64;
        self.streams.compressed[INSTRUCTIONS].push(SEEK);
        self.streams
            .varint(INSTRUCTIONS, ((distance << 1) ^ (distance >> 63)) as usize);
        self.cursor = to;
    }

    /// Copies `count` bytes of the base from `from` on.
    pub(super) fn copy(&mut self, from: usize, count: usize) {
        if count == 0 {
            return;
        }
        self.seek(from);
        self.cursor += count;
        if let Pending::Copy(before) = &mut self.pending {
            *before += count;
        } else {
            self.flush();
            self.pending = Pending::Copy(count);
        }
    }

    /// Writes literal bytes.
    pub(super) fn literal(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.streams.compressed[LITERALS].extend(bytes);
        if let Pending::Literal(before) = &mut self.pending {
            *before += bytes.len();
        } else {
            self.flush();
            self.pending = Pending::Literal(bytes.len());
        }
    }

    /// Writes the `count` codes of `width` bits in `target` as differences from the base's codes that start at `from`.
    pub(super) fn codes(&mut self, from: usize, width: u32, distances: bool, count: usize, target: &[u8]) {
        let source = &self.base[from..from + target.len()];
        if source == target {
            return self.copy(from, target.len());
        }
        debug_assert_eq!(packed_bytes(width, count), Some(target.len()));
        self.seek(from);
        let (mut old, mut new) = (Fields::new(width, source), Fields::new(width, target));
        for _ in 0..count {
            self.streams.code(width, distances, step(width, old.next(), new.next()));
        }
        self.cursor += target.len();
        match &mut self.pending {
            Pending::Codes {
                width: w,
                distances: d,
                count: before,
            } if (*w, *d) == (width, distances) && (*before * width as usize).is_multiple_of(8) => {
                *before += count;
            }
            _ => {
                self.flush();
                self.pending = Pending::Codes {
                    width,
                    distances,
                    count,
                };
            }
        }
    }

    pub(super) fn finish(mut self) -> Writer {
        self.flush();
        self.streams
    }
}
