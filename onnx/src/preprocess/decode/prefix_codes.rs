//! Memory that the prefix codes of a lossless WebP image need in a decoder (RFC 9649, section 3).
//!
//! A file may declare up to 65,536 groups of five codes. A group takes a few dozen bytes in the file and up to 120 kB
//! in the decoder, so the groups are counted before the decoder runs. Everything up to the pixels is read, including
//! the entropy image, which determines the number of groups. Pixels that this image copies from earlier ones cannot
//! refer to a new group, so only its literals count.

use super::{ImageError, Job};

/// Numbers of symbols: of green and lengths, without a colour cache; of red, blue and alpha; of distances.
const ALPHABETS: [usize; 5] = [256 + 24, 256, 256, 256, 40];
/// The order in which the lengths of the code-length code are stored.
const ORDER: [usize; 19] = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const LONGEST: usize = 15;
/// Longer codes are not in a decoder's table, which has a 4-byte entry for each number of this many bits.
const TABLE_BITS: usize = 10;
/// Bytes of a node in the tree of longer codes. There are fewer than two nodes per code.
const NODE: u64 = 16;
/// Bytes of a code without its table and tree. The groups are stored in a vector that grows by doubling.
const CODE: u64 = 3 * 64;

/// The reason why the codes cannot be counted.
enum Fault {
    Damaged(&'static str),
    Error(ImageError),
}

type Result<T> = std::result::Result<T, Fault>;

/// Returns the bytes that the codes of an image of `size` need. `bytes` start at the transforms.
///
/// Counting stops when it exceeds the memory limit.
pub(super) fn memory(job: &Job<'_>, bytes: &[u8], size: [u32; 2]) -> std::result::Result<u64, ImageError> {
    let mut reader = Reader { job, bytes, at: 0 };
    reader.all(size).map_err(|fault| match fault {
        Fault::Damaged(what) => job.damaged(what),
        Fault::Error(error) => error,
    })
}

struct Reader<'a> {
    job: &'a Job<'a>,
    bytes: &'a [u8],
    /// Position in bits.
    at: usize,
}

/// A prefix code.
struct Code {
    /// Number of codes of each length; all zero if there is a single symbol, which needs no bits.
    counts: [u16; LONGEST + 1],
    /// Symbols in the order of their codes.
    symbols: Vec<u16>,
}

