//! A simulated line between a host and a device in one thread. It can be cut after any byte, flip any bit and add
//! noise, and it has a simulated clock.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};

use clr_transfer::{Channel, Client, Clock, Decoder, FrameEvent, Session, SessionLimits};
use embedded_io::ErrorKind;

use crate::{
    door::{Door, Spoken},
    memory_device::MemoryDevice,
};

/// A clock that advances only during waits.
#[derive(Default)]
pub(crate) struct SimulatedClock(Cell<Duration>);

impl SimulatedClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.set(self.0.get() + by);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Duration {
        self.0.get()
    }

    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// Returns the number of bits until the next error, for independent errors of this rate.
    fn gap(&mut self, rate: f64) -> u64 {
        let uniform = ((self.next() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        (uniform.ln() / (1.0 - rate).ln()) as u64
    }
}

/// Faults of a line. Positions count the bytes of both directions together.
#[derive(Default)]
pub(crate) struct Faults {
    /// The line is cut after this many bytes.
    pub(crate) cut_after: Option<u64>,
    /// This bit of all bits is flipped.
    pub(crate) flip: Option<u64>,
    /// Every bit is flipped with this probability, determined by this generator.
    pub(crate) noise: Option<(f64, Random)>,
}

/// The device side of a line.
enum DeviceEnd<'d> {
    Plain(Session<'d>),
    Secure(Box<Channel<'d>>),
}

impl DeviceEnd<'_> {
    fn handle(&mut self, body: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Plain(session) => session.handle(body),
            Self::Secure(channel) => channel.handle(body),
        }
        .map(<[u8]>::to_vec)
    }

    fn damaged(&mut self) -> Vec<u8> {
        match self {
            Self::Plain(session) => session.damaged(),
            Self::Secure(channel) => channel.damaged(),
        }
        .to_vec()
    }
}

/// Replaces the n-th frame (from 0) of one direction with any number of frames.
pub(crate) type Proxy<'d> = Box<dyn FnMut(Way, &[u8]) -> Vec<Vec<u8>> + 'd>;

/// Direction of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToDevice,
    ToHost,
}

/// The line and its device.
pub(crate) struct Line<'d> {
    device: DeviceEnd<'d>,
    proxy: Option<Proxy<'d>>,
    decoder: Decoder,
    to_host: VecDeque<u8>,
    clock: &'d SimulatedClock,
    faults: Faults,
    next_error: u64,
    pub(crate) passed: u64,
    pub(crate) flips: u64,
    pub(crate) to_device_log: Vec<u8>,
}

impl<'d> Line<'d> {
    pub(crate) fn new(
        device: &'d MemoryDevice,
        limits: SessionLimits,
        clock: &'d SimulatedClock,
        faults: Faults,
    ) -> Self {
        Self::with_end(DeviceEnd::Plain(Session::new(device, limits)), clock, faults)
    }

    /// Creates a line to a device that admits sessions by `door`.
    pub(crate) fn secure(
        device: &'d MemoryDevice,
        door: &'d Door,
        limits: SessionLimits,
        clock: &'d SimulatedClock,
        faults: Faults,
    ) -> Self {
        Self::with_end(
            DeviceEnd::Secure(Box::new(Channel::new(device, door, limits))),
            clock,
            faults,
        )
    }

    /// Adds a proxy, which receives complete frames.
    pub(crate) fn through(mut self, proxy: Proxy<'d>) -> Self {
        self.proxy = Some(proxy);
        self
    }

    fn with_end(device: DeviceEnd<'d>, clock: &'d SimulatedClock, mut faults: Faults) -> Self {
        let next_error = faults
            .noise
            .as_mut()
            .map_or(u64::MAX, |(rate, random)| random.gap(*rate));
        Self {
            device,
            proxy: None,
            decoder: Decoder::default(),
            to_host: VecDeque::new(),
            clock,
            faults,
            next_error,
            passed: 0,
            flips: 0,
            to_device_log: Vec::new(),
        }
    }

    fn is_cut(&self) -> bool {
        self.faults.cut_after.is_some_and(|after| self.passed >= after)
    }

