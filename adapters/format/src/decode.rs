//! Decoding of untrusted bytes. Sizes are checked before memory is reserved, and every byte must belong to a field.

use alloc::{vec, vec::Vec};

use crate::{
    Adapter, DecodeError, Digest, Encoding, Head, Limits, Profile, Release, SectionEncoding, SectionInfo, SectionKind,
    Signature, Site, SiteWeights, codec, compact,
    envelope::{self, Envelope},
    wire::{self, Outline, ProfileOutline},
};

/// Bytes of the head of a section.
const SECTION_HEAD: usize = 16;

/// A decoded file: the adapter, and properties of the file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Decoded {
    /// The adapter.
    pub adapter: Adapter,
    /// The SHA-256 of the file's bytes, its identifier in stores and as a parent.
    pub digest: Digest,
    /// The file's encoding, derived from the section of the head's weight.
    pub encoding: Encoding,
    /// The sections in file order.
    pub sections: Vec<SectionInfo>,
    /// Bytes of the header.
    pub header_bytes: usize,
    /// Bytes of the complete file.
    pub file_bytes: usize,
    /// The format version of the file.
    pub format_version: u16,
    /// The claimed signature, **not verified** ([`crate::admit`] verifies it).
    pub signature: Option<Signature>,
    /// The signed release statement, already checked against the file; `None` if the signature covers the bytes
    /// themselves.
    pub release: Option<Release>,
}

/// Decodes a file with [`Limits::DEFAULT`].
///
/// # Errors
/// [`DecodeError`], with a distinct variant for every fault.
pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    decode_with(bytes, &Limits::DEFAULT)
}

/// Decodes a file with these limits.
///
/// # Errors
/// [`DecodeError`] in the same cases as [`decode`].
pub fn decode_with(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    decode_opened(bytes, &envelope::open(bytes, limits)?, limits)
}

/// Decodes a file whose envelope has been checked.
pub(crate) fn decode_opened(bytes: &[u8], file: &Envelope<'_>, limits: &Limits) -> Result<Decoded, DecodeError> {
    if let Some(release) = &file.release {
        release.check_content(file.signed)?;
    }
    let outline = wire::read(file.header, file.version, limits)?;
    if let Some(release) = &file.release {
        release.check_header(&outline.header)?;
    }
    check_parameters(&outline, limits)?;

    let (adapter, sections) = if file.version >= 3 {
        compact::read(file.payload, outline, file.payload_offset)?
    } else {
        read_sections(file, outline)?
    };
    adapter.validate_with(limits)?;
    Ok(Decoded {
        adapter,
        digest: Digest::of(bytes),
        encoding: file_encoding(file.version, &sections),
        sections,
        header_bytes: file.header.len(),
        file_bytes: bytes.len(),
        format_version: file.version,
        signature: file.signature,
        release: file.release.clone(),
    })
}

/// Reads the payload of versions 1 and 2.
fn read_sections(file: &Envelope<'_>, outline: Outline) -> Result<(Adapter, Vec<SectionInfo>), DecodeError> {
    let mut payload = Payload {
        rest: file.payload,
        offset: file.payload_offset,
        sections: Vec::new(),
    };
    let kernels: Vec<_> = outline
        .sites
        .iter()
        .filter(|site| site.kernel)
        .map(|site| 9 * site.channels)
        .collect();
    let scales: Vec<_> = outline
        .sites
        .iter()
        .filter(|site| !site.kernel)
        .map(|site| site.channels)
        .collect();
    let biases: Vec<_> = outline.sites.iter().map(|site| site.channels).collect();
    let classes = outline.header.labels.len();
    let mut kernels = payload.section(SectionKind::Kernels, &kernels)?.into_iter();
    let mut scales = payload.section(SectionKind::Scales, &scales)?.into_iter();
    let mut biases = payload.section(SectionKind::Biases, &biases)?.into_iter();
    let weight = payload.class_weights(classes, outline.features)?;
    let bias = payload
        .section(SectionKind::HeadBias, &[classes])?
        .pop()
        .unwrap_or_default();
    let mut header = outline.header;
    header.profile = outline.profile.map(|outline| payload.profile(&outline)).transpose()?;
    if !payload.rest.is_empty() {
        return Err(DecodeError::PayloadRest {
            left: payload.rest.len(),
        });
    }

    let sites = outline.sites.into_iter().map(|site| Site {
        name: site.name,
        weights: if site.kernel {
            SiteWeights::Kernel(kernels.next().unwrap_or_default())
        } else {
            SiteWeights::Scale(scales.next().unwrap_or_default())
        },
        bias: biases.next().unwrap_or_default(),
        steps: None,
    });
    let adapter = Adapter {
        sites: sites.collect(),
        head: Head {
            features: outline.features,
            weight,
            bias,
        },
        header,
    };
    Ok((adapter, payload.sections))
}

fn file_encoding(version: u16, sections: &[SectionInfo]) -> Encoding {
    if version >= 3 {
        return Encoding::Compact;
    }
    let of_head = |encoding: &Encoding| {
        let wanted = encoding.of_section(SectionKind::HeadWeight);
        sections
            .iter()
            .any(|section| section.kind == SectionKind::HeadWeight && section.encoding == wanted)
    };
    Encoding::ALL.into_iter().find(of_head).unwrap_or_default()
}

