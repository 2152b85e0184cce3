//! Update protocol between host and device, over any `embedded_io` stream.
//!
//! ```text
//!  host                                                                device
//!   │  Hello { versions 1..=1, chunk 64 KiB }                             │
//!   │ ──────────────────────────────────────────────────────────────────▶ │
//!   │                        Welcome { version 1, chunk 4 KiB, device … } │
//!   │ ◀────────────────────────────────────────────────────────────────── │
//!   │  Begin { digest, length 138,120, an adapter }                       │
//!   │ ──────────────────────────────────────────────────────────────────▶ │   16 KiB of it are on its disk
//!   │                                     Begun { transfer 1, held 16384 }│   from before the cut
//!   │ ◀────────────────────────────────────────────────────────────────── │
//!   │  Chunk { transfer 1, offset 16384, 4096 bytes }                     │
//!   │ ──────────────────────────────────────────────────────────────────▶ │   written, flushed to the disk
//!   │                                                  Held { 20480 }     │
//!   │ ◀────────────────────────────────────────────────────────────────── │
//!   │  …                                                                  │
//!   │  Commit { digest, length, an adapter }                              │
//!   │ ──────────────────────────────────────────────────────────────────▶ │   hashed, verified, decoded,
//!   │                                        Committed { on trial, … }    │   admitted, installed
//!   │ ◀────────────────────────────────────────────────────────────────── │
//! ```
//!
//! Byte map: `docs/reference/update-protocol.md`. A frame is `00 COBS(body ‖ CRC-32) 00`; a body is a head of nine
//! bytes (direction, session, sequence) and one message in postcard. One request is in progress at a time. A damaged
//! one is requested again; a repeated one gets the same reply as before. The crate is `no_std` with `alloc`; the
//! feature `std` (on by default) adds the transports: TCP, Unix sockets, serial lines, standard input and output, a
//! command's pipes.
//!
//! * A device implements [`Device`] and calls [`serve`] on every stream (or drives a [`Session`] itself).
//! * A host creates a [`Client`] with a closure that connects, and sends requests, pushes and pulls.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod access;
mod client;
mod clock;
mod device;
mod digest_text;
mod failure;
mod frame;
mod group;
mod health;
mod message;
mod pacing;
mod receive;
mod refusal;
#[cfg(feature = "secure")]
mod secure;
#[cfg(not(feature = "secure"))]
#[path = "unsealed.rs"]
mod secure;
mod serve;
mod session;
mod status;
mod teaching;
#[cfg(feature = "std")]
mod transport;
mod tuning;

pub use access::{Enrolment, HostEntry, KeyRotation, Role, RoleError, Roles};
pub use client::{Client, ClientError, ClientOptions, LinkFault, Progress, Pulled, Pushed, Security, TeachBatch};
pub use clock::Clock;
#[cfg(feature = "std")]
pub use clock::SystemClock;
pub use clr_adapters::Digest;
pub use device::Device;
pub use failure::{Failure, FailureCode};
pub use frame::{Decoder, Direction, FrameEvent, Head, MAX_BODY, MAX_FRAME, encode_frame};
pub use group::{GroupFault, check_group};
pub use health::{Health, HealthCheck, HealthState, printable};
pub use message::{
    Begin, Capabilities, Committed, DeviceInfo, Kind, MAX_CHUNK, MAX_GROUP, MAX_LABEL, MAX_TASK, MIN_CHUNK,
    MessageFault, PullInfo, Request, Response, Slot, VERSIONS,
};
pub use refusal::AccessRefusal;
#[cfg(feature = "secure")]
pub use secure::{
    Admission, Channel, CodeError, EnrolmentCode, MAX_SECURE_CHUNK, PeerKey, PeerKeyError, PeerSecret, SECURE_VERSION,
};
#[cfg(feature = "secure")]
pub use serve::serve_admitted;
pub use serve::{End, ServeError, ServeLimits, Served, serve};
pub use session::{Session, SessionLimits};
pub use status::{Frames, Latency, Memory, RevertReport, Status, TaskState, TaskSummary, TrialStatus};
pub use teaching::{
    ClassForecast, ExampleSelection, ExampleSummary, ExampleTask, Lack, RemovedExamples, TeachLimits, TeachPhase,
    TeachStatus, TuneForecast,
};
#[cfg(feature = "std")]
pub use transport::{Endpoint, EndpointClient, EndpointError, Link};
pub use tuning::{TunePhase, TuneRequest, TuneStatus, parse_bytes};

/// The example of the README compiles.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;
