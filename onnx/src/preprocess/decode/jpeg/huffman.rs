//! Huffman tables and their codes (ITU T.81, annex C and F.2.2.3).

use super::bits::Bits;

const FAST: u32 = 9;

/// A table of codes of up to 16 bits.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// For each value of the next nine bits: length and value of the code; 0 for longer codes.
    fast: [u16; 1 << FAST],
    /// For each code length: the smallest 16-bit number that is greater than any number that starts with such a code.
    beyond: [u32; 17],
    /// For each code length: the number to add to a code to get the index of its value.
    offset: [i32; 17],
    values: Vec<u8>,
}

impl Table {
    /// Creates a table from the numbers of codes of each length and their values. Returns `None` if there are more
    /// codes than the lengths allow.
    pub(super) fn new(counts: &[u8; 16], values: &[u8]) -> Option<Self> {
        let mut table = Self {
            fast: [0; 1 << FAST],
            beyond: [0; 17],
            offset: [0; 17],
            values: values.to_vec(),
        };
        let (mut code, mut index) = (0_u32, 0_usize);
        for length in 1..=16 {
            table.offset[length] = index as i32 - code as i32;
            for _ in 0..counts[length - 1] {
                let value = *values.get(index)?;
                if code >= 1 << length {
                    return None;
                }
                if length <= FAST as usize {
                    let shift = FAST as usize - length;
                    let first = (code as usize) << shift;
                    table.fast[first..first + (1 << shift)].fill((length as u16) << 8 | u16::from(value));
                }
                code += 1;
                index += 1;
            }
            table.beyond[length] = code << (16 - length);
            code <<= 1;
        }
        (index == values.len()).then_some(table)
    }

    /// Returns the value of the next code in the buffered bits; `None` if no code starts like this.
    #[inline]
    pub(super) fn decode(&self, bits: &mut Bits<'_>) -> Option<u8> {
        let fast = self.fast[bits.peek(FAST) as usize];
        if fast != 0 {
            bits.consume(u32::from(fast >> 8));
            return Some(fast as u8);
        }
        let next = bits.peek(16);
        let length = (FAST + 1..=16).find(|&length| next < self.beyond[length as usize])?;
        bits.consume(length);
        let index = (next >> (16 - length)) as i32 + self.offset[length as usize];
        self.values.get(usize::try_from(index).ok()?).copied()
    }

    /// Returns the value of the code that consists only of zeros.
    pub(super) fn of_zeros(&self) -> Option<u8> {
        self.values.first().copied()
    }
}

/// Returns a signed number of `size` bits (F.2.2.1, EXTEND).
#[inline]
pub(super) fn signed(bits: &mut Bits<'_>, size: u32) -> i32 {
    if size == 0 {
        return 0;
    }
    let value = bits.take(size) as i32;
    if value < 1 << (size - 1) {
        value - (1 << size) + 1
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_every_length_are_found_and_others_are_not() {
        // One code of each of ten lengths: 0, 10, 110, …; ten ones are not the start of any code.
        let mut counts = [0; 16];
        counts[..10].fill(1);
        let table = Table::new(&counts, &(0..10).collect::<Vec<u8>>()).unwrap();
        for value in 0..10_u32 {
            let code = (0xffff_u32 << (16 - value)) as u16;
            let stuffed = code
                .to_be_bytes()
                .map(|byte| if byte == 0xff { vec![byte, 0] } else { vec![byte] });
            let data = stuffed.concat();
            let mut bits = Bits::new(&data, 0);
            bits.refill();
            assert_eq!(table.decode(&mut bits), Some(value as u8));
        }
        let mut bits = Bits::new(&[0xff, 0, 0xff, 0], 0);
        bits.refill();
        assert_eq!(table.decode(&mut bits), None);
        counts[0] = 3;
        assert!(Table::new(&counts, &[0; 12]).is_none());
    }
}
