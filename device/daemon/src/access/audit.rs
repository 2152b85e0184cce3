//! Audit log: one JSON line `clr.audit/1` per command.
//!
//! Each line contains the SHA-256 of the previous one. Each line goes to the journal and to one of two files of up to 1
//! MiB, which are filled alternately.
//!
//! Read-only requests (status, list, tuning progress) are aggregated, to spare flash memory. The first read-only
//! request of a peer within an hour is written. The peer's next line states the number of further ones in `reads`.
//!
//! Lines are written, but not synced. `kill -9` loses none of them; a power cut may lose the last ones. The next start
//! removes a line that was cut off, and records how many bytes it removed.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clr_transfer::{Digest, PeerKey};
use serde::{Deserialize, Serialize};

use crate::lock;

const SCHEMA: &str = "clr.audit/1";
/// Maximum bytes of a file. Beyond it, the log continues in the other one.
const FILE_BYTES: u64 = 1 << 20;
const FILES: [&str; 2] = ["0.jsonl", "1.jsonl"];
/// Time after a peer's line during which its read-only requests are only counted.
const READS: Duration = Duration::from_hours(1);
/// Maximum number of peers whose read-only requests are counted.
const MAX_READERS: usize = 1024;

/// Object of a command.
#[derive(Clone, Debug, Default)]
pub(super) struct Subject {
    pub(super) task: Option<String>,
    pub(super) version: Option<u64>,
    pub(super) digest: Option<Digest>,
}

/// Origin of a command: peer, key and transport.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) peer: String,
    pub(super) key: Option<String>,
    pub(super) via: &'static str,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    schema: String,
    time: Option<String>,
    seq: u64,
    peer: String,
    key: Option<String>,
    via: String,
    role: String,
    command: String,
    task: Option<String>,
    version: Option<u64>,
    digest: Option<String>,
    result: String,
    /// Number of read-only requests of this peer since its last line.
    #[serde(default, skip_serializing_if = "is_zero")]
    reads: u64,
    /// SHA-256 of the previous line, without its newline.
    prev: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde requires")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The audit log.
#[derive(Debug)]
pub(super) struct Audit(Mutex<State>);

#[derive(Debug)]
struct State {
    folder: PathBuf,
    /// Index of the file in use.
    current: usize,
    file: Option<File>,
    bytes: u64,
    seq: u64,
    prev: String,
    /// Whether the current failure to write has already been logged.
    failure_logged: bool,
    reads: HashMap<String, (Option<Instant>, u64)>,
}

impl Audit {
    /// Opens the log and continues its chain. If its files cannot be written, lines go only to the journal.
    pub(super) fn open(folder: &Path) -> Self {
        let mut state = State {
            folder: folder.to_owned(),
            current: 0,
            file: None,
            bytes: 0,
            seq: 0,
            prev: Digest([0; 32]).to_string(),
            failure_logged: false,
            reads: HashMap::new(),
        };
        let torn = state.resume();
        let audit = Self(Mutex::new(state));
        if torn > 0 {
            let result = format!("removed an incomplete line of {torn} bytes");
            audit.system("start", &result);
            tracing::warn!("audit log: {result}");
        }
        audit
    }

    /// Writes the line of a command.
    pub(super) fn command(&self, origin: &Origin, role: &str, command: &str, subject: &Subject, result: &str) {
        let state = &mut *lock(&self.0);
        let reads = state
            .reads
            .get_mut(&origin.peer)
            .map_or(0, |(_, count)| std::mem::take(count));
        state.write(origin, role, command, subject, result, reads);
    }

    /// Counts a read-only request, and writes a line for the first one within an hour.
    pub(super) fn query(&self, origin: &Origin, command: &str) {
        let state = &mut *lock(&self.0);
        if state.reads.len() >= MAX_READERS && !state.reads.contains_key(&origin.peer) {
            state.reads.clear();
        }
        let (written, count) = state.reads.entry(origin.peer.clone()).or_default();
        if written.is_some_and(|at| at.elapsed() < READS) {
            *count += 1;
            return;
        }
        *written = Some(Instant::now());
        let reads = std::mem::take(count);
        state.write(origin, "observe", command, &Subject::default(), "done", reads);
    }

    /// Writes a line for an event that concerns a key.
    pub(super) fn event(&self, command: &str, peer: &str, key: &PeerKey, result: &str) {
        let origin = Origin {
            peer: peer.to_owned(),
            key: (key.0 != [0; 32]).then(|| key.short()),
            via: "handshake",
        };
        self.command(&origin, "", command, &Subject::default(), result);
    }

