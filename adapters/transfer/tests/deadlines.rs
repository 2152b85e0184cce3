//! A slow peer is dropped at its deadline, whatever it sent before.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use clr_transfer::{
    Client, ClientError, ClientOptions, Clock as _, End, Link, LinkFault, ServeError, ServeLimits, SystemClock, serve,
};
use embedded_io::ErrorKind;

use crate::{
    garbage::{HELLO, frame},
    line::SimulatedClock,
    memory_device::MemoryDevice,
};

/// A peer that sends the bytes of a script repeatedly, one per second. It accepts everything, or one byte per second.
struct Slow<'c> {
    clock: &'c SimulatedClock,
    script: Vec<u8>,
    at: usize,
    takes_slowly: bool,
}

impl embedded_io::ErrorType for Slow<'_> {
    type Error = ErrorKind;
}

impl embedded_io::Read for Slow<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, ErrorKind> {
        if self.takes_slowly {
            let count = buf.len().min(self.script.len() - self.at);
            buf[..count].copy_from_slice(&self.script[self.at..self.at + count]);
            self.at += count;
            return if count == 0 {
                Err(ErrorKind::TimedOut)
            } else {
                Ok(count)
            };
        }
        self.clock.advance(Duration::from_secs(1));
        buf[0] = self.script[self.at % self.script.len()];
        self.at += 1;
        Ok(1)
    }
}

impl embedded_io::Write for Slow<'_> {
    fn write(&mut self, buf: &[u8]) -> Result<usize, ErrorKind> {
        if self.takes_slowly {
            self.clock.advance(Duration::from_secs(1));
            return Ok(1.min(buf.len()));
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

fn serve_slow(script: Vec<u8>, takes_slowly: bool) -> (Result<End, ServeError>, Duration) {
    let clock = SimulatedClock::default();
    let mut stream = Slow {
        clock: &clock,
        script,
        at: 0,
        takes_slowly,
    };
    let limits = ServeLimits::default();
    let served = serve(&mut stream, &MemoryDevice::default(), &clock, &limits);
    (served.map(|served| served.end), clock.now())
}

#[test]
fn a_peer_that_sends_one_byte_a_second_is_dropped_at_its_deadline() {
    let limits = ServeLimits::default();
    // Cases: a complete but slow frame, a frame without end, zeros, short garbage between zeros.
    let (result, after) = serve_slow(frame(1, 1, &HELLO), false);
    assert_eq!(result, Err(ServeError::StalledReading(limits.frame)));
    assert!(after <= limits.frame + Duration::from_secs(3), "{after:?}");
    let (result, after) = serve_slow(vec![7], false);
    assert_eq!(result, Err(ServeError::StalledReading(limits.frame)));
    assert!(after <= limits.frame + Duration::from_secs(2), "{after:?}");
    for script in [vec![0], vec![1, 2, 3, 0]] {
        let (result, after) = serve_slow(script, false);
        assert!(
            matches!(result, Ok(End::Idle) | Err(ServeError::StalledReading(_))),
            "{result:?}"
        );
        assert!(after <= limits.idle + Duration::from_secs(2), "{after:?}");
    }
}

#[test]
fn a_peer_that_accepts_one_byte_a_second_is_dropped_at_its_deadline() {
    let limits = ServeLimits::default();
    let (result, after) = serve_slow(frame(1, 1, &HELLO), true);
    assert_eq!(result, Err(ServeError::StalledWriting(limits.frame)));
    assert!(after <= limits.frame + Duration::from_secs(2), "{after:?}");
}

fn short() -> ServeLimits {
    ServeLimits::default()
        .with_frame(Duration::from_millis(300))
        .with_idle(Duration::from_millis(600))
}

/// Serves one TCP connection with short deadlines to a hostile `peer`.
fn serve_tcp(peer: impl FnOnce(TcpStream) + Send) -> Result<End, ServeError> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || peer(TcpStream::connect(address).unwrap()));
        let mut link = Link::tcp(listener.accept().unwrap().0).unwrap();
        serve(&mut link, &MemoryDevice::default(), &SystemClock::new(), &short()).map(|served| served.end)
    })
}

#[test]
#[cfg_attr(miri, ignore = "an interpreter has no sockets with deadlines")]
fn over_tcp_a_slow_peer_is_dropped_and_a_silent_one_too() {
    let start = Instant::now();
    let slow = serve_tcp(|mut stream| {
        while stream.write_all(&[9]).is_ok() && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(60));
        }
    });
    assert_eq!(slow, Err(ServeError::StalledReading(short().frame)));
    let silent = serve_tcp(|mut stream| {
        let _ = stream.read(&mut [0]);
    });
    assert_eq!(silent, Ok(End::Idle));
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_device_that_never_replies_gives_a_clear_error() {
    struct Mute<'c>(&'c SimulatedClock);
    impl embedded_io::ErrorType for Mute<'_> {
        type Error = ErrorKind;
    }
    impl embedded_io::Read for Mute<'_> {
        fn read(&mut self, _: &mut [u8]) -> Result<usize, ErrorKind> {
            self.0.advance(Duration::from_millis(100));
            Err(ErrorKind::TimedOut)
        }
    }
    impl embedded_io::Write for Mute<'_> {
        fn write(&mut self, buf: &[u8]) -> Result<usize, ErrorKind> {
            Ok(buf.len())
        }
        fn flush(&mut self) -> Result<(), ErrorKind> {
            Ok(())
        }
    }
    let clock = SimulatedClock::default();
    let mut client = Client::new(|| Ok::<_, String>(Mute(&clock)), &clock, ClientOptions::default());
    let error = client.status().unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Lost {
                fault: LinkFault::Silent,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("hint: "));
}

#[test]
fn an_unreachable_device_is_an_immediate_error() {
    let clock = SimulatedClock::default();
    let mut client = Client::new(|| Err::<Link, _>("refused"), &clock, ClientOptions::default());
    let error = client.status().unwrap_err();
    assert!(
        matches!(error, ClientError::Connect { .. }) && error.to_string().contains("refused"),
        "{error}"
    );
    assert_eq!(clock.now(), Duration::ZERO);
}
