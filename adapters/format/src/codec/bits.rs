//! Fields of 1 to 32 bits, lowest bit first, filled up with zeros to a whole byte.

use alloc::vec::Vec;

use super::CodeFault;

/// Bytes of `count` fields of `width` bits.
pub(super) const fn packed_bytes(width: u32, count: u64) -> u64 {
    (width as u64 * count).div_ceil(8)
}

/// Writes fields one after the other.
#[derive(Default)]
pub(crate) struct Packer {
    pending: u64,
    filled: u32,
}

impl Packer {
    /// Appends the lowest `width` bits of a value that has no others.
    pub(crate) fn push(&mut self, width: u32, value: u32, out: &mut Vec<u8>) {
        self.pending |= u64::from(value) << self.filled;
        self.filled += width;
        while self.filled >= 8 {
            out.push(self.pending as u8);
            self.pending >>= 8;
            self.filled -= 8;
        }
    }

    /// Fills up the last byte with zeros.
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

/// Reads fields one after the other.
pub(crate) struct Fields<'a> {
    bytes: core::slice::Iter<'a, u8>,
    width: u32,
    pending: u64,
    filled: u32,
}

impl<'a> Fields<'a> {
    /// Takes the bytes of `count` fields off the front of `bytes`.
    pub(super) fn take(width: u32, count: u64, bytes: &mut &'a [u8]) -> Self {
        let (own, rest) = bytes.split_at(packed_bytes(width, count) as usize);
        *bytes = rest;
        Self::new(width, own)
    }

    /// The fields in `bytes`.
    pub(crate) fn new(width: u32, bytes: &'a [u8]) -> Self {
        Self {
            bytes: bytes.iter(),
            width,
            pending: 0,
            filled: 0,
        }
    }

    /// The next field; zero behind the end.
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

    /// Checks that nothing but zeros is left.
    pub(super) fn finish(self) -> Result<(), CodeFault> {
        if self.pending == 0 && self.bytes.as_slice().is_empty() {
            Ok(())
        } else {
            Err(CodeFault::Padding)
        }
    }
}
