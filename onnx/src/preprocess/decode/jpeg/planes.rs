//! Component samples at the reduced size, and the coefficients of progressive files that this size needs.

use std::collections::TryReserveError;

use super::{
    super::reduce::zeroed,
    frame::{Frame, NATURAL},
    idct,
};

/// A component.
#[derive(Debug)]
pub(super) struct Plane {
    /// Samples of a block per side: 1, 2, 4 or 8; 0 if the file is only checked.
    pub(super) side: usize,
    /// Number of blocks horizontally, including those beyond the image's edge.
    blocks: usize,
    /// Number of stored samples inside the image, horizontally and vertically. Beyond them, the content of blocks is
    /// arbitrary.
    stored: [usize; 2],
    pub(super) samples: Vec<u8>,
    /// For progressive files: which coefficients are not zero, by block, in zig-zag order.
    pub(super) known: Vec<u64>,
    /// For progressive files: the `side` × `side` lowest coefficients of each block.
    low: Vec<i16>,
    /// The quantisation table that was in effect when the component's first scan began.
    pub(super) quantisation: Option<[u16; 64]>,
}

/// Returns the samples per side of a component's block if the image is reduced by `factor`; 0 if none are needed.
///
/// A component with fewer samples than the others is reduced less, so that it does not have to be enlarged again. The
/// axis with the fewest samples determines by how much less. The other axis may then have more samples than the image;
/// their means are used.
fn side(frame: &Frame, component: usize, factor: u32) -> usize {
    if factor == 1 {
        return 0;
    }
    let sampling = frame.components[component].sampling;
    let fewer = (0..2).map(|axis| frame.most[axis] / sampling[axis]).max().unwrap_or(1);
    let side = 8 / factor
        * if fewer >= 4 {
            4
        } else if fewer >= 2 {
            2
        } else {
            1
        };
    side.min(8) as usize
}

/// Returns the number of blocks of a component horizontally and vertically, including those beyond the image's edge.
fn padded(frame: &Frame, component: usize) -> [usize; 2] {
    let (units, sampling) = (frame.units(), frame.components[component].sampling);
    [0, 1].map(|axis| (units[axis] * sampling[axis]) as usize)
}

/// Returns the bytes of the planes of all components.
pub(super) fn bytes(frame: &Frame, factor: u32) -> u64 {
    (0..frame.components.len())
        .map(|component| {
            let [across, down] = padded(frame, component);
            let coefficients = side(frame, component, factor).pow(2);
            let kept = if frame.progressive { 8 + 2 * coefficients } else { 0 };
            (across * down * (coefficients + kept)) as u64
        })
        .sum()
}

impl Plane {
    pub(super) fn new(frame: &Frame, component: usize, factor: u32) -> Result<Self, TryReserveError> {
        let side = side(frame, component, factor);
        let [across, down] = padded(frame, component);
        let kept = if frame.progressive { across * down } else { 0 };
        Ok(Self {
            side,
            blocks: across,
            stored: [0, 1].map(|axis| {
                let sampling = frame.components[component].sampling[axis];
                (frame.size[axis] * sampling).div_ceil(frame.most[axis]) as usize
            }),
            samples: zeroed(across * down * side * side)?,
            known: zeroed(kept)?,
            low: zeroed(kept * side * side)?,
            quantisation: None,
        })
    }

    /// Returns the number of samples from one row to the next.
    pub(super) fn stride(&self) -> usize {
        self.blocks * self.side
    }

    /// Returns the number of samples inside the image, horizontally and vertically.
    pub(super) fn valid(&self) -> [usize; 2] {
        self.stored.map(|stored| stored.div_ceil(8 / self.side.max(1)))
    }

    pub(super) fn index(&self, [x, y]: [u32; 2]) -> usize {
        y as usize * self.blocks + x as usize
    }

    /// Returns where the coefficient with this zig-zag index is stored.
    fn kept(&self, block: usize, index: usize) -> Option<usize> {
        let natural = usize::from(NATURAL[index]);
        let (row, column) = (natural / 8, natural % 8);
        (row.max(column) < self.side).then(|| (block * self.side + row) * self.side + column)
    }

    /// Sets a coefficient of a progressive file.
    pub(super) fn set(&mut self, block: usize, index: usize, value: i32) {
        if value != 0 {
            self.known[block] |= 1 << index;
        }
        if let Some(at) = self.kept(block, index) {
            self.low[at] = value as i16;
        }
    }

    /// Adds a bit of lower weight to a non-zero coefficient, away from zero.
    pub(super) fn refine(&mut self, block: usize, index: usize, bit: i32) {
        if let Some(at) = self.kept(block, index) {
            let value = i32::from(self.low[at]);
            // If the bit is sent twice, it counts once.
            if value & bit == 0 || index == 0 {
                self.low[at] = if value < 0 && index > 0 {
                    value - bit
                } else {
                    value | bit
                } as i16;
            }
        }
    }

    /// Computes the samples of a block from its coefficients in natural order.
    pub(super) fn transform(&mut self, [x, y]: [u32; 2], coefficients: &[i16; 64]) {
        let Some(quantisation) = &self.quantisation else { return };
        if self.side == 0 {
            return;
        }
        let stride = self.blocks * self.side;
        let at = y as usize * self.side * stride + x as usize * self.side;
        let inside = [x, y].map(|block| 8 * block as usize);
        let inside = [0, 1].map(|axis| self.stored[axis].saturating_sub(inside[axis]).min(8));
        let out = &mut self.samples[at..];
        if self.side == 8 || inside == [8, 8] {
            idct::block(self.side, coefficients, quantisation, out, stride);
            return;
        }
        let mut whole = [0; 64];
        idct::block(8, coefficients, quantisation, &mut whole, 8);
        let step = 8 / self.side;
        let [across, down] = inside.map(|inside| inside.div_ceil(step));
        for row in 0..down {
            for column in 0..across {
                out[row * stride + column] = mean(&whole, [column * step, row * step], step, inside);
            }
        }
    }

    /// Computes the samples of a progressive file after all scans have been read.
    pub(super) fn transform_all(&mut self) {
        let side = self.side;
        if side == 0 || self.known.is_empty() {
            return;
        }
        for block in 0..self.known.len() {
            let mut coefficients = [0; 64];
            for row in 0..side {
                let from = &self.low[(block * side + row) * side..][..side];
                coefficients[8 * row..8 * row + side].copy_from_slice(from);
            }
            let place = [block % self.blocks, block / self.blocks].map(|value| value as u32);
            self.transform(place, &coefficients);
        }
        self.low = Vec::new();
    }
}

/// Returns the mean of `step` × `step` samples of a block, as far as they are inside the image.
fn mean(block: &[u8; 64], [left, top]: [usize; 2], step: usize, [width, height]: [usize; 2]) -> u8 {
    let (across, down) = (left..width.min(left + step), top..height.min(top + step));
    let count = (across.len() * down.len()) as u32;
    let sum: u32 = (down.flat_map(|y| &block[8 * y..][across.clone()]))
        .map(|&sample| u32::from(sample))
        .sum();
    ((sum + count / 2) / count) as u8
}