impl Reader<'_> {
    fn all(&mut self, [mut width, height]: [u32; 2]) -> Result<u64> {
        // The decoder drops the codes of an image in the header before it reads the next one, so the maximum counts.
        let mut most = 0;
        let mut seen = [false; 4];
        while self.bits(1)? == 1 {
            let kind = self.bits(2)? as usize;
            if std::mem::replace(&mut seen[kind], true) {
                return Err(Fault::Damaged("a transform is stated twice"));
            }
            match kind {
                0 | 1 => {
                    let bits = self.bits(3)? + 2;
                    most = most.max(self.image([width, height].map(|side| blocks(side, bits)))?.0);
                }
                2 => {}
                _ => {
                    let colours = self.bits(8)? + 1;
                    most = most.max(self.image([colours, 1])?.0);
                    let packed = match colours {
                        0..=2 => 3,
                        3..=4 => 2,
                        5..=16 => 1,
                        _ => 0,
                    };
                    width = blocks(width, packed);
                }
            }
        }
        let cache = self.cache()?;
        let mut groups = 1;
        if self.bits(1)? == 1 {
            let bits = self.bits(3)? + 2;
            let (memory, last) = self.image([width, height].map(|side| blocks(side, bits)))?;
            most = most.max(memory);
            groups = last + 1;
        }
        let mut memory = 0;
        for group in 0..groups {
            if group % 256 == 0 {
                self.job.check_time().map_err(Fault::Error)?;
            }
            memory += self.group(cache)?.iter().map(Code::memory).sum::<u64>();
            if memory > self.job.limits.memory {
                break;
            }
        }
        Ok(most.max(memory))
    }

    /// Reads an image of the header. Returns the memory of its codes, and the largest red-green value among its
    /// literals.
    fn image(&mut self, [width, height]: [u32; 2]) -> Result<(u64, u32)> {
        let cache = self.cache()?;
        let [green, red, blue, alpha, distance] = self.group(cache)?;
        let memory = [&green, &red, &blue, &alpha, &distance].map(Code::memory).iter().sum();
        let mut left = u64::from(width) * u64::from(height);
        let mut largest = 0;
        let mut symbols = 0_u32;
        while left > 0 {
            symbols = symbols.wrapping_add(1);
            if symbols.is_multiple_of(1 << 16) {
                self.job.check_time().map_err(Fault::Error)?;
            }
            match self.symbol(&green)? {
                symbol @ 0..256 => {
                    largest = largest.max(self.symbol(&red)? << 8 | symbol);
                    self.symbol(&blue)?;
                    self.symbol(&alpha)?;
                    left -= 1;
                    if [&green, &red, &blue, &alpha].iter().all(|code| code.symbols.len() == 1) {
                        // If every code has one symbol, pixels take no bits.
                        left = 0;
                    }
                }
                symbol @ 256..280 => {
                    let length = u64::from(self.number(symbol - 256)?);
                    let distance = self.symbol(&distance)?;
                    self.number(distance)?;
                    left = left
                        .checked_sub(length)
                        .ok_or(Fault::Damaged("pixels beyond the image"))?;
                }
                // A colour from the cache was a literal before, or is black.
                _ => left -= 1,
            }
        }
        Ok((memory, largest))
    }

    /// Returns the number of entries of the colour cache.
    fn cache(&mut self) -> Result<usize> {
        if self.bits(1)? == 0 {
            return Ok(0);
        }
        match self.bits(4)? {
            bits @ 1..=11 => Ok(1 << bits),
            _ => Err(Fault::Damaged("a colour cache of a size that does not exist")),
        }
    }

    /// Returns the five codes of a group.
    fn group(&mut self, cache: usize) -> Result<[Code; 5]> {
        let [green, red, blue, alpha, distance] = ALPHABETS;
        Ok([
            self.code(green + cache)?,
            self.code(red)?,
            self.code(blue)?,
            self.code(alpha)?,
            self.code(distance)?,
        ])
    }

    fn code(&mut self, alphabet: usize) -> Result<Code> {
        if self.bits(1)? == 1 {
            let two = self.bits(1)? == 1;
            let wide = self.bits(1)?;
            let mut symbols = vec![self.bits(1 + 7 * wide)? as u16];
            if two {
                symbols.push(self.bits(8)? as u16);
            }
            if symbols.iter().any(|&symbol| usize::from(symbol) >= alphabet) {
                return Err(Fault::Damaged("a symbol that does not exist"));
            }
            let mut counts = [0; LONGEST + 1];
            counts[1] = symbols.len() as u16;
            return Ok(Code { counts, symbols });
        }
        let mut lengths = [0; ORDER.len()];
        let stated = 4 + self.bits(4)? as usize;
        for &place in &ORDER[..stated] {
            lengths[place] = self.bits(3)? as u8;
        }
        let of_lengths = Code::new(&lengths)?;
        Code::new(&self.lengths(&of_lengths, alphabet)?)
    }

    fn lengths(&mut self, code: &Code, alphabet: usize) -> Result<Vec<u8>> {
        let mut left = alphabet;
        if self.bits(1)? == 1 {
            let bits = 2 + 2 * self.bits(3)?;
            left = 2 + self.bits(bits)? as usize;
            if left > alphabet {
                return Err(Fault::Damaged("more lengths than symbols"));
            }
        }
        let mut lengths = Vec::with_capacity(alphabet);
        let mut previous = 8;
        while lengths.len() < alphabet && left > 0 {
            left -= 1;
            let (length, times) = match self.symbol(code)? {
                16 => (previous, 3 + self.bits(2)?),
                17 => (0, 3 + self.bits(3)?),
                18 => (0, 11 + self.bits(7)?),
                length => (length as u8, 1),
            };
            if length != 0 {
                previous = length;
            }
            lengths.resize(lengths.len() + times as usize, length);
        }
        if lengths.len() > alphabet {
            return Err(Fault::Damaged("more lengths than symbols"));
        }
        Ok(lengths)
    }

    /// Returns a length or distance from its prefix.
    fn number(&mut self, prefix: u32) -> Result<u32> {
        if prefix < 4 {
            return Ok(prefix + 1);
        }
        let extra = (prefix - 2) / 2;
        Ok(((2 + prefix % 2) << extra) + self.bits(extra)? + 1)
    }

    fn symbol(&mut self, code: &Code) -> Result<u32> {
        if let [only] = code.symbols[..] {
            return Ok(u32::from(only));
        }
        let ahead = self.ahead();
        let (mut value, mut first, mut index) = (0, 0, 0);
        for length in 1..=LONGEST {
            value = value << 1 | (ahead >> (length - 1) & 1) as usize;
            let count = usize::from(code.counts[length]);
            if value < first + count {
                self.bits(length as u32)?;
                return Ok(u32::from(code.symbols[index + value - first]));
            }
            index += count;
            first = (first + count) << 1;
        }
        Err(Fault::Damaged("a code that does not exist"))
    }

    /// Returns the next `count` bits, at most 32.
    fn bits(&mut self, count: u32) -> Result<u32> {
        let value = self.ahead() & ((1 << count) - 1);
        self.at += count as usize;
        if self.at > 8 * self.bytes.len() {
            return Err(Fault::Damaged("it ends before its pixels"));
        }
        Ok(value as u32)
    }

    /// Returns at least the next 57 bits; zeros beyond the end.
    fn ahead(&self) -> u64 {
        let rest = self.bytes.get(self.at / 8..).unwrap_or(&[]);
        let value = rest.first_chunk().map_or_else(
            || {
                let bytes = rest.iter().enumerate();
                bytes.fold(0, |value, (place, &byte)| value | u64::from(byte) << (8 * place))
            },
            |bytes| u64::from_le_bytes(*bytes),
        );
        value >> (self.at % 8)
    }
}

