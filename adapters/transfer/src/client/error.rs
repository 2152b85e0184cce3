//! What can go wrong for a host.

use alloc::string::String;

use clr_adapters::Digest;
use embedded_io::ErrorKind;

use crate::{failure::Failure, refusal::AccessRefusal};

/// Why a connection was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkFault {
    /// The device closed it.
    #[error("the device closed the connection")]
    Closed,
    /// No answer came in time.
    #[error("the device did not answer in time")]
    Silent,
    /// A frame began and did not end in time, or was not taken in time.
    #[error("the connection stalled within a frame")]
    Stalled,
    /// The stream failed.
    #[error("the connection failed: {0}")]
    Io(ErrorKind),
    /// The handshake came to nothing: another device answered, or it was altered on the way.
    #[error("the handshake failed: another device answered, or it was altered on the way")]
    Handshake,
    /// The device has too many connections.
    #[error("the device has too many connections")]
    Busy,
    /// The device has forgotten the session.
    #[error("the device started the session anew")]
    Session,
}

/// Why a request did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection could be made.
    #[error("cannot connect: {reason}\nhint: is the device on, and does it listen there?")]
    Connect {
        /// What the transport says.
        reason: String,
    },
    /// The device opens no session for this host.
    #[error(transparent)]
    NotAdmitted(AccessRefusal),
    /// The device said no; its state is as before.
    #[error(transparent)]
    Refused(Failure),
    /// The connection broke again and again. What the device holds stays there: the next attempt resumes.
    #[error("{fault}, {attempts} times in a row\nhint: run the command again; it goes on where it stopped")]
    Lost {
        /// Connections made in a row without a step forward.
        attempts: u32,
        /// What ended the last one.
        fault: LinkFault,
    },
    /// The connection broke after a request that must not be made twice, before its answer.
    #[error(
        "the connection broke before the answer to `{request}`: it may or may not be done\nhint: ask for the status"
    )]
    Uncertain {
        /// The request.
        request: &'static str,
    },
    /// The device answered something that does not belong to the request.
    #[error("the device's answer to `{request}` makes no sense\nhint: device and host should run the same version")]
    Unexpected {
        /// The request.
        request: &'static str,
    },
    /// A size beyond its cap.
    #[error("{what}: {got} bytes, at most {cap} allowed")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The cap.
        cap: u64,
        /// The size.
        got: u64,
    },
    /// A fetched file is not what the device announced.
    #[error(
        "the fetched file has digest {got}, expected {expected}\nhint: it changed on the device meanwhile, or its disk is failing"
    )]
    WrongDigest {
        /// As announced.
        expected: Digest,
        /// As fetched.
        got: Digest,
    },
}
