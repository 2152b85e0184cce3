//! Fields of 1 to 16 bits, lowest bit first, filled up with zeros to a whole byte.

use alloc::vec::Vec;

use super::CodeFault;

/// Bytes of `count` fields of `width` bits.
pub(super) const fn packed_bytes(width: u32, count: u64) -> u64 {
    (width as u64 * count).div_ceil(8)
}

/// Appends the lowest `width` bits of every value.
pub(super) fn pack(width: u32, values: impl IntoIterator<Item = u32>, out: &mut Vec<u8>) {
    let (mut pending, mut filled) = (0_u32, 0);
    for value in values {
        pending |= value << filled;
        filled += width;
        while filled >= 8 {
            out.push(pending as u8);
            pending >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        out.push(pending as u8);
    }
}

/// Reads fields one after the other.
pub(super) struct Fields<'a> {
    bytes: core::slice::Iter<'a, u8>,
    width: u32,
    pending: u32,
    filled: u32,
}

impl<'a> Fields<'a> {
    /// Takes the bytes of `count` fields off the front of `bytes`.
    pub(super) fn take(width: u32, count: u64, bytes: &mut &'a [u8]) -> Self {
        let (own, rest) = bytes.split_at(packed_bytes(width, count) as usize);
        *bytes = rest;
        Self {
            bytes: own.iter(),
            width,
            pending: 0,
            filled: 0,
        }
    }

    /// The next field; zero behind the end.
    pub(super) fn next(&mut self) -> u32 {
        while self.filled < self.width {
            self.pending |= u32::from(*self.bytes.next().unwrap_or(&0)) << self.filled;
            self.filled += 8;
        }
        let value = self.pending & ((1 << self.width) - 1);
        self.pending >>= self.width;
        self.filled -= self.width;
        value
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