impl Code {
    /// Creates a code from the length of each symbol's code, which is 0 for symbols without one.
    fn new(lengths: &[u8]) -> Result<Self> {
        let mut counts = [0_u16; LONGEST + 1];
        for &length in lengths {
            counts[usize::from(length)] += 1;
        }
        counts[0] = 0;
        let mut symbols = Vec::new();
        for length in 1..=LONGEST as u8 {
            let of = lengths.iter().enumerate().filter(|(_, of)| **of == length);
            symbols.extend(of.map(|(symbol, _)| symbol as u16));
        }
        let used: usize = (1..=LONGEST)
            .map(|length| usize::from(counts[length]) << (LONGEST - length))
            .sum();
        if symbols.is_empty() || symbols.len() > 1 && used != 1 << LONGEST {
            return Err(Fault::Damaged("a prefix code that is none"));
        }
        Ok(Self { counts, symbols })
    }

    /// Returns the bytes that a decoder needs for this code.
    fn memory(&self) -> u64 {
        if self.symbols.len() < 2 {
            return CODE;
        }
        let longest = self.counts.iter().rposition(|&count| count > 0).unwrap_or(0);
        let beyond: u64 = self.counts[TABLE_BITS + 1..]
            .iter()
            .map(|&count| u64::from(count))
            .sum();
        CODE + (4 << longest.min(TABLE_BITS)) + 2 * NODE * beyond.max(2)
    }
}

/// Returns the number of blocks of `1 << bits` pixels that cover a side.
fn blocks(side: u32, bits: u32) -> u32 {
    side.div_ceil(1 << bits)
}
