//! Enrolment codes: 100 random bits in Crockford's base 32.

use alloc::{string::String, vec::Vec};
use core::{fmt, str::FromStr};

use clr_adapters::Digest;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a code, 5 bits each.
const LENGTH: usize = 20;
/// Characters between two dashes.
const GROUP: usize = 5;

/// A one-time code, which the device displays and a person types on the host.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrolmentCode([u8; LENGTH]);

/// Error for text that is not a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a code has {LENGTH} letters and digits, got {got}\nhint: `clr-device enrol` on the device shows one")]
pub struct CodeError {
    got: usize,
}

impl EnrolmentCode {
    /// Creates a code from random bytes. Five bits of each byte are used.
    #[must_use]
    pub fn from_random(bytes: [u8; LENGTH]) -> Self {
        Self(bytes.map(|byte| ALPHABET[usize::from(byte & 31)]))
    }

    /// Returns the pre-shared key of the handshake: SHA-256 of `clr enrol 1`, a zero byte and the code.
    #[must_use]
    pub fn psk(&self) -> [u8; 32] {
        let mut text = b"clr enrol 1\0".to_vec();
        text.extend(self.0);
        Digest::of(&text).0
    }
}

impl fmt::Display for EnrolmentCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, &letter) in self.0.iter().enumerate() {
            if index > 0 && index % GROUP == 0 {
                f.write_str("-")?;
            }
            write!(f, "{}", letter as char)?;
        }
        Ok(())
    }
}

impl fmt::Debug for EnrolmentCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnrolmentCode")
    }
}

impl FromStr for EnrolmentCode {
    type Err = CodeError;

    /// Parses a typed code. Accepts lower case, spaces and dashes anywhere, `O` for `0`, and `I` and `L` for `1`.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        let letters: String = text
            .chars()
            .filter(|c| !matches!(c, '-' | ' ' | '\t' | '\n' | '\r'))
            .collect();
        let got = letters.chars().count();
        let read = letters.bytes().map(|byte| match byte.to_ascii_uppercase() {
            b'O' => Some(b'0'),
            b'I' | b'L' => Some(b'1'),
            letter => ALPHABET.contains(&letter).then_some(letter),
        });
        let read: Option<Vec<u8>> = read.collect();
        let code = read.and_then(|letters| letters.try_into().ok());
        code.map(Self).ok_or(CodeError { got })
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn a_code_is_read_as_people_type_it() {
        let code = EnrolmentCode::from_random(core::array::from_fn(|at| (at * 37) as u8));
        let text = code.to_string();
        assert_eq!(text.len(), 23);
        assert_eq!(text.parse(), Ok(code.clone()));
        let typed = text
            .to_lowercase()
            .replace('-', " ")
            .replace('0', "o")
            .replace('1', "l");
        assert_eq!(typed.parse(), Ok(code.clone()));
        assert_ne!(code.psk(), EnrolmentCode::from_random([0; 20]).psk());
        for wrong in ["", "123", "U0000-00000-00000-00000", &text[1..]] {
            assert!(wrong.parse::<EnrolmentCode>().is_err(), "{wrong}");
        }
    }
}
