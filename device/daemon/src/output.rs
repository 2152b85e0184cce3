//! Result lines on stdout: a bounded queue, and a dedicated thread that writes complete lines.
//!
//! The inference loop never waits for stdout. A line is dropped, counted and logged if the queue is full (the reader
//! has stalled) or the write fails (the disk is full). The order of the lines is kept. A line of up to 4,096 bytes is
//! written to a pipe in a single write, so a reader never sees a part of it. After a partial write to a full disk, the
//! rest of the line is written before the next one.

mod lines;

use std::{
    io,
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use super::{DaemonError, losses::LossLog, source::Stop};
use lines::LineWriter;

/// Capacity of the queue, in lines.
const QUEUED: usize = 1024;
/// Maximum wait at the end for a reader that has stalled.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum wait at the end after a stop was requested.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// State shared by both ends of the queue.
#[derive(Debug)]
struct Shared {
    lost: Arc<AtomicU64>,
    log: Mutex<LossLog>,
    written: AtomicU64,
    reader_gone: AtomicBool,
    abandoned: Stop,
}

impl Shared {
    fn lose(&self, count: u64, reason: &str) {
        let total = self.lost.fetch_add(count, Ordering::Relaxed) + count;
        let due = self.log.lock().unwrap_or_else(PoisonError::into_inner).add(count);
        if let Some(lost) = due {
            tracing::warn!(lost, total, "results lost: cannot write to stdout: {reason}");
        }
    }

    fn wrote(&self) {
        self.written.fetch_add(1, Ordering::Relaxed);
        let (due, over) = {
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            (log.due(), log.over())
        };
        let total = self.lost.load(Ordering::Relaxed);
        if let Some(lost) = due {
            tracing::warn!(lost, total, "results lost: cannot write to stdout");
        }
        if over {
            tracing::info!(total, "results are written to stdout again");
        }
    }
}

/// Queue of result lines.
#[derive(Debug)]
pub(crate) struct ResultQueue {
    queue: mpsc::SyncSender<Vec<u8>>,
    ended: mpsc::Receiver<()>,
    shared: Arc<Shared>,
}

impl ResultQueue {
    /// Starts the thread that writes to stdout. The number of lost lines is added to `lost`.
    pub(crate) fn to_stdout(lost: Arc<AtomicU64>) -> Result<Self, DaemonError> {
        let descriptor = io::stdout().as_fd().try_clone_to_owned();
        let output = descriptor.map_err(DaemonError::io("cannot write to stdout"))?;
        Self::start(LineWriter::new(output), lost)
    }

    fn start(mut writer: LineWriter, lost: Arc<AtomicU64>) -> Result<Self, DaemonError> {
        let (queue, lines) = mpsc::sync_channel::<Vec<u8>>(QUEUED);
        let (end, ended) = mpsc::channel();
        let shared = Arc::new(Shared {
            lost,
            log: Mutex::default(),
            written: AtomicU64::new(0),
            reader_gone: AtomicBool::new(false),
            abandoned: Stop::default(),
        });
        let ours = Arc::clone(&shared);
        thread::Builder::new()
            .name("clr-results".to_owned())
            .spawn(move || {
                for line in lines {
                    match writer.line(&line, &ours.abandoned) {
                        Ok(()) => ours.wrote(),
                        Err(error) if lines::reader_gone(&error) => {
                            ours.reader_gone.store(true, Ordering::SeqCst);
                            ours.lose(1, "its reader is gone");
                        }
                        Err(error) => ours.lose(1, &error.to_string()),
                    }
                }
                writer.finish(&ours.abandoned);
                // If the receiver is gone, there is nothing to report.
                let _ = end.send(());
            })
            .map_err(DaemonError::io("cannot start the thread that writes results"))?;
        Ok(Self { queue, ended, shared })
    }

    /// Queues a line, or drops it if the queue is full.
    pub(crate) fn send(&self, line: Vec<u8>) {
        if let Err(mpsc::TrySendError::Full(_)) = self.queue.try_send(line) {
            self.shared.lose(1, "its reader stalled");
        }
    }

    /// Returns whether the reader of the results has closed the pipe.
    pub(crate) fn reader_gone(&self) -> bool {
        self.shared.reader_gone.load(Ordering::SeqCst)
    }

    /// Waits until the queue is written: up to 10 s without progress, or up to 0.5 s once `stop` is set.
    pub(crate) fn finish(self, stop: &Stop) {
        const POLL_INTERVAL: Duration = Duration::from_millis(20);
        let Self { queue, ended, shared } = self;
        drop(queue);
        let written = || shared.written.load(Ordering::Relaxed);
        let (mut last, mut progress, mut stopped) = (written(), Instant::now(), None);
        while ended.recv_timeout(POLL_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
            if stop.is_set() && stopped.is_none() {
                stopped = Some(Instant::now());
            }
            if written() != last {
                (last, progress) = (written(), Instant::now());
            }
            if progress.elapsed() > STALL_TIMEOUT || stopped.is_some_and(|since| since.elapsed() > STOP_TIMEOUT) {
                // The thread then drops and counts the queued lines, unless it is blocked in a write.
                shared.abandoned.set();
                let _ = ended.recv_timeout(STOP_TIMEOUT);
                break;
            }
        }
        let unreported = shared.log.lock().unwrap_or_else(PoisonError::into_inner).rest();
        if unreported > 0 {
            let total = shared.lost.load(Ordering::Relaxed);
            tracing::warn!(lost = unreported, total, "results lost: cannot write to stdout");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read as _, Write as _, pipe},
        os::fd::OwnedFd,
    };

    use super::*;

    fn start(output: impl Into<OwnedFd>) -> (ResultQueue, Arc<AtomicU64>) {
        let lost = Arc::new(AtomicU64::new(0));
        (
            ResultQueue::start(LineWriter::new(output.into()), Arc::clone(&lost)).unwrap(),
            lost,
        )
    }

    fn line(number: usize, length: usize) -> Vec<u8> {
        let mut line = format!("{number:06}").into_bytes();
        line.resize(length, b'x');
        line.push(b'\n');
        line
    }

    #[test]
    fn lines_arrive_complete_and_in_order() {
        let (mut reader, output) = pipe().unwrap();
        let (results, lost) = start(output);
        let thread = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        for number in 0..500 {
            results.send(line(number, 100 + number * 40));
        }
        results.finish(&Stop::default());
        let text = thread.join().unwrap();
        let numbers: Vec<usize> = text.lines().map(|line| line[..6].parse().unwrap()).collect();
        assert_eq!(numbers, (0..500).collect::<Vec<_>>());
        assert_eq!(lost.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_stalled_reader_costs_counted_lines_and_delays_nothing() {
        let (mut reader, output) = pipe().unwrap();
        let (results, lost) = start(output);
        let sent = 4 * QUEUED;
        for number in 0..sent {
            results.send(line(number, 1000));
        }
        assert!(lost.load(Ordering::Relaxed) > 0);
        let stop = Stop::default();
        stop.set();
        let asked = Instant::now();
        results.finish(&stop);
        assert!(asked.elapsed() < STALL_TIMEOUT);
        // Every written line is complete, and every other line is counted.
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.ends_with('\n') && text.lines().all(|line| line.len() == 1000));
        assert_eq!(text.lines().count() as u64 + lost.load(Ordering::Relaxed), sent as u64);
    }

    #[test]
    fn a_closed_reader_is_detected_at_the_next_line() {
        let (reader, output) = pipe().unwrap();
        drop(reader);
        let (results, lost) = start(output);
        assert!(!results.reader_gone());
        results.send(line(0, 10));
        let asked = Instant::now();
        while !results.reader_gone() {
            assert!(asked.elapsed() < STALL_TIMEOUT);
            thread::yield_now();
        }
        results.finish(&Stop::default());
        assert_eq!(lost.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_full_disk_only_loses_the_lines_that_do_not_fit() {
        let (results, lost) = start(File::options().write(true).open("/dev/full").unwrap());
        for number in 0..5 {
            results.send(line(number, 10));
        }
        let gone = results.reader_gone();
        results.finish(&Stop::default());
        assert!(!gone && lost.load(Ordering::Relaxed) == 5);
    }

    #[test]
    fn a_partial_line_in_an_existing_file_is_terminated_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl");
        File::create(&path).unwrap().write_all(b"{\"half").unwrap();
        let (results, _) = start(File::options().append(true).open(&path).unwrap());
        results.send(line(1, 8));
        results.finish(&Stop::default());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"half\n000001xx\n");
    }
}
