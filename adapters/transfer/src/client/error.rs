//! Errors of the protocol's client.

use alloc::string::String;

use clr_adapters::Digest;
use embedded_io::ErrorKind;

use crate::{failure::Failure, refusal::AccessRefusal};

/// Reason why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkFault {
    /// The device closed the connection.
    #[error("the device closed the connection")]
    Closed,
    /// No reply came in time.
    #[error("the device did not answer in time")]
    Silent,
    /// A frame was not completely received, or not completely accepted, before its deadline.
    #[error("the connection stalled within a frame")]
    Stalled,
    /// The stream failed.
    #[error("the connection failed: {0}")]
    Io(ErrorKind),
    /// The handshake failed: another device replied, or a message was altered in transit.
    #[error("the handshake failed: another device answered, or it was altered on the way")]
    Handshake,
    /// The device has too many connections.
    #[error("the device has too many connections")]
    Busy,
    /// The device no longer has the session.
    #[error("the device no longer has the session")]
    Session,
}

/// Error of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection could be made.
    #[error("cannot connect: {reason}\nhint: is the device on, and does it listen there?")]
    Connect {
        /// The transport's reason.
        reason: String,
    },
    /// The device refuses a session with this host.
    #[error(transparent)]
    NotAdmitted(AccessRefusal),
    /// The device refused the request; its state has not changed.
    #[error(transparent)]
    Refused(Failure),
    /// The connection broke repeatedly. The device keeps the data received so far, and the next attempt resumes.
    #[error("{fault}, {attempts} times in a row\nhint: run the command again; it continues where it stopped")]
    Lost {
        /// Consecutive connections without progress.
        attempts: u32,
        /// The fault of the last connection.
        fault: LinkFault,
    },
    /// The connection broke before the reply to a request that must not be repeated, so its outcome is unknown.
    #[error(
        "the connection broke before the answer to `{request}`: it may or may not be done\nhint: ask for the status"
    )]
    Uncertain {
        /// The request.
        request: &'static str,
    },
    /// The reply does not match the request.
    #[error(
        "the device's reply does not match the request `{request}`\nhint: device and host should run the same version"
    )]
    Unexpected {
        /// The request.
        request: &'static str,
    },
    /// A size is beyond its cap.
    #[error("{what}: {got} bytes, at most {cap} allowed")]
    TooLarge {
        /// The limited quantity.
        what: &'static str,
        /// The cap.
        cap: u64,
        /// The size.
        got: u64,
    },
    /// A fetched file does not match the announced digest.
    #[error(
        "the fetched file has digest {got}, expected {expected}\nhint: it changed on the device meanwhile, or its disk is failing"
    )]
    WrongDigest {
        /// The announced digest.
        expected: Digest,
        /// The digest of the fetched bytes.
        got: Digest,
    },
}
