//! Decoding on the device: one budget for frames, taught images and learning, and quarantine for images that end the process.

mod in_hand;
mod quarantine;

use std::{
    cell::Cell,
    path::{Path, PathBuf},
};

use clr_adapters::Preprocessing;
use clr_onnx::{DecodeLimits, DecodedImage, ImageDecoder, ImageError};

use super::{Config, config::LimitsConfig};
use clr_engine::trim_heap;
use in_hand::Suspect;
use quarantine::Quarantine;

/// From this many bytes on, freed memory is given back to the system at once.
const GIVEN_BACK: u64 = 8 << 20;

/// Decodes every image of the device.
#[derive(Debug)]
pub(crate) struct Images {
    decoder: ImageDecoder,
    quarantine: Quarantine,
}

/// Why an image is not decoded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageFault {
    /// The process ended while this image was decoded, more than once.
    #[error(
        "{name}: set aside: the device ended {deaths} times while it was decoded\nhint: look at it elsewhere, then remove it from \
         images.json in the state folder"
    )]
    SetAside { name: String, deaths: u32 },
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl Images {
    /// Reads what the last run had in hand, and sets aside what ended it twice.
    pub(crate) fn open(config: &Config, input: &Preprocessing) -> Self {
        Self {
            decoder: ImageDecoder::new(limits(&config.limits, input)),
            quarantine: Quarantine::open(&config.state, runtime_folder().as_deref()),
        }
    }

    /// What one image may take.
    pub(crate) fn limits(&self) -> &DecodeLimits {
        self.decoder.limits()
    }

    /// Whether the last run ended while an image was decoded: then no adapter is to blame for its end.
    pub(crate) fn died_with_image(&self) -> bool {
        self.quarantine.died_with_image()
    }

    /// Images that were set aside at this start.
    pub(crate) fn set_aside_at_start(&self) -> u64 {
        self.quarantine.set_aside_at_start()
    }

    /// Decodes an image, reduced for `inputs`. While it does so the image is on record as in hand; `path` is its file, if it has one.
    pub(crate) fn decode(
        &self,
        bytes: &[u8],
        name: &str,
        path: Option<&Path>,
        inputs: &[&Preprocessing],
    ) -> Result<DecodedImage, ImageFault> {
        let image = Suspect::of(bytes, name, path);
        let in_hand = self.quarantine.take(&image)?;
        let most = Cell::new(0);
        let half = self.limits().memory / 2;
        let before = |needed: u64| {
            most.set(most.get().max(needed));
            if needed > half {
                in_hand.make_durable();
            }
        };
        let decoded = self.decoder.decode_observed(bytes, name, inputs, &before);
        drop(in_hand);
        self.quarantine.survived(&image);
        if most.get() > GIVEN_BACK {
            trim_heap();
        }
        Ok(decoded?)
    }
}

/// The folder that systemd made for the running device; it is kept from one start to the next and is gone after a power cut.
fn runtime_folder() -> Option<PathBuf> {
    let folders = std::env::var_os("RUNTIME_DIRECTORY")?;
    std::env::split_paths(&folders)
        .next()
        .filter(|folder| folder.is_absolute())
}

/// The configured limits, and where there are none the ones that follow from input and memory.
fn limits(config: &LimitsConfig, input: &Preprocessing) -> DecodeLimits {
    let mut limits = DecodeLimits::device(input.height, input.width);
    limits.memory = config.image_memory.unwrap_or(limits.memory);
    limits.bytes = config.image_bytes();
    limits.pixels = config.image_pixels.unwrap_or(limits.pixels);
    limits.time = config.image_ms.map_or(limits.time, std::time::Duration::from_millis);
    limits
}
