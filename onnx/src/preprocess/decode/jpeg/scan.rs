//! Entropy-coded data of a scan, read to the last bit and checked (ITU T.81, annexes F and G).

use super::{
    super::{ImageError, Job},
    bits::Bits,
    frame::{Fault, Frame, Headers, NATURAL, Scan, damaged},
    huffman::{Table, signed},
    planes::Plane,
};

/// Number of consecutive zero bytes that no image contains if a code of zeros stands for a coefficient.
const LOST: usize = 64;

/// A scan in progress.
struct Reader<'a, 'b> {
    bits: Bits<'a>,
    frame: &'b Frame,
    scan: &'b Scan,
    /// DC and AC table of each component of the scan.
    tables: Vec<[Option<&'b Table>; 2]>,
    predicted: [i32; 4],
    /// Number of further blocks in the current end-of-band run.
    run: u32,
}

/// Reads the scan whose data start at `start`. Returns where they end.
pub(super) fn read(
    job: &Job<'_>,
    headers: &Headers<'_>,
    frame: &Frame,
    scan: &Scan,
    planes: &mut [Plane],
    start: usize,
) -> Result<Result<usize, Fault>, ImageError> {
    let mut reader = match Reader::new(job.bytes, headers, frame, scan, start) {
        Ok(reader) => reader,
        Err(fault) => return Ok(Err(fault)),
    };
    for &(component, ..) in &scan.components {
        let plane = &mut planes[component];
        let table = frame.components[component].quantisation;
        plane.quantisation = plane.quantisation.or(headers.quantisation[table]);
    }
    let interleaved = scan.components.len() > 1;
    let (units, rows) = if interleaved {
        (frame.units(), 8 * frame.most[1])
    } else {
        let component = scan.components[0].0;
        let sampling = frame.components[component].sampling;
        (frame.blocks(component), 8 * frame.most[1] / sampling[1])
    };
    let mut restarts = 0;
    for y in 0..units[1] {
        job.check_time()?;
        for x in 0..units[0] {
            let unit = y * units[0] + x;
            let restart = headers.restart > 0 && unit > 0 && unit % headers.restart == 0;
            let read = if restart {
                restarts += 1;
                reader.restart(restarts - 1)
            } else {
                Ok(())
            };
            if let Err(fault) = read.and_then(|()| reader.unit([x, y], interleaved, planes)) {
                let row = y * rows;
                let place = format!(
                    "at row {row} of {}, block {unit} of {}",
                    frame.size[1],
                    units[0] * units[1]
                );
                return Ok(Err(match fault {
                    Fault::Damaged(what) => Fault::Damaged(format!("{what} {place}")),
                    unsupported @ Fault::Unsupported(..) => unsupported,
                }));
            }
        }
    }
    Ok(reader.end(start))
}

impl<'a, 'b> Reader<'a, 'b> {
    fn new(
        bytes: &'a [u8],
        headers: &'b Headers<'_>,
        frame: &'b Frame,
        scan: &'b Scan,
        start: usize,
    ) -> Result<Self, Fault> {
        let mut tables = Vec::new();
        for &(component, dc, ac) in &scan.components {
            let table = |tables: &'b [Option<Table>; 4], slot: usize| tables.get(slot).and_then(Option::as_ref);
            let (dc, ac) = (table(&headers.dc, dc), table(&headers.ac, ac));
            let needs_dc = scan.band[0] == 0 && scan.high == 0;
            let needs_ac = scan.band[1] > 0;
            let steps = headers.quantisation[frame.components[component].quantisation];
            if needs_dc && dc.is_none() || needs_ac && ac.is_none() || steps.is_none() {
                return damaged("a scan without its Huffman or quantisation table");
            }
            tables.push([dc, ac]);
        }
        Ok(Self {
            bits: Bits::new(bytes, start),
            frame,
            scan,
            tables,
            predicted: [0; 4],
            run: 0,
        })
    }

    /// Reads the blocks of one unit.
    fn unit(&mut self, [x, y]: [u32; 2], interleaved: bool, planes: &mut [Plane]) -> Result<(), Fault> {
        for index in 0..self.scan.components.len() {
            let component = self.scan.components[index].0;
            let [across, down] = if interleaved {
                self.frame.components[component].sampling
            } else {
                [1, 1]
            };
            for row in 0..down {
                for column in 0..across {
                    let place = [x * across + column, y * down + row];
                    self.block(index, place, &mut planes[component])?;
                }
            }
        }
        if self.bits.overrun() {
            return damaged("the image data end");
        }
        Ok(())
    }

