//! Why a message cannot be used, and the reading that both ways share.

use serde::Deserialize;

/// Why a message cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageFault {
    /// Cut, or a field that is not what it should be.
    #[error("the message cannot be read")]
    Unreadable,
    /// A kind of message that this version does not know.
    #[error("message kind {kind} is unknown\nhint: the other end is newer; update this one")]
    Unknown {
        /// Its number.
        kind: u32,
    },
    /// Bytes behind the message.
    #[error("{left} bytes left over behind the message")]
    Rest {
        /// How many.
        left: usize,
    },
    /// A field beyond its cap.
    #[error("{what}: {got}, at most {cap} allowed")]
    TooLarge {
        /// Which.
        what: &'static str,
        /// The cap.
        cap: u64,
        /// The size.
        got: u64,
    },
    /// A name without characters.
    #[error("the {what} is empty")]
    Empty {
        /// Which.
        what: &'static str,
    },
}

/// The number of the variant that `bytes` start with, in postcard's LEB128.
pub(super) fn variant(bytes: &[u8]) -> Option<u32> {
    postcard::take_from_bytes::<u32>(bytes).ok().map(|(kind, _)| kind)
}

pub(super) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8], known: u32) -> Result<T, MessageFault> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(MessageFault::Rest { left: rest.len() }),
        Err(_) => Err(match variant(bytes) {
            Some(kind) if kind >= known => MessageFault::Unknown { kind },
            _ => MessageFault::Unreadable,
        }),
    }
}

pub(super) fn name(what: &'static str, text: &str, cap: usize) -> Result<(), MessageFault> {
    if text.is_empty() {
        return Err(MessageFault::Empty { what });
    }
    if text.len() > cap {
        let (cap, got) = (cap as u64, text.len() as u64);
        return Err(MessageFault::TooLarge { what, cap, got });
    }
    Ok(())
}
