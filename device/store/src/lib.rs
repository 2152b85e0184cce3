//! Where a device keeps its adapters: whole after every power cut, closed to what nobody trusted signed.
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
//! active, active.copy           sealed: the task to serve after a restart, UTF-8; `auto` where it is chosen from each frame, empty for none
//! time, time.copy               sealed: the highest time that was noted, 8 bytes, seconds since 1970
//! tasks/<task>                  sealed: one record per task, the one commit point of every change to it
//! copies/<task>                 the same bytes, written after it
//! adapters/<sha256>.clr         adapters as they were received, never changed
//! incoming/<sha256>.part        uploads that a publisher's signature announces, under way
//! examples/<task>/<sha256>      labelled images, named by the image's bytes
//! checkpoints/<task>            sealed: where tuning stands
//! ```
//!
//! `<task>` is the task's name with every byte but `a`–`z`, `0`–`9`, `-` and `_` as `%` and two lower-case hexadecimal digits; if that is longer than
//! 210 characters, `~` and the base-32 digits of the name's bytes (RFC 4648, lower case, without padding). `<sha256>` is in lower-case hexadecimal. A name
//! that ends in `.new` is of a file that is being written; such leftovers, and adapters that no record names, go when the store is opened. A folder
//! that has the place of a file is renamed to `<name>.aside1` (to 8) when that file is written.
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
//! [postcard](https://postcard.jamesmunns.com/wire-format), in this order. *held* is: digest (32 bytes), version (varint), revision (varint), bytes of the file
//! (varint), tuned here (byte 0 or 1). An option is a byte 0, or 1 and the value. A record has at most 16 KiB.
//!
//! | field | type | meaning |
//! |---|---|---|
//! | task | varint length, UTF-8 | the name; must be the file's |
//! | confirmed | option of held | serves unless one is on trial |
//! | trial | option of: held, unclean ends (varint), in use (byte 0 or 1), frames, slow, low (varints), highest version before (varint) | serves, until it is confirmed or reverted |
//! | last good | option of held | served before the confirmed one |
//! | restore | option of held | the publisher's original of a tuned adapter |
//! | highest admitted version | varint | the highest publisher's version ever admitted, failed trials excepted; what is received must be above it |
//! | reverted | option of: held, reason (varint length, UTF-8, at most 512 bytes), time (option of varint) | what was last taken out of service, and why |
//! | confirmation | varint | the number of the last confirmation among all of the store, from 1; 0: none |
//! | known | varint count, 32 bytes each | digests admitted from a publisher or confirmed, the latest last, at most 64 |
//! | erasing | byte 0 or 1 | the task is removed; its examples, checkpoint and place as the active task are to go |
//!
//! A removed task keeps a record without adapters if it ever admitted a version of a publisher.
//!
//! Format 1 (magic `CLRtask\x01`) is read as well and rewritten as format 2 when the store is opened. It has no confirmation; its trial is held and starts (varint), which do
//! not count any more; its highest admitted version was the highest version *confirmed*, and rises to the version on trial.
//!
//! ## An upload under way
//!
//! A sealed head (contents: the length of what is uploaded, 8 bytes, and the announcement: key, signature and release statement as in a file's trailer),
//! then one frame per piece; each is synced before it counts. What is held after a power cut is the data of all frames up to the first that is not sound.
//! The announcement was verified before the file was made, and is again when the store is opened. Uploads without one are held in memory.
//!
//! | offset in the frame | bytes | field |
//! |---|---|---|
//! | 0 | 4 | `N`, bytes of data |
//! | 4 | 4 | CRC-32 of the data's offset in the upload (8 bytes) and the data |
//! | 8 | `N` | data |
//!
//! ## An example
//!
//! A sealed head (contents in postcard: label, time as an option of varint, bytes of the image as varint), then the image.
//!
//! # How a change is made
//!
//! The adapter's file is written beside its place, synced, renamed, and its directory synced. Then the record is replaced in the same way: when that rename
//! is on the medium, the change is. Then its copy is; if that fails, the copy is removed. Files that are no longer referred to are removed last. If the last sync
//! of the record fails, the old record is put back. A record goes after its copy.
//!
//! # What is found damaged
//!
//! | what | what is done |
//! |---|---|
//! | a record, `active` or `time` | its copy is used, and the file rewritten |
//! | a copy, or an older one | rewritten from the file |
//! | a record and its copy | salvaged from the task's intact, trusted adapters: the newest serves, on trial if there is another, and the highest admitted version is the highest version seen |
//! | both, and no adapter is intact | nothing of the task is served, nothing is taken for it until it is removed |
//! | `active` and its copy | the only task, else the one confirmed last |
//! | an adapter | the next of: on trial, confirmed, last good, original |
//!
//! Each is in [`Store::problems`], and none keeps the store from opening. Nor does a disk that cannot be written; what could not be mended is mended at the next start.
//!
//! # What is bounded
//!
//! [`Caps`]: tasks, bytes, and a reserve. Examples, uploads, adapters and checkpoints are refused where they would touch the reserve; records are not.
#![forbid(unsafe_code)]

mod atomic;
mod checkpoints;
mod copies;
mod directory;
mod error;
mod examples;
mod incoming;
mod names;
mod options;
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
pub use error::{Damage, StoreError};
pub use examples::{StoredExample, AddOutcome};
pub use options::{Caps, StoreOptions};
pub use state::{StoredAdapter, OnTrial, Progress, Reversion, StoredTask};
pub use storage::{Entry, EntryKind, LockError, Storage, StorageFile, StorageLock};
pub use store::{Installed, ServingAdapter, StartOutcome, Store};
pub use unavailable::Unavailable;
pub use verify::{Problem, ProblemKind, Recovery, Report};
pub use written::Written;

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
