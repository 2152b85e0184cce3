//! Open transfers of a session: files that arrive in chunks.

use alloc::vec::Vec;

use clr_adapters::Digest;

use super::limits::SessionLimits;
use crate::{
    device::Device,
    failure::{Failure, FailureCode},
    message::{Begin, Committed, MessageFault, Response},
};

/// A transfer in progress.
#[derive(Debug)]
struct Transfer {
    number: u32,
    begin: Begin,
    held: u64,
}

/// The open transfers, oldest first.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    open: Vec<Transfer>,
    /// Number of the last transfer.
    number: u32,
}

impl Transfers {
    pub(super) fn begin(
        &mut self,
        device: &dyn Device,
        limits: &SessionLimits,
        begin: Begin,
    ) -> Result<Response<'static>, Failure> {
        check_size(limits, &begin)?;
        let held = device.begin(&begin)?.min(begin.length);
        self.open.retain(|transfer| transfer.begin != begin);
        if self.open.len() >= limits.transfers.max(1) {
            self.open.remove(0);
        }
        self.number += 1;
        let number = self.number;
        self.open.push(Transfer { number, begin, held });
        Ok(Response::Begun { transfer: number, held })
    }

    /// Takes a chunk of at most `cap` bytes.
    pub(super) fn chunk(
        &mut self,
        device: &dyn Device,
        cap: u32,
        (number, offset, data): (u32, u64, &[u8]),
    ) -> Result<Response<'static>, Failure> {
        let Some(transfer) = self.open.iter_mut().find(|transfer| transfer.number == number) else {
            return Err(Failure::new(
                FailureCode::NO_TRANSFER,
                format_args!("transfer {number} is not open\nhint: it begins with a begin"),
            ));
        };
        let (cap, got) = (u64::from(cap), data.len() as u64);
        if got > cap {
            return Err(MessageFault::TooLarge {
                what: "bytes of a chunk",
                cap,
                got,
            }
            .into());
        }
        if offset.checked_add(got).is_none_or(|end| end > transfer.begin.length) {
            return Err(Failure::new(
                FailureCode::MALFORMED,
                format_args!(
                    "a chunk of {got} bytes at {offset} goes beyond the {} bytes announced",
                    transfer.begin.length
                ),
            ));
        }
        // A chunk after a gap is ignored. Of a chunk that overlaps, only the new bytes are taken. The reply states the
        // offset to continue at.
        if let Some(known) = transfer.held.checked_sub(offset)
            && known < got
        {
            let fresh = &data[known as usize..];
            let held = device.chunk(&transfer.begin.digest, transfer.held, fresh)?;
            transfer.held = held.min(transfer.begin.length);
        }
        Ok(Response::Held { held: transfer.held })
    }

    pub(super) fn commit(
        &mut self,
        device: &dyn Device,
        limits: &SessionLimits,
        begin: &Begin,
    ) -> Result<Committed, Failure> {
        check_size(limits, begin)?;
        let committed = device.commit(begin)?;
        self.open.retain(|transfer| transfer.begin != *begin);
        Ok(committed)
    }

    pub(super) fn abort(&mut self, device: &dyn Device, digest: &Digest) -> Result<(), Failure> {
        self.open.retain(|transfer| transfer.begin.digest != *digest);
        device.abort(digest)
    }
}

fn check_size(limits: &SessionLimits, begin: &Begin) -> Result<(), Failure> {
    let cap = limits.transfer_bytes;
    let got = begin.length.max(begin.kind.made_bytes().unwrap_or(0));
    if got > cap {
        let what = "bytes of a transfer";
        return Err(MessageFault::TooLarge { what, cap, got }.into());
    }
    Ok(())
}
