//! Fields of 1 to 32 bits, lowest bit first, as the codes of an adapter file are packed, and how a difference of two is written.

use alloc::vec::Vec;

/// Bytes of `count` fields of `width` bits.
pub(super) const fn packed_bytes(width: u32, count: usize) -> Option<usize> {
    match count.checked_mul(width as usize) {
        Some(bits) => Some(bits.div_ceil(8)),
        None => None,
    }
}

/// Reads fields; zeros behind the end.
pub(super) struct Fields<'a> {
    bytes: core::slice::Iter<'a, u8>,
    width: u32,
    pending: u64,
    filled: u32,
}

impl<'a> Fields<'a> {
    pub(super) fn new(width: u32, bytes: &'a [u8]) -> Self {
        Self {
            bytes: bytes.iter(),
            width,
            pending: 0,
            filled: 0,
        }
    }

    pub(super) fn next(&mut self) -> u32 {
        while self.filled < self.width {
            self.pending |= u64::from(*self.bytes.next().unwrap_or(&0)) << self.filled;
            self.filled += 8;
        }
        let value = self.pending & ((1 << self.width) - 1);
        self.pending >>= self.width;
        self.filled -= self.width;
        value as u32
    }
}

/// Writes fields.
#[derive(Default)]
pub(super) struct Packer {
    pending: u64,
    filled: u32,
}

impl Packer {
    pub(super) fn push(&mut self, width: u32, value: u32, out: &mut Vec<u8>) {
        self.pending |= u64::from(value) << self.filled;
        self.filled += width;
        while self.filled >= 8 {
            out.push(self.pending as u8);
            self.pending >>= 8;
            self.filled -= 8;
        }
    }

    /// Fills up the last byte with zeros.
    pub(super) fn finish(self, out: &mut Vec<u8>) {
        if self.filled > 0 {
            out.push(self.pending as u8);
        }
    }
}

const fn mask(width: u32) -> u32 {
    u32::MAX >> (32 - width)
}

/// `target - base` modulo 2^width, small steps either way as small numbers: 0, -1, 1, -2, 2, … become 0, 1, 2, 3, 4, ….
pub(super) fn step(width: u32, base: u32, target: u32) -> u32 {
    let difference = target.wrapping_sub(base) & mask(width);
    let sign = difference >> (width - 1);
    let magnitude = if sign == 1 { !difference } else { difference };
    ((magnitude << 1) | sign) & mask(width)
}

/// Undoes [`step`].
pub(super) fn stepped(width: u32, base: u32, step: u32) -> u32 {
    let difference = if step & 1 == 1 { !(step >> 1) } else { step >> 1 };
    base.wrapping_add(difference) & mask(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_undone_and_small_ones_are_small() {
        for width in [6, 8, 10, 12, 16, 32] {
            let values = [0, 1, 2, 5, 31, mask(width) >> 1, mask(width) - 1, mask(width)];
            for base in values {
                for target in values {
                    let step = step(width, base, target);
                    assert!(step <= mask(width));
                    assert_eq!(stepped(width, base, step), target, "{width} bits, {base} to {target}");
                }
            }
            assert_eq!([0, 1, 2, 3, 4].map(|target| step(width, 2, target)), [3, 1, 0, 2, 4]);
        }
    }
}
