//! Splitter of a byte stream into concatenated images: JPEG (which includes MJPEG), PNG, BMP and WebP.
//!
//! Each format defines its end: JPEG by markers (a thumbnail in an EXIF segment has its own end marker), PNG by chunks,
//! BMP and WebP by the length in the header. A stream may be damaged. Images may be truncated or lack an end marker,
//! and there may be arbitrary bytes between them, even bytes that look like a header with a large length. A header
//! alone therefore proves nothing. Every possible start becomes a candidate, all candidates are parsed in parallel, and
//! these rules resolve contradictions:
//!
//! - image data contain no complete image: the outer candidate is false or truncated;
//! - metadata may contain complete images (thumbnails): the outer candidate is valid until parsing it fails, or it
//!   contains three of them;
//! - two candidates cannot overlap or end at the same byte: the one with the later start is valid;
//! - a JPEG that has reached its scan data ends where another image starts.
//!
//! Damage therefore only affects the image in which it occurs. Work and memory are bounded: scan data are searched
//! once, at most [`MAX_OPEN`] candidates are open at a time, and none may be longer than the largest image.

mod bmp;
mod candidate;
mod gap;
mod jpeg;
mod png;
#[cfg(test)]
mod tests;
mod walk;
mod webp;

use candidate::{Candidate, State};
use gap::Gaps;
use jpeg::ScanData;

/// Number of bytes needed to recognise the start of an image.
const MAGIC: usize = 12;
/// Maximum number of open candidates. Beyond it, the oldest is dropped.
const MAX_OPEN: usize = 64;
/// Maximum number of complete images within a part of metadata whose own end is unknown.
const MAX_INSIDE: usize = 2;
/// Splitter of a stream into images.
#[derive(Debug)]
pub(super) struct Splitter {
    /// Cap of an image, in bytes.
    largest: usize,
    /// Bytes of the stream from `base` on. The first `gone` of them have been processed.
    buffer: Vec<u8>,
    gone: usize,
    base: u64,
    /// Position up to which the stream has been searched for starts.
    searched: u64,
    /// Position up to which every byte has been delivered or counted.
    accounted: u64,
    candidates: Vec<Candidate>,
    scan_data: ScanData,
    gaps: Gaps,
    ended: bool,
}

/// Next step for the oldest candidate.
enum Choice {
    Deliver {
        start: u64,
        end: u64,
        cut: bool,
    },
    /// A candidate was dropped.
    Again,
    /// Search starts up to this position first.
    Search(u64),
    /// More bytes are needed.
    Wait,
}

impl Splitter {
    /// Creates a splitter for images of at most `largest` bytes.
    pub(super) fn new(largest: usize) -> Self {
        Self {
            // Bounded, because positions within an image are computed from it.
            largest: largest.min(isize::MAX as usize / 4),
            buffer: Vec::new(),
            gone: 0,
            base: 0,
            searched: 0,
            accounted: 0,
            candidates: Vec::new(),
            scan_data: ScanData::default(),
            gaps: Gaps::default(),
            ended: false,
        }
    }

