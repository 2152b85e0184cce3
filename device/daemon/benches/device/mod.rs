//! The running program, for benchmarks: started with a configuration, fed with images, and asked over its socket.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the client's methods are not general enough in its lifetime"
)]

use std::{
    error::Error,
    io::{BufRead as _, BufReader, Write as _},
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

use clr_onnx::RgbImage;
use clr_transfer::{ClientError, Endpoint, EndpointClient, SystemClock};
use serde_json::Value;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A result line, and the time at which it was read.
pub(crate) type Line = (Instant, Value);

/// The program `clr-device`, which classifies 50 images per second from its standard input.
pub(crate) struct Device {
    pub(crate) folder: PathBuf,
    child: Child,
    pub(crate) lines: Receiver<Line>,
    /// Set to end the thread that writes frames into the watched folder.
    ended: Arc<AtomicBool>,
}

impl Device {
    /// Starts the program in a folder with a configuration. Returns the time until it accepts connections, too.
    pub(crate) fn start(folder: PathBuf) -> Result<(Self, Duration)> {
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

    /// Sends a request.
    pub(crate) fn host<T>(
        &self,
        act: impl FnOnce(&mut EndpointClient<'_>) -> std::result::Result<T, ClientError>,
    ) -> Result<T> {
        let endpoint = Endpoint::Unix(self.folder.join("state/control.sock").display().to_string());
        Ok(act(&mut endpoint.client(&SystemClock::new(), endpoint.options()))?)
    }

    /// Returns the resident memory in megabytes.
    pub(crate) fn memory(&self) -> Result<f64> {
        Ok(self.host(|client| client.status())?.memory.resident_bytes as f64 / 1e6)
    }

    /// Returns the next result.
    pub(crate) fn next(&self) -> Result<Line> {
        Ok(self.lines.recv_timeout(Duration::from_secs(20))?)
    }

    /// Returns the latencies of the next `frames` frames, in milliseconds.
    pub(crate) fn latencies(&self, frames: usize) -> Result<Vec<f64>> {
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

/// Returns the median and the 99th percentile.
pub(crate) fn quantiles(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share) as usize];
    (at(0.5), at(0.99))
}
