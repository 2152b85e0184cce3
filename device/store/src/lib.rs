//! Crash-safe store of a device's adapters. It accepts only files signed by a trusted key.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use clr_store::{Store, StoreOptions};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (backbone, trust, file) = (clr_adapters::Digest([0; 32]), clr_adapters::Trust::default(), Vec::new());
//!
//! let store = Store::open_directory(Path::new("/var/lib/clr"), StoreOptions::new(backbone, trust))?;
//! let installed = store.install(&file, None)?; // on trial
//! let serving = store.serving(&installed.task)?;
//! assert!(serving.trial);
//! store.confirm(&installed.task, &serving.held.digest)?; // the trial is over
//! # Ok(())
//! # }
//! ```
//!
//! # On the disk
//!
//! ```text
//! lock                          held by flock(2), as is the folder itself, while the store is open; the process's id and a newline
//! active, active.copy           sealed: the tasks to serve after a restart, UTF-8, separated by line feeds; `auto`: selected for each frame; empty: none
//! time, time.copy               sealed: the highest time ever recorded, 8 bytes, seconds since 1970
//! tasks/<task>                  sealed: one record per task, the one commit point of every change to it
//! copies/<task>                 the same bytes, written after the record
//! adapters/<sha256>.clr         adapters as received, never changed
//! incoming/<sha256>.part        uploads in progress that were announced by a publisher's signature
//! examples/<task>/<sha256>      labelled images, named by the SHA-256 of the image
//! checkpoints/<task>            sealed: the state of the task's tuning run
//! ```
//!
//! `<task>` is the task's encoded name: every byte except `a`–`z`, `0`–`9`, `-` and `_` becomes `%` and two lower-case
//! hexadecimal digits. If the result is longer than 210 characters, the encoded name is instead `~` and the base-32
//! digits of the name's bytes (RFC 4648, lower case, without padding). `<sha256>` is in lower-case hexadecimal. A name
//! that ends in `.new` is a temporary file. Opening the store removes leftover temporary files, and adapters that no
//! record refers to. If a folder exists at the path of a file, writing the file renames the folder to `<name>.aside1`
//! (to 8).
//!
//! Integers are little-endian. A *sealed* file:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic: `CLRtask\x02`, `CLRactv\x01`, `CLRtime\x01`, `CLRtune\x01`; heads: `CLRexmp\x01`, `CLRpart\x02` |
//! | 8 | 4 | `N`, bytes of the contents |
//! | 12 | `N` | contents |
//! | 12 + `N` | 4 | CRC-32 (IEEE) of all bytes before it |
//!
//! ## A record's contents
//!
//! [postcard](https://postcard.jamesmunns.com/wire-format), in this order. *held* describes a stored adapter: digest
//! (32 bytes), version (varint), revision (varint), bytes of the file (varint), tuned on this device (byte 0 or 1). An
//! option is a byte 0, or a byte 1 and the value. A record has at most 16 KiB.
//!
//! | field | type | meaning |
//! |---|---|---|
//! | task | varint length, UTF-8 | the name; must be the file's |
//! | confirmed | option of held | serves unless one is on trial |
//! | trial | option of: held, unclean ends (varint), in use (byte 0 or 1), frames, slow, low (varints), highest version before (varint) | serves, until it is confirmed or reverted |
//! | last good | option of held | served before the confirmed one |
//! | restore | option of held | the publisher's original of a tuned adapter |
//! | highest admitted version | varint | the highest publisher's version ever admitted, failed trials excepted; a received file must be above it |
//! | reverted | option of: held, reason (varint length, UTF-8, at most 512 bytes), time (option of varint) | the last adapter taken out of service, and the reason |
//! | confirmation | varint | the number of the last confirmation among all of the store, from 1; 0: none |
//! | known | varint count, 32 bytes each | digests admitted from a publisher or confirmed, the latest last, at most 64 |
//! | erasing | byte 0 or 1 | the task is being removed: its examples, run state and entry among the active tasks are removed next |
//!
//! If a removed task ever admitted a publisher's version, its record remains, without adapters.
//!
//! Format 1 (magic `CLRtask\x01`) is also read, and opening the store rewrites it as format 2. It has no field
//! `confirmation`. Its field `trial` consists of *held* and the number of starts (varint), which is ignored. Its
//! highest admitted version was the highest *confirmed* version; the conversion raises it to the version on trial.
//!
//! ## An upload in progress
//!
//! A sealed head and one frame per piece. The head contains the length of the upload (8 bytes) and the announcement:
//! key, signature and release statement, as in a file's trailer. Each frame is synced before its bytes are reported as
//! held. After a power cut, the data of all frames before the first damaged one is kept. The announcement is verified
//! before the file is created, and again when the store is opened. Uploads without an announcement are held in memory.
//!
//! | offset in the frame | bytes | field |
//! |---|---|---|
//! | 0 | 4 | `N`, bytes of data |
//! | 4 | 4 | CRC-32 of the data's offset in the upload (8 bytes) and the data |
//! | 8 | `N` | data |
//!
//! ## An example
//!
//! A sealed head (contents in postcard: label, one space if there is none, time as an option of varint, bytes of the
//! image as varint), then the image.
//!
//! # Commit of a change
//!
//! 1. The adapter is written to a temporary file, synced and renamed, and its directory is synced.
//! 2. The record is replaced in the same way. Its rename is the commit point. If the sync after the rename fails, the
//!    old record is restored.
//! 3. The record's copy is replaced. If that fails, the copy is removed.
//! 4. Files without a reference are removed.
//!
//! A removal removes the copy before the record.
//!
//! # Recovery from damage
//!
//! | damaged | recovery |
//! |---|---|
//! | a record, `active` or `time` | its copy is used, and the file rewritten |
//! | a copy, or an outdated copy | rewritten from the file |
//! | a record and its copy | salvaged from the task's intact, trusted adapters: the newest serves, on trial if there is another, and the highest admitted version is the highest version found |
//! | a record and its copy, and no adapter is intact | the task serves nothing and accepts nothing until it is removed |
//! | `active` and its copy | the only task is active; with several, the last confirmed one |
//! | an adapter | the next one in this order serves: on trial, confirmed, last good, original |
//!
//! [`Store::problems`] lists each of these. None of them prevents the store from opening, nor does a read-only disk.
//! Repairs that fail are tried again at the next start.
//!
//! # Limits
//!
//! [`Caps`] limits tasks and bytes and sets a reserve of free space. Examples, uploads, adapters and run states are
//! refused where they would use the reserve; records are not.
#![forbid(unsafe_code)]

mod active;
mod atomic;
mod checkpoints;
mod copies;
mod directory;
mod error;
mod examples;
mod incoming;
mod layout;
mod names;
mod options;
mod piece;
mod problem;
mod record;
mod sealed;
#[cfg(feature = "simulation")]
pub mod simulation;
mod staging;
mod state;
mod storage;
mod store;
mod unavailable;
mod verify;
mod written;

pub use directory::Directory;
pub use error::StoreError;
pub use examples::{AddOutcome, StoredExample};
pub use options::{Caps, StoreOptions};
pub use problem::{Damage, Problem, ProblemKind, Recovery};
pub use state::{OnTrial, Progress, Reversion, StoredAdapter, StoredTask};
pub use storage::{Entry, EntryKind, LockError, Storage, StorageFile, StorageLock};
pub use store::{Installed, ServingAdapter, StartOutcome, Store};
pub use unavailable::Unavailable;
pub use verify::Report;
pub use written::Written;

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
