//! Image decoding on the device: common limits, and quarantine for images that crash the process.

mod decoding_record;
mod quarantine;

use std::{
    cell::Cell,
    path::{Path, PathBuf},
};

use clr_adapters::Preprocessing;
use clr_onnx::{DecodeLimits, DecodedImage, ImageDecoder, ImageError};

use super::{Config, config::LimitsConfig};
use clr_engine::trim_heap;
use decoding_record::Suspect;
use quarantine::Quarantine;

/// If an image needs more bytes than this, the heap is trimmed after decoding.
const TRIM_BYTES: u64 = 8 << 20;

/// Decoder of all images of the device.
#[derive(Debug)]
pub(crate) struct Images {
    decoder: ImageDecoder,
    quarantine: Quarantine,
}

/// Error of decoding an image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageFault {
    /// The process has crashed more than once while it decoded this image.
    #[error(
        "{name}: quarantined: the device crashed {deaths} times while decoding it\nhint: inspect it elsewhere, then remove it from \
         images.json in the state folder"
    )]
    Quarantined { name: String, deaths: u32 },
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl Images {
    /// Reads the record of the last run, and quarantines an image that has crashed the process twice.
    pub(crate) fn open(config: &Config, input: &Preprocessing) -> Self {
        Self {
            decoder: ImageDecoder::new(limits(&config.limits, input)),
            quarantine: Quarantine::open(&config.state, runtime_folder().as_deref()),
        }
    }

    /// Returns the limits of an image.
    pub(crate) fn limits(&self) -> &DecodeLimits {
        self.decoder.limits()
    }

    /// Returns whether the last run ended while an image was being decoded. In that case, no adapter is to blame.
    pub(crate) fn crashed_on_image(&self) -> bool {
        self.quarantine.crashed_on_image()
    }

    /// Returns the number of images quarantined when the device started.
    pub(crate) fn quarantined_at_start(&self) -> u64 {
        self.quarantine.quarantined_at_start()
    }

    /// Decodes an image, reduced to the sizes in `inputs`, and records it while it is being decoded. `path` is its
    /// file, if it has one.
    pub(crate) fn decode(
        &self,
        bytes: &[u8],
        name: &str,
        path: Option<&Path>,
        inputs: &[&Preprocessing],
    ) -> Result<DecodedImage, ImageFault> {
        let image = Suspect::of(bytes, name, path);
        let guard = self.quarantine.take(&image)?;
        let most = Cell::new(0);
        let half = self.limits().memory / 2;
        let before = |needed: u64| {
            most.set(most.get().max(needed));
            if needed > half {
                guard.make_durable();
            }
        };
        let decoded = self.decoder.decode_observed(bytes, name, inputs, &before);
        drop(guard);
        self.quarantine.survived(&image);
        if most.get() > TRIM_BYTES {
            trim_heap();
        }
        Ok(decoded?)
    }
}

/// Returns the runtime folder of the systemd unit. It survives a restart of the device, but not a power cut.
fn runtime_folder() -> Option<PathBuf> {
    let folders = std::env::var_os("RUNTIME_DIRECTORY")?;
    std::env::split_paths(&folders)
        .next()
        .filter(|folder| folder.is_absolute())
}

/// Returns the configured limits. Their defaults depend on the input size and the machine's memory.
fn limits(config: &LimitsConfig, input: &Preprocessing) -> DecodeLimits {
    let mut limits = DecodeLimits::device(input.height, input.width);
    limits.memory = config.image_memory.unwrap_or(limits.memory);
    limits.bytes = config.image_bytes();
    limits.pixels = config.image_pixels.unwrap_or(limits.pixels);
    limits.time = config.image_ms.map_or(limits.time, std::time::Duration::from_millis);
    limits
}
