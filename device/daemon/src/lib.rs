//! Device daemon `clr-device`: classifies a live source, accepts signed adapters, and recovers after a power cut.
//!
//! ```text
//!  source thread ──frames──▶ mailbox ──▶ inference loop ──JSON lines──▶ stdout
//!  (folder, stdin, camera)               │ watchdog, trial, counters
//!                                        ▼
//!  connections ──update protocol──▶ Runtime ──▶ store, engine, resident adapters
//!  (Unix socket, TCP, serial, stdio)     ▲
//!                                        └── /metrics, /healthz
//! ```
//!
//! The inference loop never waits for a connection, and a connection never waits for a frame. An adapter is prepared on
//! another thread, and then activated by swapping one pointer.

#![cfg(target_os = "linux")]

mod access;
mod budget;
mod canary;
mod check;
mod classify;
mod cli;
mod clock;
mod config;
mod connections;
mod control_target;
mod descriptors;
mod device_key;
mod error;
mod escape;
mod frame_result;
mod health;
mod http;
mod images;
mod inference;
mod latency;
#[cfg(feature = "tuning")]
mod learning;
#[cfg(feature = "tuning")]
mod learning_state;
mod lock;
mod logging;
mod losses;
mod mailbox;
mod metrics;
mod monitored;
mod opened;
mod output;
mod print_line;
mod remote;
mod remote_images;
mod runtime;
mod seldom;
mod signals;
mod source;
mod stderr;
mod tally;
mod task_choice;
mod time;
mod trial;
mod wait_readable;
mod warnings;
mod yielding;

use lock::lock;
use mailbox::{Mailbox, Received};
use print_line::print_line;
use wait_readable::wait_readable;

/// Entry points for fuzzing, without a device.
#[doc(hidden)]
pub mod fuzz {
    /// Splits a stream that arrives in pieces of up to `piece` bytes. Returns the images, and the number of bytes
    /// outside of them.
    pub fn split_stream(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, u64) {
        super::source::split(stream.chunks(piece.max(1)))
    }
}

pub use cli::main;
pub use config::{
    Config, ControlConfig, HostConfig, HttpConfig, KeyConfig, LimitsConfig, SerialConfig, SourceConfig, TcpConfig,
    TrialConfig, TrustConfig, TuningConfig,
};
pub use error::DaemonError;
#[doc(hidden)]
pub use http::http_answer;
pub use task_choice::TaskChoice;