    fn block(&mut self, index: usize, place: [u32; 2], plane: &mut Plane) -> Result<(), Fault> {
        if !self.frame.progressive {
            let mut coefficients = [0; 64];
            self.sequential(index, plane, &mut coefficients)?;
            plane.transform(place, &coefficients);
            return Ok(());
        }
        let block = plane.index(place);
        match (self.scan.band[0], self.scan.high) {
            (0, 0) => {
                let value = self.dc(index, plane)? << self.scan.low;
                plane.set(block, 0, value);
            }
            (0, _) => {
                if self.bits.bit() {
                    plane.refine(block, 0, 1 << self.scan.low);
                }
            }
            (_, 0) => self.first(index, block, plane)?,
            _ => self.refine(index, block, plane)?,
        }
        Ok(())
    }

    fn code(&mut self, table: Option<&Table>) -> Result<u8, Fault> {
        self.bits.refill();
        match table.and_then(|table| table.decode(&mut self.bits)) {
            Some(value) => Ok(value),
            None if self.bits.overrun() => damaged("the image data end"),
            None => damaged("an invalid code"),
        }
    }

    fn dc(&mut self, index: usize, plane: &Plane) -> Result<i32, Fault> {
        let size = self.code(self.tables[index][0])?;
        if size > 11 {
            return damaged("an invalid difference");
        }
        let value = self.predicted[index] + signed(&mut self.bits, u32::from(size));
        // The mean of 64 samples, times eight, is within ±1,024. Twice that tolerates inaccurate encoders.
        let step = plane.quantisation.map_or(1, |steps| i32::from(steps[0]));
        if (value << self.scan.low).saturating_mul(step).abs() > 2048 + step {
            return damaged("a mean out of range");
        }
        self.predicted[index] = value;
        Ok(value)
    }

    fn sequential(&mut self, index: usize, plane: &Plane, coefficients: &mut [i16; 64]) -> Result<(), Fault> {
        coefficients[0] = self.dc(index, plane)? as i16;
        let table = self.tables[index][1];
        let mut at = 1;
        while at < 64 {
            let code = self.code(table)?;
            let (zeros, size) = (usize::from(code >> 4), u32::from(code & 15));
            match (zeros, size) {
                (15, 0) => at += 16,
                (_, 0) => break,
                _ => {
                    at += zeros;
                    if at > 63 {
                        return damaged("a coefficient beyond the last");
                    }
                    coefficients[usize::from(NATURAL[at])] = signed(&mut self.bits, size) as i16;
                    at += 1;
                }
            }
        }
        if at > 64 {
            return damaged("a coefficient beyond the last");
        }
        Ok(())
    }

    /// Reads the first bits of a band (G.1.2.2).
    fn first(&mut self, index: usize, block: usize, plane: &mut Plane) -> Result<(), Fault> {
        if self.run > 0 {
            self.run -= 1;
            return Ok(());
        }
        let [mut at, last] = self.scan.band;
        while at <= last {
            let code = self.code(self.tables[index][1])?;
            let (zeros, size) = (usize::from(code >> 4), u32::from(code & 15));
            match (zeros, size) {
                (15, 0) => at += 16,
                (_, 0) => {
                    self.run = (1 << zeros) - 1 + self.bits.take(zeros as u32);
                    return Ok(());
                }
                _ => {
                    at += zeros;
                    if at > last {
                        return damaged("a coefficient beyond the last");
                    }
                    let value = signed(&mut self.bits, size) << self.scan.low;
                    plane.set(block, at, value);
                    at += 1;
                }
            }
        }
        if at > last + 1 {
            return damaged("a coefficient beyond the last");
        }
        Ok(())
    }

