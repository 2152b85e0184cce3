//! Benchmark of the running program: start, memory by number of tasks, time from a switch to the first frame of the new
//! task, and the effect of slow peers on frames.
//!
//! Uses EfficientNet-Lite0 at 224 px, `clr` adapters of 10 classes and random weights. `cargo bench -p clr-daemon
//! --bench daemon [-- TASKS SWITCHES]`, for example `-- 100 500`.

mod device;

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clr_adapters::{Adapter, Encoding, Recipe, encode};
use clr_onnx::{Architecture, Backbone, identity_adapter, seeded_backbone};
use clr_transfer::{Endpoint, Kind, PeerKey, PeerSecret, Security, SystemClock};
use device::{Device, Result, quantiles};

fn adapter(backbone: &Backbone, task: usize) -> Adapter {
    let original = backbone.original_adapter().expect("it has a classifier");
    let mut adapter = identity_adapter(backbone, Recipe::Clr, original.head, original.header);
    adapter.header.task = format!("task {task}");
    for (index, site) in adapter.sites.iter_mut().enumerate() {
        site.bias.fill(1e-3 * (index + task) as f32);
    }
    adapter
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
