//! Refusals before a session is open. They are hints to the host and are not authenticated.

use alloc::vec::Vec;

use crate::frame::{Direction, Head, encode_frame};

/// Reason for refusing a session. It is sent unencrypted, so it is a hint for people and never a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[repr(u8)]
pub enum AccessRefusal {
    /// The host's key is not enrolled, or was revoked.
    #[error(
        "the device does not know this host\nhint: `clr-device enrol --role update` on the device shows a code for `clr device enrol`"
    )]
    UnknownHost = 1,
    /// The handshake was encrypted for another device key.
    #[error(
        "the device has another key than the one remembered: it was replaced or reset, or something in between answers for it\n\
         hint: if that is expected, `clr device forget ENDPOINT`, then enrol again"
    )]
    WrongKey = 2,
    /// A sealed frame arrived without a session, because the device has restarted.
    #[error("the device no longer has this session")]
    NoSession = 3,
    /// The code of an enrolment is wrong.
    #[error(
        "the code is wrong\nhint: type it as the device shows it; after five wrong ones enrolment closes for an hour"
    )]
    WrongCode = 4,
    /// No enrolment is open: it was never opened, has expired, was used, or was closed after wrong codes.
    #[error("the device has no enrolment open\nhint: `clr-device enrol --role update` on the device shows a new code")]
    NotOpen = 5,
    /// Only encrypted sessions are accepted.
    #[error(
        "the device accepts only known hosts\nhint: `clr-device enrol --role update` on the device shows a code for `clr device enrol`"
    )]
    PlainNotTaken = 6,
    /// The device cannot open an encrypted session.
    #[error(
        "the device cannot open an encrypted session\nhint: its log has the reason; its control socket still works"
    )]
    Unavailable = 7,
    /// Too many connections, from this host or in total.
    #[error("the device has too many connections\nhint: close others, or try again in a few seconds")]
    Busy = 8,
}

impl AccessRefusal {
    /// Returns the refusal with this number; `None` if the number is unknown.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::UnknownHost,
            2 => Self::WrongKey,
            3 => Self::NoSession,
            4 => Self::WrongCode,
            5 => Self::NotOpen,
            6 => Self::PlainNotTaken,
            7 => Self::Unavailable,
            8 => Self::Busy,
            _ => return None,
        })
    }

    /// Returns a short name, for logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownHost => "unknown-host",
            Self::WrongKey => "wrong-key",
            Self::NoSession => "no-session",
            Self::WrongCode => "wrong-code",
            Self::NotOpen => "not-open",
            Self::PlainNotTaken => "plain-not-taken",
            Self::Unavailable => "unavailable",
            Self::Busy => "busy",
        }
    }
}

impl AccessRefusal {
    /// Returns the frame with the refusal, for the handshake of `session` or for no handshake (0).
    #[must_use]
    pub fn frame(self, session: u32) -> Vec<u8> {
        let head = Head {
            direction: Direction::Handshake,
            session,
            sequence: 0,
        };
        let mut body = Vec::with_capacity(Head::BYTES + 5);
        head.write(&mut body);
        body.push(self as u8);
        let mut out = Vec::new();
        encode_frame(&mut body, &mut out);
        out
    }

    /// Returns the refusal that a frame contains for `session`.
    pub(crate) fn of(head: Head, message: &[u8], session: u32) -> Option<Self> {
        let mine = head.direction == Direction::Handshake && head.sequence == 0;
        match message {
            &[code] if mine && (head.session == session || head.session == 0) => Self::from_code(code),
            _ => None,
        }
    }
}