    /// Passes one byte through the line; returns `None` once the line is cut.
    fn pass(&mut self, mut byte: u8) -> Option<u8> {
        if self.is_cut() {
            return None;
        }
        if let Some(flip) = self.faults.flip
            && flip / 8 == self.passed
        {
            byte ^= 1 << (flip % 8);
            self.flips += 1;
        }
        while let Some((rate, random)) = &mut self.faults.noise
            && self.next_error < 8 * (self.passed + 1)
        {
            byte ^= 1 << (self.next_error % 8);
            self.next_error += 1 + random.gap(*rate);
            self.flips += 1;
        }
        self.passed += 1;
        Some(byte)
    }

    pub(crate) fn send_to_device(&mut self, bytes: &[u8]) {
        let mut passed = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            let Some(byte) = self.pass(byte) else { break };
            passed.push(byte);
        }
        self.to_device_log.extend(&passed);
        if let Some(proxy) = &mut self.proxy {
            passed = frames(&passed)
                .iter()
                .flat_map(|frame| proxy(Way::ToDevice, frame))
                .flatten()
                .collect();
        }
        let mut rest = passed.as_slice();
        while !rest.is_empty() {
            let (taken, event) = self.decoder.feed(rest);
            rest = &rest[taken..];
            let reply = match event {
                Some(FrameEvent::Frame) => self.device.handle(self.decoder.body()),
                Some(FrameEvent::Damaged) => Some(self.device.damaged()),
                None => None,
            };
            let mut reply = reply.unwrap_or_default();
            if let Some(proxy) = &mut self.proxy {
                reply = frames(&reply)
                    .iter()
                    .flat_map(|frame| proxy(Way::ToHost, frame))
                    .flatten()
                    .collect();
            }
            for byte in reply {
                let Some(byte) = self.pass(byte) else { break };
                self.to_host.push_back(byte);
            }
        }
    }
}

/// Splits bytes into complete frames, delimiting zeros included.
fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let within = bytes.split(|&byte| byte == 0).filter(|part| !part.is_empty());
    within.map(|part| [&[0], part, &[0]].concat()).collect()
}

/// The host side of a line.
pub(crate) struct Wire<'d>(pub(crate) Rc<RefCell<Line<'d>>>);

impl embedded_io::ErrorType for Wire<'_> {
    type Error = ErrorKind;
}

impl embedded_io::Read for Wire<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, ErrorKind> {
        let mut line = self.0.borrow_mut();
        if line.to_host.is_empty() {
            if line.is_cut() {
                return Err(ErrorKind::ConnectionReset);
            }
            line.clock.advance(Duration::from_millis(100));
            return Err(ErrorKind::TimedOut);
        }
        let count = buf.len().min(line.to_host.len());
        for (slot, byte) in buf.iter_mut().zip(line.to_host.drain(..count)) {
            *slot = byte;
        }
        Ok(count)
    }
}

