//! File of a background. Byte map: `docs/reference/adapter-format.md`, "Background".

use alloc::{string::String, string::ToString, vec::Vec};

use serde::{Deserialize, Serialize};

use super::{Background, Moments};
use crate::{
    Digest, Limits, StepSize,
    codec::{
        codes::CodeModel,
        range::{Decoder, Encoder},
    },
};

/// The magic number: a byte above 127, the kind of file, and line ends that a copy in text mode would change.
const MAGIC: [u8; 8] = *b"\x89CLB\r\n\x1a\n";
const VERSION: u16 = 1;
/// Maximum number of block statistics.
const MOST_STATISTICS: usize = 1 << 16;
/// Maximum number of codes of the projection.
const MOST_CODES: usize = 1 << 22;

/// Error of a background.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BackgroundError {
    /// The magic number is wrong.
    #[error("not a background: the first 8 bytes are not the magic number")]
    Magic,
    /// The format is newer than this program.
    #[error("background of version {got}, expected {expected}: another version of clr wrote it")]
    Version {
        /// The version that this program reads.
        expected: u16,
        /// The file's version.
        got: u16,
    },
    /// The checksum is wrong, or the file ends early.
    #[error("damaged: the checksum does not fit the bytes")]
    Checksum,
    /// The content contradicts itself.
    #[error("{reason}")]
    Invalid {
        /// What is wrong, with expected and got.
        reason: String,
    },
}

fn invalid(reason: impl Into<String>) -> BackgroundError {
    BackgroundError::Invalid { reason: reason.into() }
}

#[derive(Serialize, Deserialize)]
struct FileHeader {
    backbone: Digest,
    statistics: u32,
    steps: Vec<StepSize>,
}

impl Background {
    /// Returns the bytes of the file. The same background gives the same bytes on all platforms.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::from(MAGIC);
        out.extend(VERSION.to_le_bytes());
        let header = FileHeader {
            backbone: self.backbone,
            statistics: self.statistics as u32,
            steps: self.steps.clone(),
        };
        out = postcard::to_extend(&header, out).unwrap_or_default();
        let moments = [&self.moments.mean, &self.moments.variance, &self.moments.within];
        out.extend(moments.into_iter().flatten().flat_map(|value| value.to_le_bytes()));
        let codes: Vec<i32> = self.codes.iter().map(|&code| i32::from(code)).collect();
        let mut encoder = Encoder::default();
        CodeModel::default().write(&mut encoder, &codes, self.statistics.max(1));
        out.extend(encoder.finish());
        let crc = crc32fast::hash(&out);
        out.extend(crc.to_le_bytes());
        out
    }

    /// Decodes a file.
    ///
    /// # Errors
    /// [`BackgroundError`], with a distinct variant for every kind of fault.
    pub fn decode(bytes: &[u8]) -> Result<Self, BackgroundError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(BackgroundError::Magic)?;
        let (content, crc) = bytes.split_last_chunk::<4>().ok_or(BackgroundError::Checksum)?;
        let version = rest.first_chunk::<2>().ok_or(BackgroundError::Checksum)?;
        let version = u16::from_le_bytes(*version);
        if version != VERSION {
            return Err(BackgroundError::Version {
                expected: VERSION,
                got: version,
            });
        }
        if crc32fast::hash(content) != u32::from_le_bytes(*crc) {
            return Err(BackgroundError::Checksum);
        }
        let body = content.get(MAGIC.len() + 2..).ok_or(BackgroundError::Checksum)?;
        let (header, mut rest): (FileHeader, _) =
            postcard::take_from_bytes(body).map_err(|error| invalid(error.to_string()))?;
        let (dimensions, statistics) = (header.steps.len(), header.statistics as usize);
        check_sizes(dimensions, statistics)?;
        let mut vector = |count: usize| -> Result<Vec<f32>, BackgroundError> {
            let (own, after) = rest
                .split_at_checked(4 * count)
                .ok_or_else(|| invalid("it ends within its moments"))?;
            rest = after;
            let (values, _) = own.as_chunks::<4>();
            Ok(values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
        };
        let moments = Moments {
            mean: vector(dimensions)?,
            variance: vector(dimensions)?,
            within: vector(dimensions * (dimensions + 1) / 2)?,
        };
        let mut codes = Vec::new();
        let mut decoder = Decoder::new(rest);
        CodeModel::default()
            .read(&mut decoder, dimensions * statistics, statistics, &mut codes)
            .ok_or_else(|| invalid("it ends within its projection"))?;
        let codes = codes.into_iter().map(i8::try_from).collect::<Result<Vec<_>, _>>();
        let codes = codes.map_err(|_| invalid("a code of the projection is beyond ±127"))?;
        let (background, canonical) = Self::assemble(header.backbone, statistics, codes, header.steps, moments)?;
        if canonical != bytes {
            return Err(invalid("it is not in canonical form, or bytes follow it"));
        }
        Ok(background)
    }

    /// Checks lengths and values.
    pub(super) fn validate(&self) -> Result<(), BackgroundError> {
        let dimensions = self.dimensions();
        check_sizes(dimensions, self.statistics)?;
        let lengths = [
            ("projection", dimensions * self.statistics, self.codes.len()),
            ("mean", dimensions, self.moments.mean.len()),
            ("variance", dimensions, self.moments.variance.len()),
            (
                "covariance",
                dimensions * (dimensions + 1) / 2,
                self.moments.within.len(),
            ),
        ];
        for (what, expected, got) in lengths {
            if expected != got {
                return Err(invalid(alloc::format!("{what} of {got} values, expected {expected}")));
            }
        }
        let moments = [&self.moments.mean, &self.moments.variance, &self.moments.within];
        if let Some(value) = moments.into_iter().flatten().find(|value| !value.is_finite()) {
            return Err(invalid(alloc::format!("a moment is {value}, expected a finite number")));
        }
        if let Some(value) = self.moments.variance.iter().find(|value| **value <= 0.0) {
            return Err(invalid(alloc::format!("a variance is {value}, expected above 0")));
        }
        Ok(())
    }
}

fn check_sizes(dimensions: usize, statistics: usize) -> Result<(), BackgroundError> {
    let most = Limits::DEFAULT.profile_dimensions;
    if !(1..=most).contains(&dimensions) {
        return Err(invalid(alloc::format!(
            "{dimensions} coordinates, expected 1 to {most}"
        )));
    }
    if !(1..=MOST_STATISTICS).contains(&statistics) {
        return Err(invalid(alloc::format!(
            "{statistics} block statistics, expected 1 to {MOST_STATISTICS}"
        )));
    }
    let codes = dimensions * statistics;
    if codes > MOST_CODES {
        return Err(invalid(alloc::format!(
            "a projection of {codes} codes, at most {MOST_CODES}"
        )));
    }
    Ok(())
}
