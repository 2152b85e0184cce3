//! Adaptive chunk size: the agreed one on a clean line, smaller on a line that damages frames.

use crate::message::MIN_CHUNK;

/// Chunk size control by counting good and damaged chunks.
///
/// A good chunk adds 1 to a score and a damaged one subtracts [`Pacing::COST`]. At [`Pacing::UP`] the size doubles, at
/// [`Pacing::DOWN`] it halves. It settles where about one chunk in five is damaged. That is near the best throughput for
/// independent bit errors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacing {
    size: u32,
    most: u32,
    score: i32,
}

impl Pacing {
    const UP: i32 = 16;
    const DOWN: i32 = -8;
    const COST: i32 = 4;

    pub(crate) fn new(most: u32) -> Self {
        Self {
            size: most,
            most,
            score: 0,
        }
    }

    /// Returns the bytes of the next chunk.
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Sets the peer's maximum.
    pub(crate) fn cap(&mut self, most: u32) {
        self.most = most.max(MIN_CHUNK);
        self.size = self.size.min(self.most);
    }

    pub(crate) fn good(&mut self) {
        self.score += 1;
        if self.score >= Self::UP {
            self.score = 0;
            self.size = (2 * self.size).min(self.most);
        }
    }

    pub(crate) fn bad(&mut self) {
        self.score -= Self::COST;
        if self.score <= Self::DOWN {
            self.cut();
        }
    }

    /// Records a broken connection. The chunk may have been too large for the deadline.
    pub(crate) fn cut(&mut self) {
        self.score = 0;
        self.size = (self.size / 2).max(MIN_CHUNK);
    }
}
