//! Camera source: a V4L2 camera that delivers JPEG, as nearly all USB cameras and the Raspberry Pi cameras do.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use linuxvideo::{
    BufType, Device,
    format::{PixFormat, PixelFormat},
    stream::ReadStream,
};

use super::{Frame, POLL_INTERVAL, Send, Session, SourceState, Stop, keep_open};
use crate::wait_readable;

/// Time without a frame after which the camera is reopened.
const FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// Configuration of a camera.
#[derive(Debug)]
pub(super) struct Camera {
    pub(super) path: PathBuf,
    pub(super) width: u32,
    pub(super) height: u32,
}

fn cannot<E: fmt::Display>(what: &str) -> impl Fn(E) -> String {
    move |error| format!("cannot {what}: {error}")
}

/// Opens the camera for JPEG. The driver selects the size nearest to the given one.
fn open(path: &Path, width: u32, height: u32) -> Result<ReadStream, String> {
    let device = Device::open(path).map_err(cannot("open the camera"))?;
    let mut formats = Vec::new();
    for format in device.formats(BufType::VIDEO_CAPTURE) {
        formats.push(format.map_err(cannot("list its formats"))?.pixel_format());
    }
    let jpeg = [PixelFormat::MJPG, PixelFormat::JPEG];
    let Some(format) = jpeg.into_iter().find(|format| formats.contains(format)) else {
        return Err(format!("expected MJPG or JPEG, got {formats:?}"));
    };
    let capture = device
        .video_capture(PixFormat::new(width, height, format))
        .map_err(cannot("set the format"))?;
    let taken = capture.format();
    tracing::info!(camera = %path.display(), width = taken.width(), height = taken.height(), "camera opened");
    capture.into_stream().map_err(cannot("start streaming"))
}

impl Camera {
    pub(super) fn run(self, stop: &Stop, state: &SourceState, send: &mut Send<'_>) {
        let mut number = 0_u64;
        let open = || open(&self.path, self.width, self.height);
        keep_open(stop, state, send, open, |mut stream, send| {
            let mut last = Instant::now();
            while !stop.is_set() {
                state.alive();
                match frame(&mut stream) {
                    Ok(Some(bytes)) => {
                        // Only a received frame proves that the camera works.
                        state.up();
                        last = Instant::now();
                        let frame = Frame::new(number.to_string(), bytes);
                        number += 1;
                        if !send(frame) {
                            break;
                        }
                    }
                    Ok(None) if last.elapsed() < FRAME_TIMEOUT => {}
                    Ok(None) => return Session::Lost(format!("no frame for {} s", FRAME_TIMEOUT.as_secs())),
                    Err(reason) => return Session::Lost(reason),
                }
            }
            Session::Ended
        });
    }
}

/// Returns the next frame; `None` if none arrives within the interval, or if the driver marks it as damaged.
fn frame(stream: &mut ReadStream) -> Result<Option<Vec<u8>>, String> {
    if !wait_readable(&*stream, POLL_INTERVAL).map_err(cannot("wait for a frame"))? {
        return Ok(None);
    }
    stream
        .dequeue(|buffer| Ok((!buffer.is_error()).then(|| buffer.to_vec())))
        .map_err(cannot("read a frame"))
}
