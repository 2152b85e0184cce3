//! Reader of one `numpy` array in a pickle, without executing anything.
//!
//! It looks for the one large byte string and, before it, the shape and the element type; other opcodes are skipped.
//! Any opcode outside the short list that `numpy` writes for a plain array is refused.

use crate::FetchError;

/// The array: shape, element type such as `u1` or `i8`, raw bytes in row-major order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Array<'a> {
    pub(super) shape: Vec<usize>,
    pub(super) element: String,
    pub(super) bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// Reads the array of a protocol 2–5 pickle.
    pub(super) fn parse(pickle: &'a [u8]) -> Result<Self, FetchError> {
        let mut reader = Reader { rest: pickle };
        // Integers since the last mark or tuple, which are the elements of the next tuple.
        let mut integers: Vec<usize> = Vec::new();
        let mut shape = None;
        let mut element = None;
        let mut bytes = None;
        let mut reconstructed = false;
        loop {
            match reader.byte()? {
                // PROTO, BINPUT, BINGET
                0x80 | b'q' | b'h' => reader.skip(1)?,
                // FRAME
                0x95 => reader.skip(8)?,
                // LONG_BINPUT, LONG_BINGET, BININT (alignment -1)
                b'r' | b'j' | b'J' => reader.skip(4)?,
                // MEMOIZE, STACK_GLOBAL, NONE, NEWTRUE, NEWFALSE, BUILD, EMPTY_TUPLE, TUPLE
                0x94 | 0x93 | b'N' | 0x88 | 0x89 | b'b' | b')' | b't' => {}
                // REDUCE
                b'R' => {
                    reconstructed = true;
                    integers.clear();
                }
                // MARK
                b'(' => integers.clear(),
                // BININT1
                b'K' => integers.push(usize::from(reader.byte()?)),
                // BININT2
                b'M' => integers.push(reader.number(2)?),
                // TUPLE1, TUPLE2, TUPLE3
                tuple @ 0x85..=0x87 => {
                    let wanted = usize::from(tuple - 0x84);
                    // The first tuple of integers after the array's own REDUCE is its shape; the version 1 precedes it.
                    if reconstructed && shape.is_none() && integers.len() >= wanted {
                        shape = Some(integers[integers.len() - wanted..].to_vec());
                    }
                    integers.clear();
                }
                // SHORT_BINUNICODE
                0x8c => {
                    let length = usize::from(reader.byte()?);
                    let text = reader.take(length)?;
                    if shape.is_some() && element.is_none() && text != b"dtype" {
                        element = Some(String::from_utf8_lossy(text).into_owned());
                    }
                }
                // SHORT_BINBYTES, BINBYTES, BINBYTES8
                opcode @ (b'C' | b'B' | 0x8e) => {
                    let length = reader.number(match opcode {
                        b'C' => 1,
                        b'B' => 4,
                        _ => 8,
                    })?;
                    let data = reader.take(length)?;
                    if shape.is_some() {
                        bytes = Some(data);
                    }
                }
                // STOP
                b'.' => break,
                other => return Err(broken(format!("opcode {other:#04x} is not part of a plain array"))),
            }
        }
        match (shape, element, bytes) {
            (Some(shape), Some(element), Some(bytes)) => {
                let width: usize = element[1..]
                    .parse()
                    .map_err(|_| broken(format!("element type '{element}'")))?;
                let wanted = shape.iter().try_fold(width, |product, &size| product.checked_mul(size));
                if wanted != Some(bytes.len()) {
                    return Err(broken(format!(
                        "{} bytes do not fill {shape:?} of {element}",
                        bytes.len()
                    )));
                }
                Ok(Self { shape, element, bytes })
            }
            _ => Err(broken("it has no array".to_owned())),
        }
    }
}

fn broken(detail: String) -> FetchError {
    FetchError::content("NumPy pickle", detail)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], FetchError> {
        let (head, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| broken("cut short".to_owned()))?;
        self.rest = rest;
        Ok(head)
    }

    fn skip(&mut self, length: usize) -> Result<(), FetchError> {
        self.take(length).map(|_| ())
    }

    fn byte(&mut self) -> Result<u8, FetchError> {
        self.take(1).map(|byte| byte[0])
    }

    /// Reads a little-endian number of `width` bytes.
    fn number(&mut self, width: usize) -> Result<usize, FetchError> {
        let bytes = self.take(width)?;
        let value = bytes
            .iter()
            .rev()
            .fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
        usize::try_from(value).map_err(|_| broken("too large".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns numpy 1.26's pickle (protocol 4) of an array of shape `[2, 3]` and type `u1`.
    fn pickle() -> Vec<u8> {
        let mut bytes = b"\x80\x04\x95\x82\0\0\0\0\0\0\0".to_vec();
        bytes.extend_from_slice(b"\x8c\x15numpy.core.multiarray\x94\x8c\x0c_reconstruct\x94\x93\x94");
        bytes.extend_from_slice(b"\x8c\x05numpy\x94\x8c\x07ndarray\x94\x93\x94K\0\x85\x94C\x01b\x94\x87\x94R\x94");
        bytes.extend_from_slice(
            b"(K\x01K\x02K\x03\x86\x94h\x03\x8c\x05dtype\x94\x93\x94\x8c\x02u1\x94\x89\x88\x87\x94R\x94",
        );
        bytes.extend_from_slice(b"(K\x03\x8c\x01|\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0t\x94b\x89");
        bytes.extend_from_slice(b"B\x06\0\0\0abcdef\x94t\x94b.");
        bytes
    }

    #[test]
    fn a_plain_array_is_read() {
        let bytes = pickle();
        let array = Array::parse(&bytes).unwrap();
        assert_eq!(
            array,
            Array {
                shape: vec![2, 3],
                element: "u1".to_owned(),
                bytes: b"abcdef"
            }
        );
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = pickle();
        for length in 0..bytes.len() {
            assert!(Array::parse(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn an_opcode_that_could_run_code_is_refused() {
        // GLOBAL os system
        let error = Array::parse(b"\x80\x02cos\nsystem\n.").unwrap_err();
        assert!(error.to_string().contains("opcode 0x63"), "{error}");
    }
}