    fn system(&self, command: &str, result: &str) {
        let origin = Origin {
            peer: "device".to_owned(),
            key: None,
            via: "device",
        };
        self.command(&origin, "", command, &Subject::default(), result);
    }
}

impl State {
    /// Finds the end of the chain, and removes an incomplete last line. Returns the number of removed bytes.
    fn resume(&mut self) -> u64 {
        if let Err(error) = fs::create_dir_all(&self.folder) {
            self.log_failure(&error);
            return 0;
        }
        let mut torn = 0;
        let mut newest: Option<(u64, String, usize, u64)> = None;
        for (index, name) in FILES.iter().enumerate() {
            let path = self.folder.join(name);
            let Ok(bytes) = read_capped(&path) else { continue };
            let complete = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            if complete < bytes.len() {
                torn += (bytes.len() - complete) as u64;
                if let Err(error) = File::options()
                    .write(true)
                    .open(&path)
                    .and_then(|file| file.set_len(complete as u64))
                {
                    self.log_failure(&error);
                }
            }
            let text = String::from_utf8_lossy(&bytes[..complete]).into_owned();
            let seq = text
                .lines()
                .filter_map(|line| serde_json::from_str::<Line>(line).ok())
                .map(|line| line.seq)
                .max();
            let last = text.lines().last().map(|line| Digest::of(line.as_bytes()).to_string());
            if let (Some(seq), Some(last)) = (seq, last)
                && newest.as_ref().is_none_or(|(newest, ..)| seq > *newest)
            {
                newest = Some((seq, last, index, complete as u64));
            }
        }
        if let Some((seq, prev, current, bytes)) = newest {
            (self.seq, self.prev, self.current, self.bytes) = (seq, prev, current, bytes);
        }
        torn
    }

    fn write(&mut self, origin: &Origin, role: &str, command: &str, subject: &Subject, result: &str, reads: u64) {
        let line = Line {
            schema: SCHEMA.to_owned(),
            time: time(),
            seq: self.seq + 1,
            peer: printable(&origin.peer),
            key: origin.key.clone(),
            via: origin.via.to_owned(),
            role: role.to_owned(),
            command: command.to_owned(),
            task: subject.task.as_deref().map(printable),
            version: subject.version,
            digest: subject.digest.map(|digest| digest.to_string()),
            result: printable(result),
            reads,
            prev: self.prev.clone(),
        };
        let Ok(text) = serde_json::to_string(&line) else { return };
        self.seq += 1;
        self.prev = Digest::of(text.as_bytes()).to_string();
        tracing::info!(target: "clr_daemon::audit", "{text}");
        if let Err(error) = self.append(&text) {
            self.log_failure(&error);
        }
    }

