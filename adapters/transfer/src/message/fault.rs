//! Faults of messages, and parsing that requests and replies share.

use alloc::borrow::ToOwned;

use serde::Deserialize;

use crate::failure::{Failure, FailureCode};

/// Fault of a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageFault {
    /// The message is truncated, or has an invalid field.
    #[error("the message cannot be read")]
    Unreadable,
    /// The kind of the message is unknown.
    #[error("message kind {kind} is unknown\nhint: the peer is newer; update this one")]
    Unknown {
        /// The number of the kind.
        kind: u32,
    },
    /// The message has trailing bytes.
    #[error("{left} bytes of trailing data after the message")]
    Rest {
        /// The number of these bytes.
        left: usize,
    },
    /// A field is beyond its cap.
    #[error("{what}: {got}, at most {cap} allowed")]
    TooLarge {
        /// The name of the field.
        what: &'static str,
        /// The cap.
        cap: u64,
        /// The size.
        got: u64,
    },
    /// A name is empty.
    #[error("the {what} is empty")]
    Empty {
        /// The name of the field.
        what: &'static str,
    },
}

impl From<MessageFault> for Failure {
    fn from(fault: MessageFault) -> Self {
        let code = match fault {
            MessageFault::Unknown { .. } => FailureCode::UNSUPPORTED,
            MessageFault::TooLarge { .. } => FailureCode::TOO_LARGE,
            _ => FailureCode::MALFORMED,
        };
        let text = match fault {
            MessageFault::Unknown { kind } => {
                return Self {
                    hint: Some("the host is newer; update the device".to_owned()),
                    ..Self::new(code, format_args!("request {kind} is unknown to this device"))
                };
            }
            fault => fault,
        };
        Self::new(code, text)
    }
}

/// Returns the variant number at the start of `bytes`, encoded as postcard's LEB128.
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
