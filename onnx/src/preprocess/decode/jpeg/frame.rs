//! Headers of a JPEG file: frame, tables and scans (ITU T.81, annex B).

use image::metadata::Orientation;

use super::{
    super::{PILLOW, orientation},
    huffman::Table,
};

/// Zig-zag index to natural order, `8 · row + column`.
pub(super) const NATURAL: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// Hint for 12-bit files, which neither Pillow nor most builds of `ImageMagick` can read.
const TWELVE: &str = "convert it in Python (pip install imagecodecs): import imagecodecs as c; \
                      c.imwrite('OUT.png', (c.imread('IN.jpg') >> 4).astype('uint8'))";
const REWRITE: &str = "save it again with the program that wrote it, as baseline JPEG or PNG";

/// The reason why a file cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Damaged(String),
    /// An unsupported feature, and a way to convert the image to a supported one.
    Unsupported(String, &'static str),
}

fn unsupported<T>(feature: impl Into<String>, advice: &'static str) -> Result<T, Fault> {
    Err(Fault::Unsupported(feature.into(), advice))
}

pub(super) fn damaged<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Damaged(what.into()))
}

#[derive(Clone, Debug)]
pub(super) struct Component {
    pub(super) id: u8,
    /// Number of the component's blocks in a unit, horizontally and vertically.
    pub(super) sampling: [u32; 2],
    pub(super) quantisation: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) size: [u32; 2],
    pub(super) progressive: bool,
    pub(super) components: Vec<Component>,
    /// Maximum number of a component's blocks in a unit, horizontally and vertically.
    pub(super) most: [u32; 2],
}

impl Frame {
    /// Returns the number of units, horizontally and vertically.
    pub(super) fn units(&self) -> [u32; 2] {
        [0, 1].map(|axis| self.size[axis].div_ceil(8 * self.most[axis]))
    }

    /// Returns the number of blocks of a component that contain pixels, horizontally and vertically.
    pub(super) fn blocks(&self, component: usize) -> [u32; 2] {
        let sampling = self.components[component].sampling;
        [0, 1].map(|axis| (self.size[axis] * sampling[axis]).div_ceil(8 * self.most[axis]))
    }
}

/// Header of a scan.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    /// Indices of component, DC table and AC table.
    pub(super) components: Vec<(usize, usize, usize)>,
    /// First and last coefficient, in zig-zag order.
    pub(super) band: [usize; 2],
    /// Successive approximation: the bit position before and after this scan; 0 before the first scan.
    pub(super) high: u32,
    pub(super) low: u32,
}

/// Conversion of samples to RGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Grey,
    YCbCr,
    Rgb,
    Cmyk,
    Ycck,
}

