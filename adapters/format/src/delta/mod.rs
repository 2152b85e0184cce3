//! Differences between two versions of a file: what travels when the other end has the older one.
//!
//! A difference rebuilds the new file's bytes exactly, and says so: it carries both digests. Layout in `docs/reference/update-protocol.md`,
//! "Differences". The reader knows nothing of adapters: it copies, takes literal bytes, and adds differences of packed codes to
//! those of the base. Only [`difference`] looks into adapter files, to find the codes.

mod apply;
mod bits;
mod difference;
mod matching;
mod range;
mod script;
mod streams;

pub use apply::apply;
pub use difference::difference;

use crate::Digest;

/// The first bytes of a difference.
const MAGIC: [u8; 4] = *b"CLRD";
/// The layout that is written and read.
const VERSION: u8 = 1;
/// Bytes in front of the table of streams: magic, version, two digests, length.
const PREFIX: usize = 73;

/// Why a difference cannot be applied. Nothing of its result is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaError {
    /// Not a difference.
    #[error("not a difference: the first 4 bytes are not the magic number")]
    Magic,
    /// A newer layout.
    #[error("difference version {got}, expected {expected}\nhint: send the whole file, or update this program")]
    Version {
        /// The version that this program reads.
        expected: u8,
        /// The version found.
        got: u8,
    },
    /// It ends early.
    #[error("the difference ends early\nhint: it was not copied whole; send it again")]
    Truncated,
    /// Bytes behind its end, or of a stream that nothing takes.
    #[error("the difference goes on behind its end")]
    TrailingBytes,
    /// A size beyond its cap. Nothing was allocated for it.
    #[error("{what}: {got}, at most {cap} allowed")]
    TooLarge {
        /// Which size.
        what: &'static str,
        /// The cap in force.
        cap: u64,
        /// The size claimed.
        got: u64,
    },
    /// It was made for another base.
    #[error("the difference is for base {}, got {}\nhint: send the whole file", .expected.short(), .got.short())]
    WrongBase {
        /// The base that it was made for.
        expected: Digest,
        /// The base given.
        got: Digest,
    },
    /// A compressed stream that is damaged.
    #[error("stream {stream} of the difference is damaged")]
    Stream {
        /// Its number.
        stream: u8,
    },
    /// An instruction that makes no sense.
    #[error("instruction {at} of the difference makes no sense")]
    Instruction {
        /// Where in the stream of instructions.
        at: usize,
    },
    /// It gives another file than it says.
    #[error("the difference gives {}, expected {}", .got.short(), .expected.short())]
    WrongTarget {
        /// The file that it says.
        expected: Digest,
        /// The file that it gives.
        got: Digest,
    },
}