    /// Adds bytes of the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        // Moving the rest costs no more than the dropped bytes, so the total is linear in the stream's length.
        if self.gone > self.buffer.len() / 2 {
            self.buffer.drain(..self.gone);
            self.base += self.gone as u64;
            self.gone = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Marks the end of the stream. Open candidates are then truncated images.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Returns the number of bytes outside images so far.
    pub(super) fn lost(&self) -> u64 {
        self.gaps.lost()
    }

    /// Returns the next image.
    pub(super) fn next_image(&mut self) -> Option<Vec<u8>> {
        loop {
            self.follow();
            match self.choose() {
                Choice::Deliver { start, end, cut } => return Some(self.deliver(start, end, cut)),
                Choice::Again => {}
                Choice::Search(end) => _ = self.search(end),
                Choice::Wait if self.search(u64::MAX) => {}
                Choice::Wait if self.ended && self.give_up_open() => {}
                Choice::Wait if self.too_long() => self.give_up_oldest_open(),
                Choice::Wait => {
                    self.discard();
                    return None;
                }
            }
        }
    }

    fn stream_end(&self) -> u64 {
        self.base + self.buffer.len() as u64
    }

    fn bytes(&self, start: u64, end: u64) -> &[u8] {
        &self.buffer[(start - self.base) as usize..(end - self.base) as usize]
    }

    /// Parses all open candidates, and drops those that contradict the images inside of them.
    fn follow(&mut self) {
        let mut at = 0;
        while at < self.candidates.len() {
            let candidate = &mut self.candidates[at];
            let bytes = &self.buffer[(candidate.start - self.base) as usize..];
            candidate.advance(bytes, &mut self.scan_data, self.largest);
            if candidate.state == State::Broken {
                self.give_up(at, u64::MAX);
            } else {
                at += 1;
            }
        }
        let mut at = 0;
        while at < self.candidates.len() {
            match self.inside(at) {
                Some(first) => self.contradict(at, first),
                None => at += 1,
            }
        }
    }

    /// Returns the start of the first image inside an open candidate, if the candidate cannot contain that many images.
    fn inside(&self, at: usize) -> Option<u64> {
        let outer = &self.candidates[at];
        if outer.state != State::Open {
            return None;
        }
        let most = if outer.trace().metadata { MAX_INSIDE } else { 0 };
        let (mut count, mut first, mut end) = (0, None, outer.unit());
        for inner in &self.candidates[at + 1..] {
            if let State::Complete { end: ends, .. } = inner.state
                && inner.start >= end
            {
                count += 1;
                end = ends;
                first.get_or_insert(inner.start);
            }
        }
        first.filter(|_| count > most)
    }

    /// Ends a candidate before the image that starts inside of it, or drops the candidate.
    fn contradict(&mut self, at: usize, inner: u64) {
        let candidate = &mut self.candidates[at];
        match candidate.cut_before(inner) {
            Some(end) => candidate.state = State::Complete { end, cut: true },
            None => self.give_up(at, inner),
        }
    }

    /// Drops a candidate with its thumbnails, which are images before `inner` in metadata whose end was confirmed.
    fn give_up(&mut self, at: usize, inner: u64) {
        let given_up = self.candidates.remove(at);
        let confirmed = given_up.start..given_up.unit().min(inner);
        self.candidates.retain(|candidate| {
            candidate.state == State::Open
                || !confirmed.contains(&candidate.start)
                || !given_up.trace().thumbnail((candidate.start - given_up.start) as usize)
        });
    }

    fn oldest_open(&self) -> Option<usize> {
        self.candidates
            .iter()
            .position(|candidate| candidate.state == State::Open)
    }

    fn give_up_oldest_open(&mut self) {
        if let Some(at) = self.oldest_open() {
            self.give_up(at, u64::MAX);
        }
    }

    /// Ends or drops the oldest open candidate at the end of the stream. Returns false if there is none.
    fn give_up_open(&mut self) -> bool {
        let Some(at) = self.oldest_open() else {
            return false;
        };
        let end = self.stream_end();
        self.contradict(at, end);
        true
    }

    fn too_long(&self) -> bool {
        let oldest = self.oldest_open().map_or(u64::MAX, |at| self.candidates[at].start);
        self.stream_end().saturating_sub(oldest) > self.largest as u64 + MAGIC as u64
    }

    fn choose(&mut self) -> Choice {
        let Some(oldest) = self.candidates.first() else {
            return Choice::Wait;
        };
        let State::Complete { end, cut } = oldest.state else {
            return Choice::Wait;
        };
        let start = oldest.start;
        let trace = oldest.trace();
        if !trace.verified {
            let visible = self.visible().min(end);
            if self.searched < visible {
                return Choice::Search(visible);
            }
            // Only metadata can contain other images.
            let contested = |rival: &Candidate| !trace.thumbnail((rival.start - start) as usize);
            for rival in self.candidates[1..].iter().take_while(|rival| rival.start < end) {
                match rival.state {
                    // A thumbnail without end marker seems to continue after the end of its outer image.
                    State::Complete { end: ends, cut } if contested(rival) || ends >= end && !cut => {
                        let inner = rival.start;
                        self.contradict(0, inner);
                        return Choice::Again;
                    }
                    // The rival extends beyond the end of this candidate, so only its own end can decide which of them
                    // is valid.
                    State::Open if contested(rival) && rival.trace().head && !self.ended => {
                        return Choice::Wait;
                    }
                    _ => {}
                }
            }
        }
        Choice::Deliver { start, end, cut }
    }

    /// Returns the position up to which a start can be recognised.
    fn visible(&self) -> u64 {
        let end = self.stream_end();
        if self.ended {
            end
        } else {
            end.saturating_sub(MAGIC as u64 - 1).max(self.base)
        }
    }

    /// Searches for the next start before `end`. Returns false if there is none yet.
    fn search(&mut self, end: u64) -> bool {
        let end = end.min(self.visible());
        while self.searched < end {
            let from = (self.searched - self.base) as usize;
            let to = (end - self.base) as usize;
            let first = |&byte: &u8| matches!(byte, 0xff | 0x89 | b'B' | b'R');
            let Some(ahead) = self.buffer[from..to].iter().position(first) else {
                self.searched = end;
                return false;
            };
            let start = self.searched + ahead as u64;
            self.searched = start + 1;
            let bytes = &self.buffer[from + ahead..];
            let Some(mut candidate) = Candidate::at(start, bytes) else {
                continue;
            };
            candidate.advance(bytes, &mut self.scan_data, self.largest);
            if candidate.state == State::Broken {
                continue;
            }
            let at = self.candidates.partition_point(|other| other.start < start);
            if self.candidates.get(at).is_some_and(|other| other.start == start) {
                continue;
            }
            self.candidates.insert(at, candidate);
            if self
                .candidates
                .iter()
                .filter(|candidate| candidate.state == State::Open)
                .count()
                > MAX_OPEN
            {
                self.give_up_oldest_open();
            }
            return true;
        }
        false
    }

    fn deliver(&mut self, start: u64, end: u64, cut: bool) -> Vec<u8> {
        let mut image = self.bytes(start, end).to_vec();
        if cut {
            gap::trim(&mut image);
        }
        self.account(start);
        self.accounted = self.accounted.max(end);
        self.gaps.image();
        // A start in the last bytes can only be recognised together with the following bytes.
        self.searched = self.searched.max(end.saturating_sub(MAGIC as u64 - 1));
        self.candidates.retain(|candidate| {
            let undecided = candidate.state == State::Open && !candidate.trace().head;
            candidate.start >= end || undecided && candidate.start > start
        });
        self.discard();
        image
    }

    /// Counts the undelivered bytes before `end`.
    fn account(&mut self, end: u64) {
        if end <= self.accounted {
            return;
        }
        let from = (self.accounted - self.base) as usize;
        self.gaps.count(&self.buffer[from..(end - self.base) as usize]);
        self.accounted = end;
    }

    /// Drops the bytes that no candidate needs any more.
    fn discard(&mut self) {
        let oldest = self.candidates.first().map_or(u64::MAX, |oldest| oldest.start);
        let needed = self.searched.min(oldest);
        self.account(needed.min(self.stream_end()));
        self.gone = (needed - self.base) as usize;
        if self.ended && self.candidates.is_empty() {
            self.account(self.stream_end());
        }
    }
}

/// Splits a stream that arrives in pieces. Returns the images, and the number of bytes outside of them.
pub(crate) fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, u64) {
    let mut splitter = Splitter::new(clr_onnx::DecodeLimits::DEVICE_BYTES as usize);
    let mut images = Vec::new();
    for piece in pieces {
        splitter.push(piece);
        images.extend(std::iter::from_fn(|| splitter.next_image()));
    }
    splitter.end();
    images.extend(std::iter::from_fn(|| splitter.next_image()));
    (images, splitter.lost())
}
