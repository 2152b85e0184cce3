//! Encoding of an adapter.

use alloc::{boxed::Box, vec::Vec};

use crate::{
    Adapter, EncodeError, Encoding, Limits, Profile, SectionEncoding, SectionKind, Site, SiteWeights, codec, compact,
    decode, envelope,
    wire::{self, ClassFeaturesOutline, Outline, ProfileOutline, SiteOutline},
};

impl SiteWeights {
    /// Returns the values: `[C]` for a scale, `[C, 3, 3]` for a kernel.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        match self {
            Self::Scale(values) | Self::Kernel(values) => values,
        }
    }
}

/// Encodes an adapter: envelope, header and payload. The same adapter and encoding give the same bytes on all
/// platforms.
///
/// # Errors
/// [`EncodeError::Invalid`] if [`Adapter::validate`] fails; [`EncodeError::TooLarge`] if a reader with
/// [`Limits::DEFAULT`] would refuse the file.
pub fn encode(adapter: &Adapter, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
    adapter.validate()?;
    let sites = adapter.sites.iter().map(|site| SiteOutline {
        name: site.name.clone(),
        channels: site.channels(),
        kernel: matches!(site.weights, SiteWeights::Kernel(_)),
        steps: site.steps,
    });
    let version = if encoding == Encoding::Compact { 3 } else { 2 };
    let outline = Outline {
        header: adapter.header.clone(),
        features: adapter.head.features,
        profile: adapter.header.profile.as_ref().map(ProfileOutline::of),
        class_features: adapter.header.class_features.as_ref().map(ClassFeaturesOutline::of),
        sites: sites.collect(),
    };
    if version == 2 {
        check_sections(adapter)?;
    }
    let header = wire::write(&outline, version)?;
    cap("header", header.len(), Limits::DEFAULT.header_bytes)?;
    let payload = if version == 2 {
        let mut payload = Vec::new();
        for kind in SectionKind::ALL {
            write_section(kind, &runs(adapter, kind), encoding, &mut payload);
        }
        payload
    } else {
        compact::write(adapter, &outline)?
    };
    cap(
        "file",
        envelope::file_bytes(header.len(), payload.len()),
        Limits::DEFAULT.file_bytes,
    )?;
    Ok(envelope::seal(version, &header, &payload))
}

/// Refuses what files of version 2 have no place for: differences, and sites without names.
fn check_sections(adapter: &Adapter) -> Result<(), EncodeError> {
    if adapter.header.class_features.is_some() {
        return Err(EncodeError::ClassFeatures);
    }
    let profile = adapter.header.profile.as_ref();
    if profile.is_some_and(|profile| profile.own_scores.ratios().is_some()) {
        return Err(EncodeError::Background);
    }
    let unfit = |site: &&Site| site.steps.is_some() || site.name.is_none();
    match adapter.sites.iter().position(|site| unfit(&site)) {
        Some(site) => Err(EncodeError::Relative { site }),
        None => Ok(()),
    }
}

/// Returns `adapter` after a round trip through `encoding`: the weights that a device computes with.
///
/// # Errors
/// [`EncodeError`] in the same cases as [`encode`].
pub fn quantised(adapter: &Adapter, encoding: Encoding) -> Result<Adapter, EncodeError> {
    let file = encode(adapter, encoding)?;
    decode(&file)
        .map(|decoded| decoded.adapter)
        .map_err(|error| EncodeError::ReadBack(Box::new(error)))
}

fn cap(what: &'static str, got: usize, cap: usize) -> Result<(), EncodeError> {
    if got > cap {
        Err(EncodeError::TooLarge { what, cap, got })
    } else {
        Ok(())
    }
}

/// Returns the runs of one section: its sites' values, or the class weights of the head.
fn runs<'a>(adapter: &'a Adapter, kind: SectionKind) -> Vec<&'a [f32]> {
    let sites = || adapter.sites.iter();
    let profile = |part: &dyn Fn(&'a Profile) -> &'a Vec<f32>| {
        let profile = adapter.header.profile.as_ref();
        profile.map(|profile| part(profile).as_slice()).into_iter().collect()
    };
    match kind {
        SectionKind::Kernels => sites()
            .filter_map(|site| {
                if let SiteWeights::Kernel(values) = &site.weights {
                    Some(values.as_slice())
                } else {
                    None
                }
            })
            .collect(),
        SectionKind::Scales => sites()
            .filter_map(|site| {
                if let SiteWeights::Scale(values) = &site.weights {
                    Some(values.as_slice())
                } else {
                    None
                }
            })
            .collect(),
        SectionKind::Biases => sites().map(|site| site.bias.as_slice()).collect(),
        SectionKind::HeadWeight => adapter.head.weight.chunks(adapter.head.features).collect(),
        SectionKind::HeadBias => Vec::from([adapter.head.bias.as_slice()]),
        SectionKind::ProfileMean => profile(&|profile| &profile.mean),
        SectionKind::ProfileDiagonal => profile(&|profile| &profile.diagonal),
        SectionKind::ProfileFactor => profile(&|profile| &profile.factor),
        // Only in version 3.
        SectionKind::ClassMean
        | SectionKind::ClassDeviations
        | SectionKind::ClassDirections
        | SectionKind::ProfileTaught => Vec::new(),
    }
}

/// Appends a section with its head, if it has values.
fn write_section(kind: SectionKind, runs: &[&[f32]], encoding: Encoding, payload: &mut Vec<u8>) {
    let elements: usize = runs.iter().map(|run| run.len()).sum();
    if elements == 0 {
        return;
    }
    let wanted = encoding.of_section(kind);
    let holds = |run: &&[f32]| match kind {
        SectionKind::ProfileDiagonal => codec::keeps_above_zero(wanted, run),
        _ => codec::can_hold(wanted, run),
    };
    let holds = runs.iter().all(holds);
    let encoding = if holds { wanted } else { SectionEncoding::F32 };
    let mut data = Vec::new();
    for run in runs {
        codec::encode_run(encoding, run, &mut data);
    }
    payload.extend([kind as u8, encoding as u8, 0, 0]);
    for field in [elements as u32, data.len() as u32, crc32fast::hash(&data)] {
        payload.extend(field.to_le_bytes());
    }
    payload.append(&mut data);
}
