//! Frames from a V4L2 camera that delivers JPEG, as nearly all USB cameras and the Raspberry Pi's do.

use std::path::Path;

use super::{Frame, PATIENCE, Send, Stop};
use crate::daemon::{DaemonError, readable};
use linuxvideo::{
    BufType, Device,
    format::{PixFormat, PixelFormat},
    stream::ReadStream,
};

/// A camera that streams.
pub(super) struct Camera {
    stream: ReadStream,
    name: String,
}

impl Camera {
    /// Opens the camera and asks for JPEG of about this size; the driver takes the nearest that it has.
    pub(super) fn open(path: &Path, width: u32, height: u32) -> Result<Self, DaemonError> {
        let failed = |what: &str| DaemonError::io(format!("camera '{}': {what}", path.display()));
        let device = Device::open(path).map_err(failed("cannot open"))?;
        let mut formats = Vec::new();
        for format in device.formats(BufType::VIDEO_CAPTURE) {
            formats.push(format.map_err(failed("cannot list its formats"))?.pixel_format());
        }
        let jpeg = [PixelFormat::MJPG, PixelFormat::JPEG];
        let Some(format) = jpeg.into_iter().find(|format| formats.contains(format)) else {
            let reason = format!("expected MJPG or JPEG, it has {formats:?}");
            return Err(failed("no such format")(std::io::Error::other(reason)));
        };
        let capture = device
            .video_capture(PixFormat::new(width, height, format))
            .map_err(failed("cannot set the format"))?;
        let taken = capture.format();
        tracing::info!(camera = %path.display(), width = taken.width(), height = taken.height(), "camera opened");
        Ok(Self {
            stream: capture.into_stream().map_err(failed("cannot start streaming"))?,
            name: path.display().to_string(),
        })
    }

    pub(super) fn run(mut self, stop: &Stop, send: &mut Send<'_>) -> Result<(), DaemonError> {
        let failed = |name: &str| DaemonError::io(format!("camera '{name}': cannot read a frame"));
        let mut number = 0_u64;
        while !stop.is_set() {
            if !readable(&self.stream, PATIENCE).map_err(failed(&self.name))? {
                continue;
            }
            let bytes = self
                .stream
                .dequeue(|buffer| Ok((!buffer.is_error()).then(|| buffer.to_vec())))
                .map_err(failed(&self.name))?;
            let Some(bytes) = bytes else { continue };
            let frame = Frame::new(number.to_string(), bytes);
            number += 1;
            if !send(frame) {
                break;
            }
        }
        Ok(())
    }
}
