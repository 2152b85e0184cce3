//! Answers on stdout: a bounded queue and a dedicated thread that writes whole lines.
//!
//! The inference loop never waits for stdout. A line that finds the queue full (its reader stalled) or that cannot be written (a full disk)
//! is dropped, counted and logged. Lines keep their order. One of up to 4,096 bytes goes to a pipe in a single write, so a reader never
//! sees half of it; the rest of a line that a full disk cut is written before the next one.

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

/// Lines that wait for a slow reader.
const WAITING: usize = 1024;
/// How long the end waits for a reader that takes nothing, and for one that is slow once the device is told to stop.
const PATIENCE: Duration = Duration::from_secs(10);
const HURRIED: Duration = Duration::from_millis(500);

/// What both ends of the queue share.
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
            tracing::warn!(lost, total, "answers lost: cannot write to stdout: {reason}");
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
            tracing::warn!(lost, total, "answers lost: cannot write to stdout");
        }
        if over {
            tracing::info!(total, "answers are written to stdout again");
        }
    }
}

/// The queue of answers.
#[derive(Debug)]
pub(crate) struct Answers {
    queue: mpsc::SyncSender<Vec<u8>>,
    ended: mpsc::Receiver<()>,
    shared: Arc<Shared>,
}

impl Answers {
    /// Starts the thread that writes to stdout; lines lost are added to `lost`.
    pub(crate) fn to_stdout(lost: Arc<AtomicU64>) -> Result<Self, DaemonError> {
        let descriptor = io::stdout().as_fd().try_clone_to_owned();
        let output = descriptor.map_err(DaemonError::io("cannot write to stdout"))?;
        Self::start(LineWriter::new(output), lost)
    }

    fn start(mut writer: LineWriter, lost: Arc<AtomicU64>) -> Result<Self, DaemonError> {
        let (queue, lines) = mpsc::sync_channel::<Vec<u8>>(WAITING);
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
            .name("clr-answers".to_owned())
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
                // The receiver is there until the process ends.
                let _ = end.send(());
            })
            .map_err(DaemonError::io("cannot start the thread of the answers"))?;
        Ok(Self { queue, ended, shared })
    }

    /// Queues a line, or drops it where the queue is full.
    pub(crate) fn send(&self, line: Vec<u8>) {
        if let Err(mpsc::TrySendError::Full(_)) = self.queue.try_send(line) {
            self.shared.lose(1, "its reader takes no more");
        }
    }

    /// Returns true once no reader is left for the answers.
    pub(crate) fn reader_gone(&self) -> bool {
        self.shared.reader_gone.load(Ordering::SeqCst)
    }

    /// Waits until the queue is written: as long as lines go out, and only a moment once `stop` is set.
    pub(crate) fn finish(self, stop: &Stop) {
        const STEP: Duration = Duration::from_millis(20);
        let Self { queue, ended, shared } = self;
        drop(queue);
        let written = || shared.written.load(Ordering::Relaxed);
        let (mut last, mut progress, mut stopped) = (written(), Instant::now(), None);
        while ended.recv_timeout(STEP) == Err(mpsc::RecvTimeoutError::Timeout) {
            if stop.is_set() && stopped.is_none() {
                stopped = Some(Instant::now());
            }
            if written() != last {
                (last, progress) = (written(), Instant::now());
            }
            if progress.elapsed() > PATIENCE || stopped.is_some_and(|since| since.elapsed() > HURRIED) {
                // The thread then drops and counts what is queued, unless a write itself does not return.
                shared.abandoned.set();
                let _ = ended.recv_timeout(HURRIED);
                break;
            }
        }
        let unsaid = shared.log.lock().unwrap_or_else(PoisonError::into_inner).rest();
        if unsaid > 0 {
            let total = shared.lost.load(Ordering::Relaxed);
            tracing::warn!(lost = unsaid, total, "answers lost: cannot write to stdout");
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

    fn start(output: impl Into<OwnedFd>) -> (Answers, Arc<AtomicU64>) {
        let lost = Arc::new(AtomicU64::new(0));
        (
            Answers::start(LineWriter::new(output.into()), Arc::clone(&lost)).unwrap(),
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
    fn lines_arrive_whole_and_in_order() {
        let (mut reader, output) = pipe().unwrap();
        let (answers, lost) = start(output);
        let thread = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        for number in 0..500 {
            answers.send(line(number, 100 + number * 40));
        }
        answers.finish(&Stop::default());
        let text = thread.join().unwrap();
        let numbers: Vec<usize> = text.lines().map(|line| line[..6].parse().unwrap()).collect();
        assert_eq!(numbers, (0..500).collect::<Vec<_>>());
        assert_eq!(lost.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_which_are_counted_and_holds_up_nobody() {
        let (mut reader, output) = pipe().unwrap();
        let (answers, lost) = start(output);
        let sent = 4 * WAITING;
        for number in 0..sent {
            answers.send(line(number, 1000));
        }
        assert!(lost.load(Ordering::Relaxed) > 0);
        let stop = Stop::default();
        stop.set();
        let asked = Instant::now();
        answers.finish(&stop);
        assert!(asked.elapsed() < PATIENCE);
        // What went out is whole, and the rest is counted, line by line.
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.ends_with('\n') && text.lines().all(|line| line.len() == 1000));
        assert_eq!(text.lines().count() as u64 + lost.load(Ordering::Relaxed), sent as u64);
    }

    #[test]
    fn a_reader_that_is_gone_is_noticed_with_the_next_line() {
        let (reader, output) = pipe().unwrap();
        drop(reader);
        let (answers, lost) = start(output);
        assert!(!answers.reader_gone());
        answers.send(line(0, 10));
        let asked = Instant::now();
        while !answers.reader_gone() {
            assert!(asked.elapsed() < PATIENCE);
            thread::yield_now();
        }
        answers.finish(&Stop::default());
        assert_eq!(lost.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_full_disk_costs_the_lines_that_it_does_not_take() {
        let (answers, lost) = start(File::options().write(true).open("/dev/full").unwrap());
        for number in 0..5 {
            answers.send(line(number, 10));
        }
        let gone = answers.reader_gone();
        answers.finish(&Stop::default());
        assert!(!gone && lost.load(Ordering::Relaxed) == 5);
    }

    #[test]
    fn the_half_line_of_an_earlier_end_gets_its_line_feed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.jsonl");
        File::create(&path).unwrap().write_all(b"{\"half").unwrap();
        let (answers, _) = start(File::options().append(true).open(&path).unwrap());
        answers.send(line(1, 8));
        answers.finish(&Stop::default());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"half\n000001xx\n");
    }
}
