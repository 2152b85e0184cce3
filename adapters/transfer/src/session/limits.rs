//! Limits of a session.

use crate::message::MAX_CHUNK;

/// Limits of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionLimits {
    /// Maximum bytes of a chunk in both directions, 64 to 65,536.
    pub chunk: u32,
    /// Maximum bytes of a transfer, and of the file that a delta produces.
    pub transfer_bytes: u64,
    /// Maximum number of open transfers. Opening another one closes the oldest.
    pub transfers: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            chunk: MAX_CHUNK,
            transfer_bytes: clr_adapters::Limits::DEFAULT.file_bytes as u64,
            transfers: 8,
        }
    }
}

impl SessionLimits {
    /// Sets the maximum bytes of a chunk in both directions, 64 to 65,536.
    #[must_use]
    pub fn with_chunk(mut self, chunk: u32) -> Self {
        self.chunk = chunk;
        self
    }

    /// Sets the maximum bytes of a transfer, and of the file that a delta produces.
    #[must_use]
    pub fn with_transfer_bytes(mut self, transfer_bytes: u64) -> Self {
        self.transfer_bytes = transfer_bytes;
        self
    }

    /// Sets the maximum number of open transfers.
    #[must_use]
    pub fn with_transfers(mut self, transfers: usize) -> Self {
        self.transfers = transfers;
        self
    }
}