/// Headers up to a scan.
#[derive(Debug)]
pub(super) struct Headers<'a> {
    bytes: &'a [u8],
    pub(super) frame: Option<Frame>,
    pub(super) dc: [Option<Table>; 4],
    pub(super) ac: [Option<Table>; 4],
    /// Quantisation tables in natural order (not zigzag).
    pub(super) quantisation: [Option<[u16; 64]>; 4],
    /// Number of units between restart markers; 0 if there are none.
    pub(super) restart: u32,
    adobe: Option<u8>,
    exif: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            frame: None,
            dc: [const { None }; 4],
            ac: [const { None }; 4],
            quantisation: [None; 4],
            restart: 0,
            adobe: None,
            exif: None,
        }
    }

    pub(super) fn orientation(&self) -> Orientation {
        orientation::of_exif(self.exif)
    }

    /// Returns the colour space, decided as by the decoder for unreduced images.
    pub(super) fn colour(&self) -> Colour {
        let components = self.frame.as_ref().map_or(&[][..], |frame| &frame.components);
        match (components, self.adobe) {
            ([_], _) => Colour::Grey,
            ([r, g, b], _) if [r.id, g.id, b.id] == *b"RGB" => Colour::Rgb,
            ([_, _, _], Some(0)) => Colour::Rgb,
            ([_, _, _, _], Some(2)) => Colour::Ycck,
            ([_, _, _, _], _) => Colour::Cmyk,
            _ => Colour::YCbCr,
        }
    }

    /// Reads segments from `at` to the next scan. Returns the scan's header and the start of its data; `None` at the
    /// end of the image.
    pub(super) fn next_scan(&mut self, mut at: usize) -> Result<Option<(Scan, usize)>, Fault> {
        loop {
            // Bytes between segments violate the standard, but some cameras write them.
            let Some(ahead) = self
                .bytes
                .get(at..)
                .and_then(|rest| rest.iter().position(|&byte| byte == 0xff))
            else {
                return Ok(None);
            };
            at += ahead;
            let Some(&marker) = self.bytes.get(at + 1) else {
                return Ok(None);
            };
            match marker {
                0xff => at += 1,
                // Stuffing, and markers without a segment.
                0x00 | 0x01 | 0xd0..=0xd7 => at += 2,
                // The next image of a stream, or the end of this one.
                0xd8 | 0xd9 => return Ok(None),
                _ => {
                    let (start, end) = self.segment(at + 2, marker)?;
                    let data = &self.bytes[start..end];
                    if marker == 0xda {
                        return Ok(Some((self.scan(data)?, end)));
                    }
                    self.read(marker, data)?;
                    at = end;
                }
            }
        }
    }

    /// Returns the start and end of the data of the segment whose length field is at `at`.
    fn segment(&self, at: usize, marker: u8) -> Result<(usize, usize), Fault> {
        let Some(&[high, low]) = self.bytes.get(at..at + 2) else {
            return damaged(format!("it ends in the header of segment {marker:02x}"));
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length < 2 {
            return damaged(format!("segment {marker:02x} states a length of {length} bytes"));
        }
        let missing = (at + length).saturating_sub(self.bytes.len());
        if missing > 0 {
            return damaged(format!(
                "{missing} of {length} bytes of segment {marker:02x} are missing"
            ));
        }
        Ok((at + 2, at + length))
    }

    fn read(&mut self, marker: u8, data: &'a [u8]) -> Result<(), Fault> {
        match marker {
            0xc0..=0xc2 => self.start(data, marker == 0xc2)?,
            0xc4 => self.huffman(data)?,
            0xc3 | 0xc5..=0xc7 => return unsupported("lossless or hierarchical coding", PILLOW),
            0xc8..=0xcf => return unsupported("arithmetic coding", PILLOW),
            0xdb => self.quantisation(data)?,
            0xdc => return unsupported("a height that follows the image", REWRITE),
            0xdd => match data {
                &[high, low] => self.restart = u32::from(u16::from_be_bytes([high, low])),
                _ => return damaged("the restart interval is not two bytes"),
            },
            0xe1 if self.exif.is_none() => self.exif = data.strip_prefix(b"Exif\0\0"),
            0xee if data.starts_with(b"Adobe") => self.adobe = data.get(11).copied(),
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, data: &[u8], progressive: bool) -> Result<(), Fault> {
        let &[precision, a, b, c, d, count, ref list @ ..] = data else {
            return damaged("the frame header is too short");
        };
        if self.frame.is_some() {
            return damaged("a second frame header");
        }
        if precision != 8 {
            return unsupported(format!("{precision} bits per sample"), TWELVE);
        }
        if ![1, 3, 4].contains(&count) {
            return unsupported(format!("{count} components"), REWRITE);
        }
        if list.len() != 3 * usize::from(count) {
            return damaged("the frame header does not fit its components");
        }
        let mut components = Vec::new();
        for entry in list.chunks_exact(3) {
            let sampling = [u32::from(entry[1] >> 4), u32::from(entry[1] & 15)];
            if sampling.iter().any(|blocks| !(1..=4).contains(blocks)) || entry[2] > 3 {
                return damaged("the frame header states a sampling or table that does not exist");
            }
            components.push(Component {
                id: entry[0],
                sampling,
                quantisation: usize::from(entry[2]),
            });
        }
        if let [only] = &mut components[..] {
            // A single component is never interleaved, so its sampling factors do not matter.
            only.sampling = [1, 1];
        }
        let most = [0, 1].map(|axis| {
            components
                .iter()
                .map(|component| component.sampling[axis])
                .max()
                .unwrap_or(1)
        });
        self.frame = Some(Frame {
            size: [
                u32::from(u16::from_be_bytes([c, d])),
                u32::from(u16::from_be_bytes([a, b])),
            ],
            progressive,
            components,
            most,
        });
        Ok(())
    }

    fn huffman(&mut self, mut data: &[u8]) -> Result<(), Fault> {
        while let [which, rest @ ..] = data {
            let Some((counts, rest)) = rest.split_first_chunk::<16>() else {
                return damaged("a Huffman table is too short");
            };
            let values = counts.iter().map(|&count| usize::from(count)).sum::<usize>();
            let (class, slot) = (which >> 4, usize::from(which & 15));
            let table = rest.get(..values).and_then(|values| Table::new(counts, values));
            let slots = if class == 0 { &mut self.dc } else { &mut self.ac };
            let (Some(table), Some(slot)) = (table, slots.get_mut(slot).filter(|_| class < 2)) else {
                return damaged("a Huffman table that is none");
            };
            *slot = Some(table);
            data = &rest[values..];
        }
        Ok(())
    }

    fn quantisation(&mut self, mut data: &[u8]) -> Result<(), Fault> {
        while let [which, rest @ ..] = data {
            let wide = which >> 4 != 0;
            let length = if wide { 128 } else { 64 };
            let (Some(values), Some(slot)) = (rest.get(..length), self.quantisation.get_mut(usize::from(which & 15)))
            else {
                return damaged("a quantisation table is too short");
            };
            let mut table = [0; 64];
            for (index, &natural) in NATURAL.iter().enumerate() {
                table[usize::from(natural)] = if wide {
                    u16::from_be_bytes([values[2 * index], values[2 * index + 1]])
                } else {
                    u16::from(values[index])
                };
            }
            if table.contains(&0) {
                return damaged("a quantisation table holds zeros");
            }
            *slot = Some(table);
            data = &rest[length..];
        }
        Ok(())
    }

    fn scan(&self, data: &[u8]) -> Result<Scan, Fault> {
        let Some(frame) = &self.frame else {
            return damaged("a scan before the frame header");
        };
        let (count, rest) = data.split_first().unwrap_or((&0, &[]));
        let Some((list, &[first, last, bits])) = rest.split_at_checked(2 * usize::from(*count)) else {
            return damaged("a scan header is too short");
        };
        let mut components: Vec<(usize, usize, usize)> = Vec::new();
        for entry in list.chunks_exact(2) {
            let found = frame.components.iter().position(|component| component.id == entry[0]);
            let known = |component: &usize| !components.iter().any(|(other, ..)| other == component);
            let Some(component) = found.filter(known) else {
                return damaged("a scan of a component that is not in the frame");
            };
            components.push((component, usize::from(entry[1] >> 4), usize::from(entry[1] & 15)));
        }
        let mut scan = Scan {
            components,
            band: [usize::from(first), usize::from(last)],
            high: u32::from(bits >> 4),
            low: u32::from(bits & 15),
        };
        if !frame.progressive {
            // Some encoders write wrong values here, and nothing depends on them.
            (scan.band, scan.high, scan.low) = ([0, 63], 0, 0);
        }
        let [first, last] = scan.band;
        let dc_alone = first == 0 && last > 0 && frame.progressive;
        let refined = scan.high != 0 && scan.high != scan.low + 1;
        let shared = first > 0 && scan.components.len() > 1;
        if scan.components.is_empty() || first > last || last > 63 || scan.low > 13 || dc_alone || refined || shared {
            return damaged("a scan header that contradicts itself");
        }
        Ok(scan)
    }
}
