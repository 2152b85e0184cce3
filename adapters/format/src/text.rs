//! Text files edited by people: UTF-8, with or without a byte order mark.

use alloc::{string::String, vec::Vec};

/// The byte order mark, which some Windows editors write at the start of a file.
const MARK: char = '\u{feff}';

/// Error for bytes that are not text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The text is UTF-16, according to its byte order mark or its zero bytes.
    #[error("the text is UTF-16, expected UTF-8\nhint: save the file as UTF-8")]
    Utf16,
    /// The text contains a zero byte.
    #[error("byte {offset} is zero, expected UTF-8 text\nhint: is it the right file?")]
    Zero {
        /// Position of the zero byte, from 0.
        offset: usize,
    },
    /// The text is not valid UTF-8.
    #[error("byte {offset} (line {line}) is not UTF-8\nhint: save the file as UTF-8")]
    NotUtf8 {
        /// Position of the first invalid byte, from 0.
        offset: usize,
        /// Line of the first invalid byte, from 1.
        line: usize,
    },
}

/// Returns the text of a file's bytes, without the byte order mark.
///
/// # Errors
/// [`TextError`] if the bytes are not UTF-8 or contain a zero byte.
pub fn text_from_bytes(mut bytes: Vec<u8>) -> Result<String, TextError> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(TextError::Utf16);
    }
    if let Some(offset) = bytes.iter().position(|&byte| byte == 0) {
        // ASCII text in UTF-16 without a byte order mark: every other byte is zero.
        let mut others = bytes[offset..].iter().step_by(2).take(8);
        return Err(if offset < 2 && bytes.len() > 2 && others.all(|&byte| byte == 0) {
            TextError::Utf16
        } else {
            TextError::Zero { offset }
        });
    }
    let mut mark = [0; 4];
    if bytes.starts_with(MARK.encode_utf8(&mut mark).as_bytes()) {
        bytes.drain(..MARK.len_utf8());
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..offset];
        TextError::NotUtf8 {
            offset,
            line: before.split(|&byte| byte == b'\n').count(),
        }
    })
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_byte_order_mark_is_not_part_of_the_text() {
        assert_eq!(text_from_bytes(b"\xef\xbb\xbfa\r\nb".to_vec()).unwrap(), "a\r\nb");
        assert_eq!(text_from_bytes(b"a\xef\xbb\xbf".to_vec()).unwrap(), "a\u{feff}");
        assert_eq!(text_from_bytes(vec![]).unwrap(), "");
        assert_eq!(text_from_bytes(b"\xef\xbb\xbf".to_vec()).unwrap(), "");
    }

    #[test]
    fn other_text_encodings_are_reported() {
        let utf16 = |text: &str, big: bool| -> Vec<u8> {
            text.encode_utf16()
                .flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() })
                .collect()
        };
        for text in ["\u{feff}name = 'ü'\r\n", "name = 'a'\r\n"] {
            for big in [false, true] {
                assert_eq!(text_from_bytes(utf16(text, big)), Err(TextError::Utf16), "{text} {big}");
            }
        }
        assert_eq!(
            text_from_bytes(b"a long line\0".to_vec()),
            Err(TextError::Zero { offset: 11 })
        );
        assert_eq!(
            text_from_bytes(b"a\nb\nna\xefve\n".to_vec()),
            Err(TextError::NotUtf8 { offset: 6, line: 3 })
        );
    }
}
