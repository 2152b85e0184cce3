//! Measures the cost of a handshake for both ends: time and bytes, in memory, on one thread.
//!
//! `cargo run --release -p clr-transfer --example handshake [-- COUNT]`, with the number of handshakes.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    time::{Duration, Instant},
};

use clr_transfer::{
    AccessRefusal, Admission, Begin, Capabilities, Channel, Client, ClientOptions, Committed, Decoder, Device,
    DeviceInfo, Digest, EnrolmentCode, Failure, FailureCode, FrameEvent, PeerKey, PeerSecret, PullInfo, Security,
    SessionLimits, Slot, Status, SystemClock, TaskSummary,
};
use embedded_io::ErrorKind;

/// A device without contents.
struct Empty {
    secret: PeerSecret,
    code: EnrolmentCode,
    device_time: RefCell<Duration>,
}

fn nothing<T>() -> Result<T, Failure> {
    Err(Failure::new(FailureCode::UNSUPPORTED, "not here"))
}

/// Device state behind a mutex, because [`Admission`] must be `Sync`. This example uses one thread.
struct Shared(std::sync::Mutex<Empty>);

impl Device for Shared {
    fn hello(&self) -> DeviceInfo {
        DeviceInfo {
            device: "example".to_owned(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
            backbone: Digest([0; 32]),
            capabilities: Capabilities::default(),
        }
    }
    fn begin(&self, _: &Begin) -> Result<u64, Failure> {
        nothing()
    }
    fn chunk(&self, _: &Digest, _: u64, _: &[u8]) -> Result<u64, Failure> {
        nothing()
    }
    fn commit(&self, _: &Begin) -> Result<Committed, Failure> {
        nothing()
    }
    fn abort(&self, _: &Digest) -> Result<(), Failure> {
        nothing()
    }
    fn status(&self) -> Result<Status, Failure> {
        nothing()
    }
    fn list(&self) -> Result<Vec<TaskSummary>, Failure> {
        Ok(Vec::new())
    }
    fn switch(&self, _: &str) -> Result<(), Failure> {
        nothing()
    }
    fn rollback(&self, _: &str) -> Result<(), Failure> {
        nothing()
    }
    fn restore(&self, _: &str) -> Result<(), Failure> {
        nothing()
    }
    fn remove(&self, _: &str) -> Result<(), Failure> {
        nothing()
    }
    fn mark_good(&self, _: &str) -> Result<(), Failure> {
        nothing()
    }
    fn mark_bad(&self, _: &str) -> Result<(), Failure> {
        nothing()
    }
    fn open(&self, _: &str, _: Slot) -> Result<PullInfo, Failure> {
        nothing()
    }
    fn read(&self, _: &Digest, _: u64, _: &mut [u8]) -> Result<usize, Failure> {
        nothing()
    }
}

impl Shared {
    fn with<T>(&self, f: impl FnOnce(&Empty) -> T) -> T {
        f(&self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Admission for Shared {
    fn secret(&self) -> Option<PeerSecret> {
        self.with(|device| Some(device.secret.clone()))
    }
    fn admits_plain(&self) -> bool {
        false
    }
    fn admits(&self, _: &PeerKey) -> Result<(), AccessRefusal> {
        Ok(())
    }
    fn enrolment(&self) -> Option<[u8; 32]> {
        self.with(|device| Some(device.code.psk()))
    }
    fn enrol(&self, _: &PeerKey, _: &str) -> Result<(), AccessRefusal> {
        Ok(())
    }
    fn wrong_code(&self) {}
    fn enter(&self, _: Option<&PeerKey>) -> Result<(), AccessRefusal> {
        Ok(())
    }
    fn calculate(&self, work: &mut dyn FnMut()) {
        let started = Instant::now();
        work();
        self.with(|device| *device.device_time.borrow_mut() += started.elapsed());
    }
}

/// The host's end of a line to a device that runs on the same thread.
struct Wire<'d> {
    channel: Channel<'d>,
    decoder: Decoder,
    to_host: VecDeque<u8>,
    bytes: &'d Cell<usize>,
}

impl embedded_io::ErrorType for Wire<'_> {
    type Error = ErrorKind;
}

impl embedded_io::Read for Wire<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, ErrorKind> {
        let count = buf.len().min(self.to_host.len());
        for (slot, byte) in buf.iter_mut().zip(self.to_host.drain(..count)) {
            *slot = byte;
        }
        if count == 0 {
            Err(ErrorKind::TimedOut)
        } else {
            Ok(count)
        }
    }
}

impl embedded_io::Write for Wire<'_> {
    fn write(&mut self, mut bytes: &[u8]) -> Result<usize, ErrorKind> {
        let length = bytes.len();
        self.bytes.set(self.bytes.get() + length);
        while !bytes.is_empty() {
            let (taken, event) = self.decoder.feed(bytes);
            bytes = &bytes[taken..];
            if event == Some(FrameEvent::Frame)
                && let Some(reply) = self.channel.handle(self.decoder.body())
            {
                self.bytes.set(self.bytes.get() + reply.len());
                self.to_host.extend(reply);
            }
        }
        Ok(length)
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: u32 = std::env::args().nth(1).map_or(Ok(1_000), |text| text.parse())?;
    let device = Shared(std::sync::Mutex::new(Empty {
        secret: PeerSecret::from_bytes([1; 32]),
        code: EnrolmentCode::from_random([5; 20]),
        device_time: RefCell::default(),
    }));
    let secret = PeerSecret::from_bytes([2; 32]);
    let (key, code) = device.with(|device| (device.secret.public(), device.code.clone()));
    let clock = SystemClock::new();
    for (what, security) in [
        (
            "known host (IK)",
            Security::Known {
                secret: secret.clone(),
                device: key,
            },
        ),
        (
            "first contact (XXpsk3)",
            Security::Enrol {
                secret: secret.clone(),
                code,
                name: "example".to_owned(),
            },
        ),
    ] {
        let bytes = Cell::new(0);
        device.with(|device| *device.device_time.borrow_mut() = Duration::ZERO);
        let started = Instant::now();
        for _ in 0..count {
            let connect = || {
                Ok::<_, String>(Wire {
                    channel: Channel::new(&device, &device, SessionLimits::default()),
                    decoder: Decoder::default(),
                    to_host: VecDeque::new(),
                    bytes: &bytes,
                })
            };
            let options = ClientOptions::default().with_security(security.clone());
            Client::new(connect, &clock, options).device()?;
        }
        let whole = started.elapsed().as_secs_f64() * 1e3 / f64::from(count);
        let own = device.with(|device| device.device_time.borrow().as_secs_f64()) * 1e3 / f64::from(count);
        println!(
            "{what}: {whole:.3} ms both ends with the greeting, {own:.3} ms of it the device's handshake; {} bytes over the line",
            bytes.get() / count as usize
        );
    }
    Ok(())
}
