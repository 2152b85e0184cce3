//! Failures of requests: a code, a message and an optional hint.

use alloc::{borrow::ToOwned, string::String, string::ToString};

use serde::{Deserialize, Serialize};

/// Maximum bytes of a message or hint; longer ones are truncated.
const MAX_TEXT: usize = 1024;

/// Kind of a failure: stable numbers, grouped by 256.
///
/// | codes | refused by |
/// |---|---|
/// | 0 … 255 | the protocol |
/// | 256 … 511 | the rules for adapters: 256 + `Refusal::code()` |
/// | 512 … 767 | the store |
/// | 768 … 1023 | the engine, trials and canaries |
/// | 1024 … 1279 | tuning and teaching |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FailureCode(pub u16);

impl FailureCode {
    /// The message cannot be parsed, or its fields are inconsistent.
    pub const MALFORMED: Self = Self(1);
    /// The device does not know this request.
    pub const UNSUPPORTED: Self = Self(2);
    /// Device and host have no protocol version in common.
    pub const VERSION: Self = Self(3);
    /// The frame belongs to an unknown session: the host has to send `Hello` again.
    pub const SESSION: Self = Self(4);
    /// A size is beyond its cap.
    pub const TOO_LARGE: Self = Self(5);
    /// The chunk or commit belongs to an unknown transfer: the host has to send `Begin` again.
    pub const NO_TRANSFER: Self = Self(6);
    /// The received bytes do not match the announced digest and were discarded.
    pub const WRONG_DIGEST: Self = Self(7);
    /// The device is busy with another operation.
    pub const BUSY: Self = Self(8);
    /// The device shuts down.
    pub const STOPPING: Self = Self(9);
    /// An internal error occurred.
    pub const INTERNAL: Self = Self(10);
    /// The delta does not fit its base, or produces another file than announced.
    pub const DELTA: Self = Self(11);
    /// The base of a delta is missing: the host has to send the complete file.
    pub const NO_BASE: Self = Self(12);
    /// The device accepts only encrypted sessions with known hosts.
    pub const UNAUTHENTICATED: Self = Self(13);
    /// The host's roles do not permit the request.
    pub const NOT_ALLOWED: Self = Self(14);
    /// The host has exceeded its quota of requests or written bytes.
    pub const QUOTA: Self = Self(15);
    /// The device does not know the named host.
    pub const NO_HOST: Self = Self(16);

    /// Base of the codes of adapter refusals, to which `Refusal::code()` is added.
    pub const REFUSAL: u16 = 256;
    /// The task does not exist.
    pub const NO_TASK: Self = Self(512);
    /// The requested slot of the task (on trial, last good, original) is empty.
    pub const NO_FILE: Self = Self(513);
    /// The disk is full, or a cap of the store was reached.
    pub const FULL: Self = Self(514);
    /// Reading or writing failed.
    pub const STORAGE: Self = Self(515);
    /// The store is held by another process.
    pub const LOCKED: Self = Self(516);
    /// The engine cannot run the adapter.
    pub const ENGINE: Self = Self(768);
    /// A canary's result differs from the one in the adapter.
    pub const CANARY: Self = Self(769);
    /// The trial failed.
    pub const TRIAL: Self = Self(770);
    /// Tuning cannot start or went wrong.
    pub const TUNING: Self = Self(1024);
    /// The memory budget is too small.
    pub const BUDGET: Self = Self(1025);
    /// There are too few images.
    pub const EXAMPLES: Self = Self(1026);

    /// Returns the code of a refused adapter.
    #[must_use]
    pub const fn refusal(code: u8) -> Self {
        Self(Self::REFUSAL + code as u16)
    }

    /// Returns whether the received bytes differ from the sent ones, so that sending again may help. This is
    /// [`Self::WRONG_DIGEST`], or the same fault as an adapter refusal.
    pub(crate) const fn is_damage(self) -> bool {
        /// `Refusal::WrongDigest`.
        const REFUSED: FailureCode = FailureCode::refusal(3);
        matches!(self, Self::WRONG_DIGEST | REFUSED)
    }

    /// Returns a short name for logs and JSON; `other` for unknown numbers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MALFORMED => "malformed",
            Self::UNSUPPORTED => "unsupported",
            Self::VERSION => "version",
            Self::SESSION => "session",
            Self::TOO_LARGE => "too-large",
            Self::NO_TRANSFER => "no-transfer",
            Self::WRONG_DIGEST => "wrong-digest",
            Self::BUSY => "busy",
            Self::STOPPING => "stopping",
            Self::INTERNAL => "internal",
            Self::DELTA => "delta",
            Self::NO_BASE => "no-base",
            Self::UNAUTHENTICATED => "unauthenticated",
            Self::NOT_ALLOWED => "not-allowed",
            Self::QUOTA => "quota",
            Self::NO_HOST => "no-host",
            Self::NO_TASK => "no-task",
            Self::NO_FILE => "no-file",
            Self::FULL => "full",
            Self::STORAGE => "storage",
            Self::LOCKED => "locked",
            Self::ENGINE => "engine",
            Self::CANARY => "canary",
            Self::TRIAL => "trial",
            Self::TUNING => "tuning",
            Self::BUDGET => "budget",
            Self::EXAMPLES => "examples",
            Self(256..512) => "refused",
            Self(_) => "other",
        }
    }
}

impl core::fmt::Display for FailureCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

/// A failed request. The device's state has not changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind of the failure.
    pub code: FailureCode,
    /// One sentence, lower case, no trailing period.
    pub message: String,
    /// Advice on how to proceed.
    pub hint: Option<String>,
}

impl Failure {
    /// Creates a failure. The text after `\nhint: ` becomes the hint.
    pub fn new(code: FailureCode, text: impl core::fmt::Display) -> Self {
        let text = text.to_string();
        let (message, hint) = match text.split_once("\nhint: ") {
            Some((message, hint)) => (message.trim_end(), Some(hint.trim_end())),
            None => (text.as_str(), None),
        };
        Self {
            code,
            message: clipped(message, MAX_TEXT).to_owned(),
            hint: hint.map(|hint| clipped(hint, MAX_TEXT).to_owned()),
        }
    }
}

impl core::fmt::Display for Failure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for Failure {}

impl From<&clr_adapters::Refusal> for Failure {
    fn from(refusal: &clr_adapters::Refusal) -> Self {
        Self::new(FailureCode::refusal(refusal.code()), refusal)
    }
}

/// Truncates `text` to at most `cap` bytes.
pub(crate) fn clipped(text: &str, cap: usize) -> &str {
    &text[..text.floor_char_boundary(cap)]
}

#[cfg(test)]
mod tests {
    use clr_adapters::Refusal;

    use super::*;

    #[test]
    fn a_refusal_keeps_its_code_and_its_hint() {
        let failure = Failure::from(&Refusal::Unsigned);
        assert_eq!(failure.code, FailureCode(256 + u16::from(Refusal::Unsigned.code())));
        assert_eq!(failure.code.name(), "refused");
        let digest = clr_adapters::Digest([0; 32]);
        let damage = Failure::from(&Refusal::WrongDigest {
            expected: digest,
            got: digest,
        });
        assert!(damage.code.is_damage() && !failure.code.is_damage());
        assert_eq!(failure.to_string(), Refusal::Unsigned.to_string());
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let failure = Failure::new(FailureCode::INTERNAL, "ü".repeat(2000));
        assert_eq!(failure.message.len(), MAX_TEXT);
    }
}
