//! The daemon `clr-device`: classifies a live source, takes signed adapters, and comes back whole after every power cut.
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
//! The inference loop never waits for a connection, and no connection for a frame: an adapter is prepared beside the
//! loop and then put in place by swapping one pointer.

mod access;
mod answer;
mod canary;
mod cli;
mod config;
mod connections;
mod error;
mod http;
mod inference;
mod latency;
#[cfg(feature = "tuning")]
mod learning;
mod mailbox;
mod metrics;
mod readable;
mod remote;
mod runtime;
mod say;
mod signals;
mod source;
mod trial;

use mailbox::{Mailbox, Received};
use readable::readable;
use say::say;

pub use cli::main;
pub use config::{
    Config, ControlConfig, HostConfig, HttpConfig, KeyConfig, LimitsConfig, SerialConfig, SourceConfig, TcpConfig,
    TrialConfig, TrustConfig, TuningConfig,
};
pub use error::DaemonError;
