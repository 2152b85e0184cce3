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

/// Range decoder; returns `None` after the end of its bytes, or if no encoder wrote them.
pub(crate) struct Decoder<'a> {
    /// The number in the bytes read so far, minus the encoder's `low`: below `range` if an encoder wrote the bytes.
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

    /// Returns whether the bytes are those that an encoder of the same bits writes.
    ///
    /// Other bytes can stand for the same bits: every number from the encoder's `low` up to `low + range`. The encoder
    /// writes `low`, after a byte 0, in exactly the bytes that the decoder has read.
    pub(crate) fn is_canonical(&self) -> bool {
        if self.range == u32::MAX {
            return self.bytes.is_empty();
        }
        self.at == self.bytes.len() && self.bytes[0] == 0 && self.code == 0
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

    #[inline]
    fn widen(&mut self) -> Option<()> {
        while self.range < NARROW {
            // Beyond the range, the shift would lose the code's highest bit.
            if self.code >= self.range {
                return None;
            }
            self.range <<= 8;
            self.code = (self.code << 8) | u32::from(self.next()?);
        }
        Some(())
    }
}

impl Coder for Decoder<'_> {
    #[inline]
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
        // The range loses its lowest bits, and the bytes may contain a code in this rest.
        let byte = (self.code / self.range).min(255);
        self.code -= byte * self.range;
        self.widen()?;
        Some(byte as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes one symbol of each kind: a bit with an uneven bound, an even one, a byte.
    fn code(coder: &mut impl Coder, kinds: &[u8], symbols: &[u8]) -> Option<Vec<u8>> {
        let symbol = |(at, kind): (usize, &u8)| {
            let symbol = symbols.get(at).copied().unwrap_or(0);
            match kind {
                b'u' => coder.bit(|range| (range >> 16) * 60_001, symbol & 1 == 1).map(u8::from),
                b'e' => coder.even(symbol & 1 == 1).map(u8::from),
                _ => coder.byte(symbol),
            }
        };
        kinds.iter().enumerate().map(symbol).collect()
    }

    fn written(kinds: &[u8], symbols: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        code(&mut encoder, kinds, symbols);
        encoder.finish()
    }

    /// Checks a decoder of these bytes against an encoder of what it decoded.
    fn check(kinds: &[u8], bytes: &[u8]) {
        let mut decoder = Decoder::new(bytes);
        if let Some(symbols) = code(&mut decoder, kinds, &[]) {
            let again = written(kinds, &symbols);
            assert_eq!(decoder.is_canonical(), again == bytes, "{bytes:?} {again:?}");
        }
    }

    #[test]
    fn bytes_are_canonical_exactly_if_an_encoder_of_their_symbols_writes_them() {
        let step = if cfg!(miri) { 199 } else { 1 };
        let mut state = 1_u32;
        for kinds in [b"b".as_slice(), b"eb", b"bu", b"ueb", b"bbeub", b""] {
            // Any two bytes after those of the ends of the coder's interval.
            for start in [[0, 0, 0], [0, 0xfe, 0xff], [0, 0xff, 0xff], [1, 0, 0]] {
                for end in (0..=u16::MAX).step_by(step) {
                    let [a, b] = end.to_be_bytes();
                    let bytes = [start[0], start[1], start[2], a, b, 0, 0, 0];
                    (4..=bytes.len()).for_each(|length| check(kinds, &bytes[..length]));
                }
            }
            // What an encoder writes, with and without a small change.
            for _ in (0..3_000).step_by(step) {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let mut bytes = written(kinds, &state.to_be_bytes());
                let mut decoder = Decoder::new(&bytes);
                assert!(code(&mut decoder, kinds, &[]).is_some() && decoder.is_canonical());
                for at in 0..bytes.len() {
                    for change in [1, 128, 255] {
                        bytes[at] = bytes[at].wrapping_add(change);
                        check(kinds, &bytes);
                        bytes[at] = bytes[at].wrapping_sub(change);
                    }
                }
            }
        }
    }
}
