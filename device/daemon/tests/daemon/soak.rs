//! Frames while a thousand connections per minute arrive, half of them hostile. `CLR_SOAK_SECONDS` is the duration
//! (default: 20).
//!
//! ```sh
//! CLR_SOAK_SECONDS=600 cargo test --release -p clr-daemon soak -- --ignored --nocapture
//! ```

use std::{
    collections::VecDeque,
    io::{Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use clr_transfer::{Endpoint, SystemClock};

use super::device::{Device, TIMEOUT, free_port, image};

/// Time between two connections, which gives a thousand per minute.
const BETWEEN: Duration = Duration::from_millis(60);
/// Time between two frames.
const FRAME: Duration = Duration::from_millis(50);
/// Maximum number of hostile connections held open, several times the device's cap. Beyond it, the oldest is closed.
const HELD: usize = 16;
/// Maximum growth of the process after the first quarter of the time, in bytes.
const GROWTH: u64 = 8 << 20;

fn connect(port: u16) -> Option<TcpStream> {
    let address = ("127.0.0.1", port).to_socket_addrs().unwrap().next().unwrap();
    let stream = TcpStream::connect_timeout(&address, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    Some(stream)
}

/// Sends a valid request to the HTTP port. Returns false if it was refused.
fn scrape(port: u16) -> bool {
    let Some(mut stream) = connect(port) else { return false };
    let mut answer = String::new();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

/// Performs a valid request on the TCP port.
fn ask(port: u16) -> bool {
    let endpoint: Endpoint = format!("tcp:127.0.0.1:{port}").parse().unwrap();
    let clock = SystemClock::new();
    endpoint.client(&clock, endpoint.options()).status().is_ok()
}

/// Opens a hostile connection. Returns it if it should be held open.
fn attack(kind: u64, http: u16, tcp: u16) -> Option<TcpStream> {
    let (port, bytes): (u16, Vec<u8>) = match kind % 8 {
        0 => (
            http,
            b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 40000000000\r\n\r\n".to_vec(),
        ),
        1 => (http, b"GET /metrics HTTP/1.1\r\nHo".to_vec()),
        2 => (http, vec![0xa5; 50_000]),
        3 => (
            http,
            format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(60_000)).into_bytes(),
        ),
        4 => (
            http,
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n".to_vec(),
        ),
        5 => (tcp, vec![0x5a; 200_000]),
        6 => (tcp, vec![0, 3, b'Q']),
        _ => (tcp, Vec::new()),
    };
    let mut stream = connect(port)?;
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let _ = stream.write_all(&bytes);
    matches!(kind % 8, 1 | 4 | 6 | 7).then_some(stream)
}

#[test]
#[ignore = "duration by CLR_SOAK_SECONDS"]
fn no_frame_is_lost_and_memory_is_flat_under_a_thousand_connections_a_minute() {
    let seconds = std::env::var("CLR_SOAK_SECONDS").map_or(20, |text| text.parse().unwrap());
    let (http, tcp) = (free_port(), free_port());
    let mut device = Device::with_birds(&format!(
        "[http]\nlisten = '127.0.0.1:{http}'\n[tcp]\nlisten = '127.0.0.1:{tcp}'\n"
    ));
    device.ask(&image(0));
    let stop = AtomicBool::new(false);
    let [good, refused, hostile, control] = [const { AtomicU64::new(0) }; 4];
    let socket = device.path("state/control.sock").display().to_string();
    let (mut frames, mut memory, mut most) = (0_u64, Vec::new(), Duration::ZERO);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut held = VecDeque::new();
            let started = Instant::now();
            for number in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                if number % 2 == 0 {
                    let served = if number % 4 == 0 { scrape(http) } else { ask(tcp) };
                    if served { &good } else { &refused }.fetch_add(1, Ordering::Relaxed);
                } else {
                    hostile.fetch_add(1, Ordering::Relaxed);
                    held.extend(attack(number / 2, http, tcp));
                    if held.len() > HELD {
                        held.pop_front();
                    }
                }
                let due = started + BETWEEN * u32::try_from(number + 1).unwrap();
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let endpoint = Endpoint::Unix(socket.clone());
                let clock = SystemClock::new();
                let status = endpoint.client(&clock, endpoint.options()).status();
                assert!(status.is_ok(), "the local socket: {status:?}");
                control.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(250));
            }
        });
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(seconds) {
            let shown = Instant::now();
            // Fails without a result.
            let answer = device.ask(&image(frames));
            assert_eq!(answer["task"], "birds", "{answer}");
            most = most.max(shown.elapsed());
            frames += 1;
            if started.elapsed() > Duration::from_secs(seconds) / 4 {
                memory.push(device.memory_from_here());
            }
            thread::sleep(FRAME.saturating_sub(shown.elapsed()));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let [good, refused, hostile, control] = [good, refused, hostile, control].map(AtomicU64::into_inner);
    let (first, last) = (memory[0], *memory.last().unwrap());
    println!(
        "{seconds} s: {frames} frames, each answered, the slowest after {most:?}; {hostile} hostile connections, {good} good ones \
         served and {refused} refused; {control} times asked on the local socket; memory {first} to {last} bytes, at most {}",
        memory.iter().max().unwrap()
    );
    assert!(control > 0 && good > 0 && hostile > 0);
    assert!(last < first + GROWTH, "memory grew from {first} to {last} bytes");
    assert_eq!(device.status().frames.failed, 0);
    device.stop();
}
