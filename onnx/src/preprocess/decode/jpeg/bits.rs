//! Bit reader for entropy-coded data. It drops stuffed zeros, and a marker ends the data (ITU T.81, F.2.2.5).

/// Reader of bits up to a marker or the end of the file.
#[derive(Debug)]
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// Position of the next byte that is not in `buffer`.
    at: usize,
    /// Bits to come, the next at the top.
    buffer: u64,
    /// Number of bits in the buffer. Negative if more bits were taken than existed; these were zeros.
    count: i32,
    /// Whether a marker or the end of the file was reached.
    ended: bool,
}

/// Data between the consumed bits and the next marker.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rest {
    /// The complete bytes.
    pub(super) bytes: Vec<u8>,
    /// Position of the marker, or the length of the file.
    pub(super) marker: usize,
    /// Whether the last consumed bytes are zeros as well.
    pub(super) after_zeros: bool,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8], at: usize) -> Self {
        Self {
            data,
            at,
            buffer: 0,
            count: 0,
            ended: false,
        }
    }

    /// Fills the buffer to at least 32 bits; after the end of the data, with zeros.
    #[inline]
    pub(super) fn refill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(&[a, b, c, d]) = self.data.get(self.at..self.at + 4)
            && self.count >= 0
        {
            let word = u32::from_be_bytes([a, b, c, d]);
            // No byte is 0xff, so there is no stuffing and no marker.
            if (!word).wrapping_sub(0x0101_0101) & word & 0x8080_8080 == 0 {
                self.buffer |= u64::from(word) << (32 - self.count);
                self.count += 32;
                self.at += 4;
                return;
            }
        }
        self.refill_slowly();
    }

    fn refill_slowly(&mut self) {
        while !self.ended && (0..=56).contains(&self.count) {
            let Some(&byte) = self.data.get(self.at) else {
                self.ended = true;
                return;
            };
            if byte == 0xff {
                if self.data.get(self.at + 1) != Some(&0) {
                    self.ended = true;
                    return;
                }
                self.at += 1;
            }
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
            self.at += 1;
        }
    }

    /// Returns the next `count` bits, 1 to 16, of those in the buffer.
    #[inline]
    pub(super) fn peek(&self, count: u32) -> u32 {
        (self.buffer >> (64 - count)) as u32
    }

    /// Drops `count` bits, at most 16, of those in the buffer.
    #[inline]
    pub(super) fn consume(&mut self, count: u32) {
        self.buffer <<= count;
        self.count -= count as i32;
    }

    /// Takes `count` bits, at most 16, of those in the buffer.
    #[inline]
    pub(super) fn take(&mut self, count: u32) -> u32 {
        if count == 0 {
            return 0;
        }
        let value = self.peek(count);
        self.consume(count);
        value
    }

    /// Takes one bit.
    #[inline]
    pub(super) fn bit(&mut self) -> bool {
        if self.count < 1 {
            self.refill();
        }
        self.take(1) == 1
    }

    /// Returns whether more bits were taken than existed.
    #[inline]
    pub(super) fn overrun(&self) -> bool {
        self.count < 0
    }

    /// Returns the unused data before the next marker.
    pub(super) fn rest(&self) -> Rest {
        let buffered = self.count.max(0) as u32;
        let padding = buffered % 8;
        let mut bytes: Vec<u8> = (0..buffered / 8)
            .map(|index| (self.buffer << padding << (8 * index) >> 56) as u8)
            .collect();
        // Because of stuffing, this is one or two bytes too far. For this purpose that does not matter.
        let used = self.at.saturating_sub(bytes.len());
        let after_zeros = used >= 8 && self.data[used - 8..used].iter().all(|&byte| byte == 0);
        let mut at = self.at;
        loop {
            match (self.data.get(at), self.data.get(at + 1)) {
                (Some(0xff), Some(0)) => {
                    bytes.push(0xff);
                    at += 2;
                }
                (Some(0xff), Some(0xff)) => at += 1,
                (None | Some(0xff), _) => break,
                (Some(&byte), _) => {
                    bytes.push(byte);
                    at += 1;
                }
            }
        }
        Rest {
            bytes,
            marker: at,
            after_zeros,
        }
    }

    pub(super) fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Continues after a marker.
    pub(super) fn restart(&mut self, at: usize) {
        *self = Self::new(self.data, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_in_order_without_stuffing_up_to_the_marker() {
        let data = [0b1010_0101, 0xff, 0x00, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xff, 0xd9];
        let mut bits = Bits::new(&data, 0);
        let mut taken = Vec::new();
        for _ in 0..16 {
            bits.refill();
            taken.push(bits.take(4));
        }
        assert_eq!(taken, [0xa, 5, 0xf, 0xf, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xa, 0xb, 0xc]);
        assert!(!bits.overrun());
        assert_eq!(bits.rest().marker, 9);
        assert!(!bits.bit() && bits.overrun());
    }

    #[test]
    fn the_rest_is_the_unused_data() {
        let data = [0, 0, 0, 0, 0, 0, 0, 0, 0b0001_1111, 1, 0xff, 0, 2, 0xff, 0xff, 0xd0];
        let mut bits = Bits::new(&data, 0);
        for _ in 0..5 {
            bits.refill();
            bits.take(13);
        }
        let rest = bits.rest();
        assert_eq!((rest.bytes, rest.marker), (vec![1, 0xff, 2], 14));
    }
}
