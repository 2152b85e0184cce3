//! Benchmark of the running program: start, memory by number of tasks, time from a switch to the first frame of the new
//! task, and the effect of slow peers on frames.
//!
//! Uses EfficientNet-Lite0 at 224 px, `clr` adapters of 10 classes and random weights. `cargo bench -p clr-daemon
//! --bench daemon [-- TASKS SWITCHES]`, for example `-- 100 500`.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the client's methods are not general enough in its lifetime"
)]

use std::{
    error::Error,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use clr_adapters::{Adapter, Encoding, Recipe, encode};
use clr_onnx::{Architecture, Backbone, RgbImage, identity_adapter, seeded_backbone};
use clr_transfer::{ClientError, Endpoint, EndpointClient, Kind, PeerKey, PeerSecret, Security, SystemClock};
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A result line, and the time at which it was read.
type Line = (Instant, Value);

struct Device {
    folder: PathBuf,
    child: Child,
    lines: Receiver<Line>,
    /// Set to end the thread that writes frames into the watched folder.
    ended: Arc<AtomicBool>,
}

impl Device {
    fn start(folder: PathBuf) -> Result<(Self, Duration)> {
        let started = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_clr-device"))
            .args(["run", "--config", "device.toml"])
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        while UnixStream::connect(folder.join("state/control.sock")).is_err() {
            if let Some(status) = child.try_wait()? {
                return Err(format!("the device ended: {status}").into());
            }
            thread::sleep(Duration::from_micros(200));
        }
        let ready = started.elapsed();
        let output = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(std::result::Result::ok) {
                let Ok(value) = serde_json::from_str(&line) else { return };
                if sender.send((Instant::now(), value)).is_err() {
                    return;
                }
            }
        });
        let ended = Arc::new(AtomicBool::new(false));
        let mut input = child.stdin.take().ok_or("no stdin")?;
        let (frame, stop) = (frame(), Arc::clone(&ended));
        // A camera of 50 images per second.
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) && input.write_all(&frame).is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        let device = Self {
            folder,
            child,
            lines,
            ended,
        };
        Ok((device, ready))
    }

    fn host<T>(&self, act: impl FnOnce(&mut EndpointClient<'_>) -> std::result::Result<T, ClientError>) -> Result<T> {
        let endpoint = Endpoint::Unix(self.folder.join("state/control.sock").display().to_string());
        Ok(act(&mut endpoint.client(&SystemClock::new(), endpoint.options()))?)
    }

    fn memory(&self) -> Result<f64> {
        Ok(self.host(|client| client.status())?.memory.resident_bytes as f64 / 1e6)
    }

    /// Returns the next result.
    fn next(&self) -> Result<Line> {
        Ok(self.lines.recv_timeout(Duration::from_secs(20))?)
    }

    /// Returns the latencies of the next `frames` frames, in milliseconds.
    fn latencies(&self, frames: usize) -> Result<Vec<f64>> {
        while self.lines.try_recv().is_ok() {}
        let all = (0..frames).map(|_| Ok(self.next()?.1["latency_ms"].as_f64().ok_or("a frame without latency")?));
        all.collect()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a 224 × 224 image as BMP, which takes almost no time to decode.
fn frame() -> Vec<u8> {
    let image = RgbImage::from_fn(224, 224, |x, y| image::Rgb([x as u8, y as u8, (x ^ y) as u8]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    image
        .write_to(&mut bytes, image::ImageFormat::Bmp)
        .expect("writing to memory succeeds");
    bytes.into_inner()
}

fn adapter(backbone: &Backbone, task: usize) -> Adapter {
    let original = backbone.original_adapter().expect("it has a classifier");
    let mut adapter = identity_adapter(backbone, Recipe::Clr, original.head, original.header);
    adapter.header.task = format!("task {task}");
    for (index, site) in adapter.sites.iter_mut().enumerate() {
        site.bias.fill(1e-3 * (index + task) as f32);
    }
    adapter
}

fn quantiles(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share) as usize];
    (at(0.5), at(0.99))
}

/// Latency of frames during the most expensive load that unknown peers can cause.
struct UnderFlood {
    median: f64,
    p99: f64,
    slowest: f64,
    connections: usize,
}

/// Runs eight threads that connect, begin a handshake with their own key, and connect again.
fn flood(device: &Device, port: u16) -> Result<UnderFlood> {
    let over = Arc::new(AtomicBool::new(false));
    let device_key = fs::read_to_string(device.folder.join("state/session.key"))?;
    let device_key: PeerKey = device_key.lines().nth(1).ok_or("no key")?.parse()?;
    let peers: Vec<_> = (0..8_u8)
        .map(|number| {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                let endpoint = Endpoint::Tcp(format!("127.0.0.1:{port}"));
                let mut connections = 0;
                while !over.load(Ordering::Relaxed) {
                    let options = endpoint
                        .options()
                        .with_security(Security::Known {
                            secret: PeerSecret::from_bytes([number; 32]),
                            device: device_key,
                        })
                        .with_attempts(1);
                    let _ = endpoint.client(&SystemClock::new(), options).status();
                    connections += 1;
                }
                connections
            })
        })
        .collect();
    let frames = device.latencies(450)?;
    over.store(true, Ordering::Relaxed);
    let connections = peers.into_iter().map(|peer| peer.join().unwrap_or(0)).sum();
    let slowest = frames.iter().copied().fold(0.0, f64::max);
    let (median, p99) = quantiles(frames);
    Ok(UnderFlood {
        median,
        p99,
        slowest,
        connections,
    })
}

fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<usize>().ok());
    let (tasks, switches) = (numbers.next().unwrap_or(100), numbers.next().unwrap_or(500));
    let folder = tempfile::tempdir()?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let backbone = seeded_backbone(Architecture::EfficientNetLite0, 1, 10);
    backbone.save(&folder.path().join("backbone.onnx"))?;
    let backbone = Backbone::load(&folder.path().join("backbone.onnx"))?;
    fs::write(
        folder.path().join("device.toml"),
        format!(
            "backbone = 'backbone.onnx'\nstate = 'state'\n[trust]\nunsigned = true\n[source]\nkind = 'stdin'\n[tcp]\nlisten = '127.0.0.1:{port}'\n"
        ),
    )?;
    let (device, ready) = Device::start(folder.path().to_owned())?;
    println!("start, no task: ready after {:.0} ms", 1e3 * ready.as_secs_f64());
    println!("memory, no task: {:.1} MB", device.memory()?);
    for task in 0..tasks {
        let file = encode(&adapter(&backbone, task), Encoding::Int8)?;
        device.host(|client| client.push(&file, Kind::Adapter, &mut |_| {}))?;
        let name = format!("task {task}");
        device.host(|client| client.mark_good(&name))?;
        if task == 0 {
            device.host(|client| client.switch(&name))?;
            device.latencies(10)?;
        }
        if [1, 3, 10, 30, 100, tasks].contains(&(task + 1)) {
            println!("memory, {} tasks: {:.1} MB", task + 1, device.memory()?);
        }
    }
    let frames = device.latencies(450)?;
    let slowest_alone = frames.iter().copied().fold(0.0, f64::max);
    let alone = quantiles(frames);
    println!("frame: median {:.2} ms, p99 {:.2} ms", alone.0, alone.1);

    let mut waits = Vec::with_capacity(switches);
    let mut replies = Vec::with_capacity(switches);
    for switch in 0..switches {
        let name = format!("task {}", (switch * 37 + 1) % tasks.max(1));
        // Not always at the same moment of a frame.
        thread::sleep(Duration::from_micros((switch * 7919 % 20_000) as u64));
        while device.lines.try_recv().is_ok() {}
        let asked = Instant::now();
        device.host(|client| client.switch(&name))?;
        replies.push(1e3 * asked.elapsed().as_secs_f64());
        loop {
            let (read, line) = device.next()?;
            if line["task"] == name.as_str() {
                waits.push(1e3 * read.duration_since(asked).as_secs_f64());
                break;
            }
        }
    }
    let (wait, reply) = (quantiles(waits), quantiles(replies));
    println!(
        "switch through the socket, {switches} times, frames every 20 ms: to the first frame of the new task median {:.2} ms, p99 {:.2} ms; \
         to the reply median {:.2} ms, p99 {:.2} ms",
        wait.0, wait.1, reply.0, reply.1
    );
    println!("memory after {switches} switches: {:.1} MB", device.memory()?);

    let mut slow = UnixStream::connect(device.folder.join("state/control.sock"))?;
    let slow_peer = thread::spawn(move || {
        let started = Instant::now();
        while slow.write_all(&[7]).is_ok() {
            thread::sleep(Duration::from_secs(1));
        }
        started.elapsed()
    });
    let with_slow_peer = quantiles(device.latencies(450)?);
    println!(
        "frame with a peer that sends a byte per second: median {:.2} ms, p99 {:.2} ms",
        with_slow_peer.0, with_slow_peer.1
    );
    let dropped = slow_peer.join().map_err(|_| "the peer's thread panicked")?;
    println!("that peer was dropped after {:.1} s", dropped.as_secs_f64());
    let under_flood = flood(&device, port)?;
    println!(
        "frame with eight unknown peers that begin handshakes: median {:.2} ms, p99 {:.2} ms, slowest {:.2} ms; {} connections; slowest alone {:.2} ms",
        under_flood.median, under_flood.p99, under_flood.slowest, under_flood.connections, slowest_alone
    );
    drop(device);
    let (_device, ready) = Device::start(folder.path().to_owned())?;
    println!("start, {tasks} tasks: ready after {:.0} ms", 1e3 * ready.as_secs_f64());
    Ok(())
}
