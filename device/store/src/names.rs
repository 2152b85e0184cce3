//! File names of tasks: reversible, without a dot, and the same on every file system.
//!
//! `a`–`z`, `0`–`9`, `-` and `_` are kept; every other byte of the UTF-8 name becomes `%` and two hexadecimal digits.
//! If the result is longer than [`LONGEST`], it is replaced by `~` and the base-32 digits (`a`–`z`, `2`–`7`) of the
//! name's bytes. So the longest task name (128 bytes) fits into the 255 bytes of common file systems, with space for a
//! suffix.

use clr_adapters::Digest;

/// Characters of the longest encoded name.
pub(crate) const LONGEST: usize = 210;

const BASE_32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Returns the file name of a task; `None` if the name is empty or too long.
pub(crate) fn encode(task: &str) -> Option<String> {
    let mut name = String::new();
    for byte in task.bytes() {
        if is_plain(byte) {
            name.push(byte as char);
        } else {
            let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
            name.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    if name.len() > LONGEST {
        name = base_32(task.as_bytes());
    }
    (1..=LONGEST).contains(&name.len()).then_some(name)
}

/// Returns the task that a file name belongs to; `None` if [`encode`] never produces this name.
pub(crate) fn decode(name: &str) -> Option<String> {
    let bytes = match name.strip_prefix('~') {
        Some(digits) => from_base_32(digits)?,
        None => from_percent(name)?,
    };
    let task = String::from_utf8(bytes).ok()?;
    (encode(&task)? == name).then_some(task)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
}

fn from_percent(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            bytes.push((digit()? * 16 + digit()?) as u8);
        } else {
            bytes.push(byte);
        }
    }
    Some(bytes)
}

fn base_32(bytes: &[u8]) -> String {
    let mut name = String::from("~");
    let (mut held, mut bits) = (0_u32, 0);
    for &byte in bytes {
        held = held << 8 | u32::from(byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            name.push(BASE_32[(held >> bits & 31) as usize] as char);
        }
    }
    if bits > 0 {
        name.push(BASE_32[(held << (5 - bits) & 31) as usize] as char);
    }
    name
}

fn from_base_32(digits: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(digits.len() * 5 / 8);
    let (mut held, mut bits) = (0_u32, 0);
    for digit in digits.bytes() {
        held = held << 5 | BASE_32.iter().position(|&known| known == digit)? as u32;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    Some(bytes)
}

/// Parses a digest of 64 lower-case hexadecimal digits.
pub(crate) fn digest(name: &str) -> Option<Digest> {
    let (pairs, []) = name.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let mut digest = [0; 32];
    if pairs.len() != digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(pairs) {
        let digit = |at: usize| {
            char::from(pair[at])
                .to_digit(16)
                .filter(|_| !pair[at].is_ascii_uppercase())
        };
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(Digest(digest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_name_survives_encoding_as_a_safe_file_name(task in "\\PC{1,32}") {
            let name = encode(&task).unwrap();
            let safe = |byte: u8| is_plain(byte) || byte == b'%' || byte == b'~';
            prop_assert!(name.bytes().all(safe));
            prop_assert_eq!(decode(&name), Some(task));
        }
    }

    #[test]
    fn the_longest_names_fit() {
        for task in [
            "/".repeat(128),
            "ツ".repeat(42),
            "a".repeat(128),
            "..".into(),
            "CON".into(),
        ] {
            let name = encode(&task).unwrap();
            assert!(name.len() <= LONGEST);
            assert_eq!(decode(&name), Some(task));
        }
        assert_eq!(encode(""), None);
        assert_eq!(encode(&"/".repeat(140)), None);
    }

    #[test]
    fn other_spellings_are_not_names() {
        for name in ["", "%", "%4", "%zz", "%61", "%2F", "A", "~", "~a", "a.b", "~mfra"] {
            assert_eq!(decode(name), None, "{name}");
        }
    }

    #[test]
    fn digests_survive_their_text() {
        let known = Digest::of(b"adapter");
        assert_eq!(digest(&known.to_string()), Some(known));
        assert_eq!(digest(&known.to_string().to_uppercase()), None);
        assert_eq!(digest(&known.to_string()[1..]), None);
    }
}