impl embedded_io::Write for Wire<'_> {
    fn write(&mut self, buf: &[u8]) -> Result<usize, ErrorKind> {
        let mut line = self.0.borrow_mut();
        if line.is_cut() {
            return Err(ErrorKind::BrokenPipe);
        }
        line.send_to_device(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

pub(crate) fn limits(chunk: u32) -> SessionLimits {
    SessionLimits::default().with_chunk(chunk)
}

/// Runs `f` with a client whose n-th connection (from 0) has the faults `faults(n)`. Returns the counters of the lines:
/// bytes passed and bits flipped.
pub(crate) fn with_client<T>(
    device: &MemoryDevice,
    chunk: u32,
    faults: impl FnMut(u32) -> Faults,
    f: impl FnOnce(&mut dyn AnyClient) -> T,
) -> (T, u64, u64) {
    with_client_that(Spoken::Plain, device, chunk, faults, f)
}

/// As [`with_client`], with sessions of the given kind.
pub(crate) fn with_client_that<T>(
    speaks: Spoken,
    device: &MemoryDevice,
    chunk: u32,
    mut faults: impl FnMut(u32) -> Faults,
    f: impl FnOnce(&mut dyn AnyClient) -> T,
) -> (T, u64, u64) {
    let clock = SimulatedClock::default();
    let door = Door::default();
    let lines: RefCell<Vec<Rc<RefCell<Line<'_>>>>> = RefCell::default();
    let connect = || {
        let number = lines.borrow().len() as u32;
        let line = if speaks == Spoken::Plain {
            Line::new(device, limits(chunk), &clock, faults(number))
        } else {
            Line::secure(device, &door, limits(chunk), &clock, faults(number))
        };
        let line = Rc::new(RefCell::new(line));
        lines.borrow_mut().push(line.clone());
        Ok::<_, String>(Wire(line))
    };
    let mut client = Client::new(connect, &clock, door.options(speaks));
    let result = f(&mut client);
    drop(client);
    let count = |of: fn(&Line<'_>) -> u64| lines.borrow().iter().map(|line| of(&line.borrow())).sum();
    (result, count(|line| line.passed), count(|line| line.flips))
}

/// Requests of the tests, for any connection.
pub(crate) trait AnyClient {
    fn push(
        &mut self,
        bytes: &[u8],
        kind: clr_transfer::Kind,
    ) -> Result<clr_transfer::Pushed, clr_transfer::ClientError>;
    fn pull(&mut self, task: &str) -> Result<clr_transfer::Pulled, clr_transfer::ClientError>;
    fn rollback(&mut self, task: &str) -> Result<(), clr_transfer::ClientError>;
    fn switch_group(&mut self, tasks: &[&str]) -> Result<(), clr_transfer::ClientError>;
    fn selection(&mut self) -> Result<Option<Vec<String>>, clr_transfer::ClientError>;
    fn list(&mut self) -> Result<Vec<clr_transfer::TaskSummary>, clr_transfer::ClientError>;
    fn status(&mut self) -> Result<clr_transfer::Status, clr_transfer::ClientError>;
    fn health(&mut self) -> Result<Option<clr_transfer::Health>, clr_transfer::ClientError>;
    fn examples(&mut self, task: &str) -> Result<Vec<clr_transfer::ExampleSummary>, clr_transfer::ClientError>;
    fn pull_example(
        &mut self,
        task: &str,
        id: clr_transfer::Digest,
    ) -> Result<clr_transfer::Pulled, clr_transfer::ClientError>;
    fn remove_examples(
        &mut self,
        task: &str,
        selection: clr_transfer::ExampleSelection,
    ) -> Result<clr_transfer::RemovedExamples, clr_transfer::ClientError>;
    fn remove_class(
        &mut self,
        task: &str,
        label: &str,
    ) -> Result<clr_transfer::RemovedExamples, clr_transfer::ClientError>;
}

impl<S, F, E> AnyClient for Client<'_, S, F>
where
    S: embedded_io::Read + embedded_io::Write,
    F: FnMut() -> Result<S, E>,
    E: std::fmt::Display,
{
    fn push(
        &mut self,
        bytes: &[u8],
        kind: clr_transfer::Kind,
    ) -> Result<clr_transfer::Pushed, clr_transfer::ClientError> {
        self.push(bytes, kind, &mut |progress| assert!(progress.done <= progress.total))
    }

    fn pull(&mut self, task: &str) -> Result<clr_transfer::Pulled, clr_transfer::ClientError> {
        self.pull(task, clr_transfer::Slot::Serving, 1 << 24, &mut |_| ())
    }

    fn rollback(&mut self, task: &str) -> Result<(), clr_transfer::ClientError> {
        self.rollback(task)
    }

    fn switch_group(&mut self, tasks: &[&str]) -> Result<(), clr_transfer::ClientError> {
        self.switch_group(tasks)
    }

    fn selection(&mut self) -> Result<Option<Vec<String>>, clr_transfer::ClientError> {
        self.selection()
    }

    fn list(&mut self) -> Result<Vec<clr_transfer::TaskSummary>, clr_transfer::ClientError> {
        self.list()
    }

    fn status(&mut self) -> Result<clr_transfer::Status, clr_transfer::ClientError> {
        self.status()
    }

    fn health(&mut self) -> Result<Option<clr_transfer::Health>, clr_transfer::ClientError> {
        self.health()
    }

    fn examples(&mut self, task: &str) -> Result<Vec<clr_transfer::ExampleSummary>, clr_transfer::ClientError> {
        self.examples(task)
    }

    fn pull_example(
        &mut self,
        task: &str,
        id: clr_transfer::Digest,
    ) -> Result<clr_transfer::Pulled, clr_transfer::ClientError> {
        self.pull_example(task, id, 64, &mut |_| ())
    }

    fn remove_examples(
        &mut self,
        task: &str,
        selection: clr_transfer::ExampleSelection,
    ) -> Result<clr_transfer::RemovedExamples, clr_transfer::ClientError> {
        self.remove_examples(task, selection)
    }

    fn remove_class(
        &mut self,
        task: &str,
        label: &str,
    ) -> Result<clr_transfer::RemovedExamples, clr_transfer::ClientError> {
        self.remove_class(task, label)
    }
}
