//! Pull: downloads a file from the device.

use alloc::vec::Vec;
use core::fmt::Display;

use clr_adapters::Digest;
use embedded_io::{Read, Write};

use super::{Client, ClientError, LinkFault, Lost, Progress, Repeat};
use crate::message::{PullInfo, Request, Response, Slot};

/// A fetched file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The file's bytes, verified against the announced digest.
    pub bytes: Vec<u8>,
    /// SHA-256 of these bytes.
    pub digest: Digest,
}

/// Maximum number of consecutive damaged or empty replies.
const FUTILE: u32 = 64;

impl<S, F, E> Client<'_, S, F>
where
    S: Read + Write,
    F: FnMut() -> Result<S, E>,
    E: Display,
{
    /// Returns the digest and length of a task's file.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub fn open(&mut self, task: &str, slot: Slot) -> Result<PullInfo, ClientError> {
        self.ask(&Request::Open { task, slot }, Repeat::Safe, |response| match response {
            Response::Opened(info) => Some(info),
            _ => None,
        })
    }

    /// Downloads a file of a task, of at most `cap` bytes. Memory grows with the received bytes, not with the announced
    /// length.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails; [`ClientError::WrongDigest`] if the bytes do not match the announced
    /// digest.
    pub fn pull(
        &mut self,
        task: &str,
        slot: Slot,
        cap: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pulled, ClientError> {
        let info = self.open(task, slot)?;
        self.read_file(info, cap, progress)
    }

    /// Downloads a stored image of a task, of at most `cap` bytes.
    ///
    /// # Errors
    /// [`ClientError`] in the same cases as [`Client::pull`].
    pub fn pull_example(
        &mut self,
        task: &str,
        id: Digest,
        cap: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pulled, ClientError> {
        let request = Request::OpenExample { task, id };
        let info = self.ask(&request, Repeat::Safe, |response| match response {
            Response::Opened(info) => Some(info),
            _ => None,
        })?;
        self.read_file(info, cap, progress)
    }

    fn read_file(
        &mut self,
        info: PullInfo,
        cap: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pulled, ClientError> {
        if info.length > cap {
            return Err(ClientError::TooLarge {
                what: "the file",
                cap,
                got: info.length,
            });
        }
        let mut bytes: Vec<u8> = Vec::new();
        let mut futile = 0;
        while (bytes.len() as u64) < info.length {
            let offset = bytes.len() as u64;
            progress(Progress {
                done: offset,
                total: info.length,
            });
            self.established()?;
            let request = Request::Read {
                digest: info.digest,
                offset,
                length: self.pacing.size(),
            };
            let reply = self.exchange(&request, false, |response| match response {
                Response::Data { offset: at, data } if at == offset => Some(data.to_vec()),
                _ => None,
            });
            match reply {
                Ok(data) if data.is_empty() || offset + data.len() as u64 > info.length => {
                    return Err(ClientError::Unexpected { request: "read" });
                }
                Ok(data) => {
                    futile = 0;
                    bytes.extend(data);
                    self.step_forward();
                    self.pacing.good();
                }
                Err(Lost::Damaged) if futile < FUTILE => {
                    futile += 1;
                    self.pacing.bad();
                }
                Err(Lost::Damaged) => {
                    futile = 0;
                    self.lost(Lost::Link(LinkFault::Silent), "read")?;
                }
                Err(lost) => {
                    self.pacing.cut();
                    self.lost(lost, "read")?;
                }
            }
        }
        progress(Progress {
            done: info.length,
            total: info.length,
        });
        let got = Digest::of(&bytes);
        if got != info.digest {
            return Err(ClientError::WrongDigest {
                expected: info.digest,
                got,
            });
        }
        Ok(Pulled { bytes, digest: got })
    }
}