    fn append(&mut self, text: &str) -> std::io::Result<()> {
        let line = format!("{text}\n");
        if self.bytes + line.len() as u64 > FILE_BYTES {
            (self.current, self.file, self.bytes) = (1 - self.current, None, 0);
            // Overwrite the older file.
            File::create(self.folder.join(FILES[self.current]))?;
        }
        if self.file.is_none() {
            let path = self.folder.join(FILES[self.current]);
            let mut file = File::options().create(true).append(true).open(path)?;
            self.bytes = file.seek(SeekFrom::End(0))?;
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(line.as_bytes())
        {
            // Removes a partial line. If that fails, the chain check reports the line.
            let _ = file.set_len(self.bytes);
            self.file = None;
            return Err(error);
        }
        self.bytes += line.len() as u64;
        self.failure_logged = false;
        Ok(())
    }

    fn log_failure(&mut self, error: &std::io::Error) {
        if !self.failure_logged {
            tracing::error!(
                "cannot write the audit log in '{}': {error}; its lines go to the journal only",
                self.folder.display()
            );
        }
        self.failure_logged = true;
    }
}

/// Reads a file of the log, up to twice its cap.
fn read_capped(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(2 * FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns the system time as text; `None` before 1970 or after 9999.
fn time() -> Option<String> {
    /// 9999-12-31.
    const LAST: u64 = 253_402_300_799;
    let now = SystemTime::now();
    let seconds = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
    (seconds <= LAST).then(|| humantime::format_rfc3339_millis(now).to_string())
}

/// Returns the first 256 characters of a text, with control characters replaced.
pub(super) fn printable(text: &str) -> String {
    let text = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    text.take(256).collect()
}

/// Result of a check of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Lines read.
    pub(crate) lines: u64,
    /// Sequence numbers of the first and the last line.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Bytes of an incomplete last line.
    pub(crate) torn: u64,
    /// A description of each place where the chain is broken.
    pub(crate) problems: Vec<String>,
}

/// Checks the chain in `state/audit`.
pub(crate) fn check(state: &Path) -> Report {
    let folder = state.join("audit");
    let mut report = Report::default();
    let mut files = Vec::new();
    for name in FILES {
        let path = folder.join(name);
        let bytes = match read_capped(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                report.problems.push(format!("{name}: {error}"));
                continue;
            }
        };
        let complete = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        report.torn += (bytes.len() - complete) as u64;
        let lines: Vec<String> = String::from_utf8_lossy(&bytes[..complete])
            .lines()
            .map(str::to_owned)
            .collect();
        let first = lines
            .iter()
            .find_map(|line| serde_json::from_str::<Line>(line).ok())
            .map_or(0, |line| line.seq);
        files.push((first, name, lines));
    }
    files.sort_by_key(|(first, ..)| *first);
    let mut before: Option<(u64, String)> = None;
    for (_, name, lines) in &files {
        for (number, text) in (1..).zip(lines) {
            report.lines += 1;
            let digest = Digest::of(text.as_bytes()).to_string();
            let Ok(line) = serde_json::from_str::<Line>(text) else {
                report
                    .problems
                    .push(format!("{name}, line {number}: not a line of the log"));
                before = before.map(|(seq, _)| (seq + 1, digest));
                continue;
            };
            if let Some((seq, prev)) = &before {
                if line.prev != *prev {
                    report.problems.push(format!(
                        "{name}, line {number}: the hash of the previous line does not match"
                    ));
                } else if line.seq != seq + 1 {
                    report.problems.push(format!(
                        "{name}, line {number}: number {}, expected {}",
                        line.seq,
                        seq + 1
                    ));
                }
            } else {
                report.first = line.seq;
            }
            report.last = line.seq;
            before = Some((line.seq, digest));
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(peer: &str) -> Origin {
        Origin {
            peer: peer.to_owned(),
            key: Some("0123456789abcdef".to_owned()),
            via: "tcp",
        }
    }

    fn write(audit: &Audit, count: usize) {
        for number in 0..count {
            let subject = Subject {
                task: Some(format!("task\n{number}\u{9b}")),
                ..Subject::default()
            };
            audit.command(&origin("anna"), "operate", "switch", &subject, "done");
        }
    }

    #[test]
    fn the_chain_continues_over_restarts_and_files_and_any_change_breaks_it() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("audit");
        for _ in 0..3 {
            write(&Audit::open(&folder), 2_500);
        }
        let report = check(state.path());
        assert_eq!((report.last, report.torn, &report.problems), (7_500, 0, &Vec::new()));
        assert!(report.first > 1 && report.lines > 2_500, "{report:?}");
        let path = folder.join(FILES[0]);
        let sound = fs::read(&path).unwrap();
        assert!(sound.len() as u64 <= FILE_BYTES);
        for at in (0..sound.len() - 400).step_by(sound.len() / 40) {
            let mut bytes = sound.clone();
            bytes[at] ^= 4;
            fs::write(&path, &bytes).unwrap();
            assert!(!check(state.path()).problems.is_empty(), "byte {at}");
        }
    }

    #[test]
    fn a_line_cut_anywhere_is_removed_and_recorded_in_the_chain() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("audit");
        write(&Audit::open(&folder), 3);
        let path = folder.join(FILES[0]);
        let sound = fs::read(&path).unwrap();
        let second = sound.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        for cut in (second + 1..sound.len()).step_by(37) {
            fs::write(&path, &sound[..cut]).unwrap();
            let torn = check(state.path()).torn;
            write(&Audit::open(&folder), 1);
            let report = check(state.path());
            assert!(
                report.problems.is_empty() && report.torn == 0,
                "cut at {cut}: {report:?}"
            );
            let text = fs::read_to_string(&path).unwrap();
            let said = text.contains(&format!("removed an incomplete line of {torn} bytes"));
            assert_eq!(said, torn > 0, "cut at {cut}");
        }
    }

    #[test]
    fn frequent_read_only_requests_write_one_line_and_the_next_command_counts_them() {
        let state = tempfile::tempdir().unwrap();
        let audit = Audit::open(&state.path().join("audit"));
        for _ in 0..1_000 {
            audit.query(&origin("anna"), "status");
        }
        write(&audit, 1);
        let text = fs::read_to_string(state.path().join("audit").join(FILES[0])).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("\"reads\":999"), "{text}");
    }

    #[test]
    fn without_a_writable_folder_only_the_log_file_is_missing() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join("audit"), "in the way").unwrap();
        write(&Audit::open(&state.path().join("audit")), 3);
    }
}