/// Refuses more values than the cap allows, before memory is reserved.
pub(crate) fn check_parameters(outline: &Outline, limits: &Limits) -> Result<(), DecodeError> {
    let sites = outline
        .sites
        .iter()
        .map(|site| site.channels as u64 * if site.kernel { 10 } else { 2 });
    let (classes, features) = (outline.header.labels.len() as u64, outline.features as u64);
    let known = (outline.class_features.as_ref()).map_or(0, |known| features * (classes + 1 + u64::from(known.rank)));
    let taught =
        (outline.profile.as_ref()).map_or(0, |profile| profile.taught.len() as u64 * u64::from(profile.dimensions));
    let got = sites.sum::<u64>() + classes * (features + 1) + known + taught;
    let cap = limits.parameters as u64;
    if got > cap {
        Err(DecodeError::TooLarge {
            what: "parameters",
            cap,
            got,
        })
    } else {
        Ok(())
    }
}

struct Payload<'a> {
    rest: &'a [u8],
    offset: usize,
    sections: Vec<SectionInfo>,
}

impl<'a> Payload<'a> {
    /// Reads a section as one vector per run. A section without values is absent from the file.
    fn section(&mut self, kind: SectionKind, runs: &[usize]) -> Result<Vec<Vec<f32>>, DecodeError> {
        if runs.iter().all(|&run| run == 0) {
            return Ok(vec![Vec::new(); runs.len()]);
        }
        let (encoding, data) = self.open(kind, runs.iter().copied())?;
        let mut values = Vec::with_capacity(runs.len());
        each_run(kind, encoding, data, runs.iter().copied(), |bytes, elements| {
            let mut run = Vec::with_capacity(elements);
            codec::decode_run(encoding, bytes, elements, &mut run)?;
            values.push(run);
            Ok(())
        })?;
        Ok(values)
    }

    /// Reads the feature profile's vectors.
    fn profile(&mut self, outline: &ProfileOutline) -> Result<Profile, DecodeError> {
        let dimensions = outline.dimensions as usize;
        let mut vector = |kind, elements| {
            let runs = self.section(kind, &[elements]);
            runs.map(|mut runs| runs.pop().unwrap_or_default())
        };
        Ok(Profile {
            mean: vector(SectionKind::ProfileMean, dimensions)?,
            diagonal: vector(SectionKind::ProfileDiagonal, dimensions)?,
            factor: vector(
                SectionKind::ProfileFactor,
                dimensions.saturating_mul(dimensions.saturating_sub(1)) / 2,
            )?,
            own_scores: outline.own_scores.clone(),
            taught: Vec::new(),
        })
    }

    /// Reads the head's class weights as one vector.
    fn class_weights(&mut self, classes: usize, features: usize) -> Result<Vec<f32>, DecodeError> {
        let mut values = Vec::new();
        if classes * features == 0 {
            return Ok(values);
        }
        let runs = core::iter::repeat_n(features, classes);
        let (encoding, data) = self.open(SectionKind::HeadWeight, runs.clone())?;
        values.reserve_exact(classes * features);
        each_run(SectionKind::HeadWeight, encoding, data, runs, |bytes, elements| {
            codec::decode_run(encoding, bytes, elements, &mut values)
        })?;
        Ok(values)
    }

    /// Checks a section's head, length and checksum, and splits it off the payload.
    fn open(
        &mut self,
        section: SectionKind,
        runs: impl Iterator<Item = usize> + Clone,
    ) -> Result<(SectionEncoding, &'a [u8]), DecodeError> {
        let Some((head, rest)) = self.rest.split_first_chunk::<SECTION_HEAD>() else {
            let got = self.rest.first().copied();
            return Err(DecodeError::SectionKind { expected: section, got });
        };
        let field = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let [kind, code, reserved @ ..] = [head[0], head[1], head[2], head[3]];
        if kind != section as u8 {
            return Err(DecodeError::SectionKind {
                expected: section,
                got: Some(kind),
            });
        }
        let encoding = SectionEncoding::from_code(code)
            .filter(|encoding| encoding.fits(section))
            .ok_or(DecodeError::SectionEncoding { section, got: code })?;
        if reserved != [0, 0] {
            return Err(DecodeError::Reserved { place: section.name() });
        }
        let elements: usize = runs.clone().sum();
        let (expected, got) = (elements as u64, u64::from(field(4)));
        if expected != got {
            return Err(DecodeError::SectionElements { section, expected, got });
        }
        let expected: u64 = runs.map(|run| codec::run_bytes(encoding, run as u64)).sum();
        let got = u64::from(field(8));
        if expected != got {
            return Err(DecodeError::SectionBytes { section, expected, got });
        }
        let Some((data, rest)) = rest.split_at_checked(expected as usize) else {
            return Err(DecodeError::SectionTruncated {
                section,
                expected,
                got: rest.len() as u64,
            });
        };
        let (expected, got) = (field(12), crc32fast::hash(data));
        if expected != got {
            return Err(DecodeError::SectionChecksum { section, expected, got });
        }
        let offset = self.offset + SECTION_HEAD;
        self.sections.push(SectionInfo {
            kind: section,
            encoding,
            elements,
            offset,
            bytes: data.len(),
            crc: Some(got),
        });
        self.offset = offset + data.len();
        self.rest = rest;
        Ok((encoding, data))
    }
}

/// Decodes a section run by run.
fn each_run(
    section: SectionKind,
    encoding: SectionEncoding,
    mut data: &[u8],
    runs: impl Iterator<Item = usize>,
    mut decode: impl FnMut(&[u8], usize) -> Result<(), codec::CodeFault>,
) -> Result<(), DecodeError> {
    for (run, elements) in runs.enumerate() {
        let (own, rest) = data.split_at(codec::run_bytes(encoding, elements as u64) as usize);
        data = rest;
        decode(own, elements).map_err(|fault| DecodeError::SectionData { section, run, fault })?;
    }
    Ok(())
}
