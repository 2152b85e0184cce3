//! Reasons why an image cannot be decoded.

/// Reason why an image could not be decoded. Every message names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file could not be opened or read.
    #[error("{origin}: cannot be read: {source}")]
    Io {
        /// The file.
        origin: String,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The content has none of the supported formats. The file's extension is not considered.
    #[error(
        "{origin}: not an image in a supported format\nhint: supported are PNG, JPEG, BMP, WebP, GIF and PNM, with the host's commands TIFF too, told by the content"
    )]
    UnknownFormat {
        /// The file.
        origin: String,
    },
    /// The content has a known format that is not supported.
    #[error("{origin}: {format} is not read\nhint: {advice}")]
    UnreadFormat {
        /// The file.
        origin: String,
        /// The format's name.
        format: &'static str,
        /// A way to convert it to a supported image.
        advice: &'static str,
    },
    /// The image has more pixels than [`DecodeLimits::pixels`](super::DecodeLimits::pixels).
    #[error("{origin}: {width} × {height} pixels, the limit is {limit} pixels\nhint: scale the image down first")]
    TooManyPixels {
        /// The file.
        origin: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The limit.
        limit: u64,
    },
    /// The file has more bytes than [`DecodeLimits::bytes`](super::DecodeLimits::bytes).
    #[error("{origin}: {bytes} bytes, the limit for an image file is {limit} bytes")]
    TooManyBytes {
        /// The file.
        origin: String,
        /// Length of the file.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Decoding needs more memory than [`DecodeLimits::memory`](super::DecodeLimits::memory), or than the system can
    /// provide.
    #[error(
        "{origin}: decoding takes {needed} bytes of memory, {available} are available\nhint: scale the image down first, or store it as JPEG"
    )]
    TooMuchMemory {
        /// The file.
        origin: String,
        /// Number of bytes that decoding, rotation and conversion need together.
        needed: u64,
        /// Number of bytes available to decoding, rotation and conversion.
        available: u64,
    },
    /// Decoding took longer than [`DecodeLimits::time`](super::DecodeLimits::time).
    #[error("{origin}: not decoded within {milliseconds} ms\nhint: scale the image down first")]
    TooSlow {
        /// The file.
        origin: String,
        /// The limit in milliseconds.
        milliseconds: u64,
    },
    /// The image has no pixels.
    #[error("{origin}: {width} × {height} pixels, expected at least 1 × 1")]
    Empty {
        /// The file.
        origin: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The content is cut short or damaged.
    #[error("{origin}: damaged: {what}")]
    Damaged {
        /// The file.
        origin: String,
        /// The defect and its place.
        what: String,
    },
    /// The content uses a feature that the decoder does not support.
    #[error("{origin}: cannot be decoded: {source}\nhint: {advice}")]
    Decode {
        /// The file.
        origin: String,
        /// A way to convert it to a supported image.
        advice: &'static str,
        /// The decoder's reason.
        source: image::ImageError,
    },
}

impl ImageError {
    /// Returns whether the image is refused because of the resources it needs, and not because of its content.
    #[must_use]
    pub fn is_over_limit(&self) -> bool {
        matches!(
            self,
            Self::TooManyPixels { .. } | Self::TooManyBytes { .. } | Self::TooMuchMemory { .. } | Self::TooSlow { .. }
        )
    }
}
