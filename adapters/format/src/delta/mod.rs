//! Deltas between two versions of a file, sent to a peer that has the older version.
//!
//! A delta contains the digests of both files, and reproduces the new file's bytes exactly. Layout:
//! `docs/reference/update-protocol.md`, "Deltas". The reader has no knowledge of adapters: it copies bytes from the
//! base, takes literal bytes, and adds differences to packed codes of the base. Only [`diff`] parses adapter files, to
//! find the codes.

mod apply;
mod bits;
mod compact;
mod diff;
mod matching;
mod model;

mod script;
mod streams;

pub use apply::apply;
pub use diff::diff;

use crate::Digest;

/// The first bytes of a delta.
const MAGIC: [u8; 4] = *b"CLRD";
/// The layout for files of any kind.
const VERSION: u8 = 1;
/// The layout for two adapters of format version 3.
const COMPACT: u8 = 2;
/// Bytes before the table of streams: magic, version, two digests, length.
const PREFIX: usize = 73;

/// Error of applying a delta. Nothing of its result is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaError {
    /// The bytes are not a delta.
    #[error("not a delta: the first 4 bytes are not the magic number")]
    Magic,
    /// The delta has a newer layout.
    #[error("delta version {got}, expected {expected}\nhint: send the complete file, or update this program")]
    Version {
        /// The newest version that this program reads.
        expected: u8,
        /// The version found.
        got: u8,
    },
    /// The delta ends early.
    #[error("the delta ends early\nhint: it was not copied completely; send it again")]
    Truncated,
    /// The delta has bytes after its end, or bytes in a stream that no instruction reads.
    #[error("trailing data after the delta")]
    TrailingBytes,
    /// A size is beyond its cap. Nothing was allocated for it.
    #[error("{what}: {got}, at most {cap} allowed")]
    TooLarge {
        /// The limited quantity.
        what: &'static str,
        /// The largest permitted size.
        cap: u64,
        /// The size claimed.
        got: u64,
    },
    /// The delta was made for another base.
    #[error("the delta is for base {}, got {}\nhint: send the complete file", .expected.short(), .got.short())]
    WrongBase {
        /// The base that it was made for.
        expected: Digest,
        /// The base given.
        got: Digest,
    },
    /// The delta has differences of adapters of format version 3, but the base is another file.
    #[error("the base is not an adapter of format version 3\nhint: send the complete file")]
    Base,
    /// The differences of the payload's codes are damaged, or do not fit the header.
    #[error("the payload of the delta is damaged")]
    Payload,
    /// A compressed stream is damaged.
    #[error("stream {stream} of the delta is damaged")]
    Stream {
        /// The stream's number.
        stream: u8,
    },
    /// An instruction is invalid.
    #[error("instruction {at} of the delta is invalid")]
    Instruction {
        /// Byte offset in the stream of instructions.
        at: usize,
    },
    /// The delta produces another file than announced.
    #[error("the delta produces {}, expected {}", .got.short(), .expected.short())]
    WrongTarget {
        /// The announced file.
        expected: Digest,
        /// The file produced.
        got: Digest,
    },
}
