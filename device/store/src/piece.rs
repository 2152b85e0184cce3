//! A piece of an upload.

use std::time::Duration;

use clr_adapters::Digest;

use crate::error::StoreError;

/// An upload may be dropped in favour of another one if it has not grown for this long.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Relation of a piece to the bytes held.
pub(crate) struct Piece {
    pub(crate) digest: Digest,
    pub(crate) length: u64,
    pub(crate) held: u64,
}

impl Piece {
    /// Returns the part of a piece that the upload does not have yet.
    pub(crate) fn fresh<'a>(&self, offset: u64, bytes: &'a [u8]) -> Result<&'a [u8], StoreError> {
        let &Self { digest, length, held } = self;
        let Some(known) = held.checked_sub(offset) else {
            return Err(StoreError::Offset {
                digest,
                held,
                got: offset,
            });
        };
        let end = offset.saturating_add(bytes.len() as u64);
        if end > length {
            return Err(StoreError::UploadLength {
                digest,
                expected: length,
                got: end,
            });
        }
        Ok(bytes.get(known as usize..).unwrap_or_default())
    }
}