    /// Reads further bits of a band (G.1.2.3).
    fn refine(&mut self, index: usize, block: usize, plane: &mut Plane) -> Result<(), Fault> {
        let [mut at, last] = self.scan.band;
        let bit = 1 << self.scan.low;
        if self.run > 0 {
            self.run -= 1;
            self.skip(at, last, usize::MAX, block, plane);
            return Ok(());
        }
        while at <= last {
            let code = self.code(self.tables[index][1])?;
            let (zeros, size) = (usize::from(code >> 4), code & 15);
            let value = match (zeros, size) {
                (15, 0) => 0,
                (_, 0) => {
                    self.run = (1 << zeros) - 1 + self.bits.take(zeros as u32);
                    self.skip(at, last, usize::MAX, block, plane);
                    return Ok(());
                }
                (_, 1) => {
                    if self.bits.bit() {
                        bit
                    } else {
                        -bit
                    }
                }
                _ => return damaged("an invalid code"),
            };
            at = self.skip(at, last, zeros, block, plane);
            if at > last {
                return if value == 0 && at == last + 1 {
                    Ok(())
                } else {
                    damaged("a coefficient beyond the last")
                };
            }
            if value != 0 {
                plane.set(block, at, value);
            }
            at += 1;
        }
        Ok(())
    }

    /// Skips `zeros` zero coefficients and refines the others on the way. Returns the index of the next zero
    /// coefficient.
    fn skip(&mut self, mut at: usize, last: usize, mut zeros: usize, block: usize, plane: &mut Plane) -> usize {
        while at <= last {
            if plane.known[block] >> at & 1 == 1 {
                if self.bits.bit() {
                    plane.refine(block, at, 1 << self.scan.low);
                }
            } else if zeros == 0 {
                break;
            } else {
                zeros -= 1;
            }
            at += 1;
        }
        at
    }

    /// Passes the restart marker of a number.
    fn restart(&mut self, number: u32) -> Result<(), Fault> {
        let rest = self.bits.rest();
        self.check_rest(&rest)?;
        let expected = 0xd0 + (number % 8) as u8;
        let data = self.bits.data();
        match data.get(rest.marker..rest.marker + 2) {
            Some(&[_, marker]) if marker == expected => {}
            Some(&[_, marker]) => return damaged(format!("marker {marker:02x} where {expected:02x} was expected")),
            _ => return damaged("the image data end"),
        }
        self.bits.restart(rest.marker + 2);
        (self.predicted, self.run) = ([0; 4], 0);
        Ok(())
    }

    /// Checks that there is only padding between the last used bit and a marker.
    fn check_rest(&self, rest: &super::bits::Rest) -> Result<(), Fault> {
        if self.run > 0 {
            return damaged("a run goes beyond the last block");
        }
        let padding = |byte: u8| rest.bytes.iter().all(|&other| other == byte);
        // Some cameras fill a buffer with zeros. If zeros were also taken as image data, a sector was lost.
        if rest.bytes.len() <= 1 || padding(0xff) || padding(0) && !rest.after_zeros {
            return Ok(());
        }
        damaged(format!("{} bytes are left after the last block", rest.bytes.len()))
    }

    fn end(&self, start: usize) -> Result<usize, Fault> {
        let rest = self.bits.rest();
        self.check_rest(&rest)?;
        let coefficient = |table: &Table| table.of_zeros().is_some_and(|value| value & 15 != 0);
        let zeros_are_coefficients = self.scan.high == 0
            && self.scan.band[1] > 0
            && self.tables.iter().all(|[_, ac]| ac.is_some_and(coefficient));
        let used = start..rest.marker.saturating_sub(rest.bytes.len()).max(start);
        if zeros_are_coefficients && let Some(at) = zeros(&self.bits.data()[used]) {
            return damaged(format!(
                "{LOST} zero bytes and more within the image data, from byte {}",
                start + at
            ));
        }
        Ok(rest.marker)
    }
}

/// Returns the start of a run of [`LOST`] zeros.
fn zeros(data: &[u8]) -> Option<usize> {
    // Such a run contains at least one complete piece of half its length.
    let pieces = data.chunks_exact(LOST / 2).enumerate();
    let mut candidates = pieces.filter(|(_, piece)| piece.iter().all(|&byte| byte == 0));
    candidates.find_map(|(index, _)| {
        let middle = index * LOST / 2;
        let before = data[..middle]
            .iter()
            .rev()
            .take_while(|&&byte| byte == 0)
            .take(LOST)
            .count();
        let after = data[middle..].iter().take_while(|&&byte| byte == 0).take(LOST).count();
        (before + after >= LOST).then(|| middle - before)
    })
}
