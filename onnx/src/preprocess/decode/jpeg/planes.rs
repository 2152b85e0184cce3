//! Samples of the components at the reduced size, and coefficients of progressive files as far as that size needs them.

use std::collections::TryReserveError;

use super::{
    super::reduce::zeroed,
    frame::{Frame, NATURAL},
    idct,
};

/// One component.
#[derive(Debug)]
pub(super) struct Plane {
    /// Samples of a block across and down: 1, 2, 4 or 8; 0 where the file is only checked.
    pub(super) side: usize,
    /// Blocks across, those beyond the image's edge included.
    blocks: usize,
    /// Stored samples that the image has, across and down: an encoder fills its blocks with whatever beyond them.
    stored: [usize; 2],
    pub(super) samples: Vec<u8>,
    /// Of progressive files: which coefficients are not zero, by block, in zig-zag order.
    pub(super) known: Vec<u64>,
    /// Of progressive files: the `side` × `side` lowest coefficients of each block.
    low: Vec<i16>,
    /// In force when the component's first scan began.
    pub(super) quantisation: Option<[u16; 64]>,
}

/// Samples of a component's block where the image is reduced by `factor`; 0 for none.
///
/// A component with fewer samples than the others is reduced less, so that it need not be enlarged again: as much less as on the axis where it
/// has the fewest, so on the other it may have more than the image, of which means are taken.
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

/// Blocks of a component, across and down, those beyond the image's edge included.
fn padded(frame: &Frame, component: usize) -> [usize; 2] {
    let (units, sampling) = (frame.units(), frame.components[component].sampling);
    [0, 1].map(|axis| (units[axis] * sampling[axis]) as usize)
}

/// Returns the bytes that the planes of all components take.
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

    /// Samples from one row to the next.
    pub(super) fn stride(&self) -> usize {
        self.blocks * self.side
    }

    /// Samples that the image has, across and down.
    pub(super) fn valid(&self) -> [usize; 2] {
        self.stored.map(|stored| stored.div_ceil(8 / self.side.max(1)))
    }

    pub(super) fn index(&self, [x, y]: [u32; 2]) -> usize {
        y as usize * self.blocks + x as usize
    }

    /// Where the coefficient of a zig-zag index is kept.
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

    /// Adds a bit of lower weight to a coefficient that is not zero, away from zero.
    pub(super) fn refine(&mut self, block: usize, index: usize, bit: i32) {
        if let Some(at) = self.kept(block, index) {
            let value = i32::from(self.low[at]);
            // Sent twice, it counts once.
            if value & bit == 0 || index == 0 {
                self.low[at] = if value < 0 && index > 0 {
                    value - bit
                } else {
                    value | bit
                } as i16;
            }
        }
    }

    /// Samples of a block from its coefficients in natural order.
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

    /// Samples of a progressive file once all scans are read.
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

/// Returns the mean of `step` × `step` samples of a block, as far as they are inside.
fn mean(block: &[u8; 64], [left, top]: [usize; 2], step: usize, [width, height]: [usize; 2]) -> u8 {
    let (across, down) = (left..width.min(left + step), top..height.min(top + step));
    let count = (across.len() * down.len()) as u32;
    let sum: u32 = (down.flat_map(|y| &block[8 * y..][across.clone()]))
        .map(|&sample| u32::from(sample))
        .sum();
    ((sum + count / 2) / count) as u8
}
