//! Binary range coder, LZMA's. Models supply the probabilities.

use alloc::vec::Vec;

/// Below this range, the coder shifts out one byte and widens the range.
const NARROW: u32 = 1 << 24;

/// Bytes that a decoder reads ahead, and that an encoder writes at the end.
pub(crate) const AHEAD: usize = 5;

/// Coder of bits. An encoder writes the given bit; a decoder ignores it and returns the one it read, or `None` after the
/// end of its bytes.
pub(crate) trait Coder {
    /// Codes a bit. `bound` maps the current range to the part of it that stands for a 0.
    fn bit(&mut self, bound: impl FnOnce(u32) -> u32, bit: bool) -> Option<bool>;

    /// Codes a bit of even probability.
    fn even(&mut self, bit: bool) -> Option<bool>;

    /// Codes a byte of even probability.
    fn byte(&mut self, byte: u8) -> Option<u8>;
}

/// Range encoder.
pub(crate) struct Encoder {
    low: u64,
    range: u32,
    /// The last byte, and the number of 0xff bytes after it. A carry may still change both.
    last: u8,
    waiting: u64,
    out: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            low: 0,
            range: u32::MAX,
            last: 0,
            waiting: 1,
            out: Vec::new(),
        }
    }
}

impl Encoder {
    /// Returns the bytes; empty if nothing was coded.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        if self.range == u32::MAX && self.low == 0 {
            return Vec::new();
        }
        for _ in 0..AHEAD {
            self.shift();
        }
        self.out
    }

    fn shift(&mut self) {
        let (carry, low) = ((self.low >> 32) as u8, self.low as u32);
        if low < 0xff00_0000 || carry != 0 {
            self.out.push(self.last.wrapping_add(carry));
            for _ in 1..self.waiting {
                self.out.push(0xff_u8.wrapping_add(carry));
            }
            self.waiting = 0;
            self.last = (low >> 24) as u8;
        }
        self.waiting += 1;
        self.low = u64::from(low & 0x00ff_ffff) << 8;
    }

    fn widen(&mut self) {
        while self.range < NARROW {
            self.range <<= 8;
            self.shift();
        }
    }
}

impl Coder for Encoder {
    fn bit(&mut self, bound: impl FnOnce(u32) -> u32, bit: bool) -> Option<bool> {
        let bound = bound(self.range);
        if bit {
            self.low += u64::from(bound);
            self.range -= bound;
        } else {
            self.range = bound;
        }
        self.widen();
        Some(bit)
    }

    fn even(&mut self, bit: bool) -> Option<bool> {
        self.range >>= 1;
        if bit {
            self.low += u64::from(self.range);
        }
        self.widen();
        Some(bit)
    }

    fn byte(&mut self, byte: u8) -> Option<u8> {
        self.range >>= 8;
        self.low += u64::from(self.range) * u64::from(byte);
        self.widen();
        Some(byte)
    }
}

/// Range decoder; returns `None` after the end of its bytes.
pub(crate) struct Decoder<'a> {
    code: u32,
    range: u32,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Decoder<'a> {
    /// Creates a decoder of the bytes of [`Encoder::finish`].
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Self {
            code: 0,
            range: u32::MAX,
            bytes,
            at: 0,
        };
        for _ in 0..AHEAD {
            decoder.code = (decoder.code << 8) | u32::from(decoder.next().unwrap_or(0));
        }
        decoder
    }

    /// Returns whether every byte was consumed.
    pub(crate) fn is_at_end(&self) -> bool {
        self.bytes.is_empty() || self.at == self.bytes.len()
    }

    /// Returns the number of bytes that were read. The decoder reads [`AHEAD`] bytes ahead.
    pub(crate) fn position(&self) -> usize {
        self.at.min(self.bytes.len())
    }

    /// Returns the number of bytes that were not read.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.position()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied();
        self.at += 1;
        byte
    }

    fn widen(&mut self) -> Option<()> {
        while self.range < NARROW {
            self.range <<= 8;
            self.code = (self.code << 8) | u32::from(self.next()?);
        }
        Some(())
    }
}

impl Coder for Decoder<'_> {
    fn bit(&mut self, bound: impl FnOnce(u32) -> u32, _: bool) -> Option<bool> {
        let bound = bound(self.range);
        let bit = self.code >= bound;
        if bit {
            self.code -= bound;
            self.range -= bound;
        } else {
            self.range = bound;
        }
        self.widen()?;
        Some(bit)
    }

    fn even(&mut self, _: bool) -> Option<bool> {
        self.range >>= 1;
        let bit = self.code >= self.range;
        if bit {
            self.code -= self.range;
        }
        self.widen()?;
        Some(bit)
    }

    fn byte(&mut self, _: u8) -> Option<u8> {
        self.range >>= 8;
        // Damaged bytes may contain a code beyond the range.
        let byte = (self.code / self.range).min(255);
        self.code -= byte * self.range;
        self.widen()?;
        Some(byte as u8)
    }
}
