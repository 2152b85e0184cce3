//! Bit fields of 1 to 32 bits, lowest bit first, padded with zeros to a byte.

use alloc::vec::Vec;

use super::CodeFault;

/// Returns the bytes of `count` fields of `width` bits.
pub(super) const fn packed_bytes(width: u32, count: u64) -> u64 {
    (width as u64 * count).div_ceil(8)
}

/// Writer of fields.
#[derive(Default)]
pub(crate) struct Packer {
    pending: u64,
    filled: u32,
}

impl Packer {
    /// Appends a value of at most `width` bits.
    pub(crate) fn push(&mut self, width: u32, value: u32, out: &mut Vec<u8>) {
        self.pending |= u64::from(value) << self.filled;
        self.filled += width;
        while self.filled >= 8 {
            out.push(self.pending as u8);
            self.pending >>= 8;
            self.filled -= 8;
        }
    }

    /// Pads the last byte with zeros.
    pub(crate) fn finish(self, out: &mut Vec<u8>) {
        if self.filled > 0 {
            out.push(self.pending as u8);
        }
    }
}

/// Appends the lowest `width` bits of every value.
pub(super) fn pack(width: u32, values: impl IntoIterator<Item = u32>, out: &mut Vec<u8>) {
    let mut packer = Packer::default();
    for value in values {
        packer.push(width, value, out);
    }
    packer.finish(out);
}

/// Reader of fields.
pub(crate) struct Fields<'a> {
    bytes: core::slice::Iter<'a, u8>,
    width: u32,
    pending: u64,
    filled: u32,
}

impl<'a> Fields<'a> {
    /// Splits the bytes of `count` fields off the front of `bytes`.
    pub(super) fn take(width: u32, count: u64, bytes: &mut &'a [u8]) -> Self {
        let (own, rest) = bytes.split_at(packed_bytes(width, count) as usize);
        *bytes = rest;
        Self::new(width, own)
    }

    /// Creates a reader of the fields in `bytes`.
    pub(crate) fn new(width: u32, bytes: &'a [u8]) -> Self {
        Self {
            bytes: bytes.iter(),
            width,
            pending: 0,
            filled: 0,
        }
    }

    /// Returns the next field; zero after the end.
    pub(crate) fn next(&mut self) -> u32 {
        while self.filled < self.width {
            self.pending |= u64::from(*self.bytes.next().unwrap_or(&0)) << self.filled;
            self.filled += 8;
        }
        let value = self.pending & ((1 << self.width) - 1);
        self.pending >>= self.width;
        self.filled -= self.width;
        value as u32
    }

    /// Checks that the rest is zeros.
    pub(super) fn finish(self) -> Result<(), CodeFault> {
        if self.pending == 0 && self.bytes.as_slice().is_empty() {
            Ok(())
        } else {
            Err(CodeFault::Padding)
        }
    }
}
