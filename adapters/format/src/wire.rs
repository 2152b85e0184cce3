//! Encoding of the header: postcard, parsed field by field so that every length is checked against its cap first.

use alloc::{string::String, string::ToString, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    Canary, ClassFeatures, DecodeError, Digest, EncodeError, Header, HeaderFault, Limits, OwnScores, Profile,
    SiteSteps, StepSize, noise_image,
};

/// All fields of the header.
#[derive(Debug, PartialEq)]
pub(crate) struct Outline {
    pub(crate) header: Header,
    /// Input features of the head.
    pub(crate) features: usize,
    pub(crate) profile: Option<ProfileOutline>,
    pub(crate) class_features: Option<ClassFeaturesOutline>,
    pub(crate) sites: Vec<SiteOutline>,
}

/// The header's fields of the feature profile. The profile's vectors are in the payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProfileOutline {
    pub(crate) dimensions: u32,
    pub(crate) own_scores: OwnScores,
    /// Class, variance and shift of each taught class; its mean is in the payload.
    pub(crate) taught: Vec<(u32, f32, f32)>,
}

impl ProfileOutline {
    pub(crate) fn of(profile: &Profile) -> Self {
        Self {
            dimensions: profile.dimensions() as u32,
            own_scores: profile.own_scores.clone(),
            taught: profile
                .taught
                .iter()
                .map(|class| (class.class, class.variance, class.shift))
                .collect(),
        }
    }

    fn read(input: &mut Reader<'_>, limits: &Limits) -> Result<Option<Self>, DecodeError> {
        if !input.take::<bool>("profile")? {
            return Ok(None);
        }
        Ok(Some(Self {
            dimensions: input.take("dimensions of the profile")?,
            own_scores: input.take("own scores")?,
            taught: input.list("taught classes", limits.classes, |input| input.take("taught class"))?,
        }))
    }

    /// Reads the fields of version 2.
    fn of_version_2((dimensions, typical, limit): (u32, f32, f32)) -> Self {
        Self {
            dimensions,
            own_scores: OwnScores::Distances { typical, limit },
            taught: Vec::new(),
        }
    }

    /// Returns the fields of version 2; `None` for scores against a background.
    fn to_version_2(&self) -> Option<(u32, f32, f32)> {
        match self.own_scores {
            OwnScores::Distances { typical, limit } => Some((self.dimensions, typical, limit)),
            OwnScores::Ratios(_) => None,
        }
    }
}

/// The header's fields of the class features. Their vectors are in the payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClassFeaturesOutline {
    pub(crate) rank: u32,
    pub(crate) mean_step: StepSize,
    pub(crate) deviation_step: StepSize,
    pub(crate) direction_step: StepSize,
    pub(crate) rest: f32,
    pub(crate) margins: Vec<f32>,
}

impl ClassFeaturesOutline {
    pub(crate) fn of(known: &ClassFeatures) -> Self {
        Self {
            rank: known.rank() as u32,
            mean_step: known.mean_step,
            deviation_step: known.deviation_step,
            direction_step: known.direction_step,
            rest: known.rest,
            margins: known.margins.clone(),
        }
    }

    fn read(input: &mut Reader<'_>, limits: &Limits) -> Result<Option<Self>, DecodeError> {
        if !input.take::<bool>("class features")? {
            return Ok(None);
        }
        Ok(Some(Self {
            rank: input.capped("class directions", limits.class_directions)? as u32,
            mean_step: input.take("step of the class mean")?,
            deviation_step: input.take("step of class deviations")?,
            direction_step: input.take("step of class directions")?,
            rest: input.take("variance of the rest")?,
            margins: input.list("margins", limits.margins, |input| input.take("margin"))?,
        }))
    }
}

/// One row of the site table.
#[derive(Debug, PartialEq)]
pub(crate) struct SiteOutline {
    /// Absent from version 3 on.
    pub(crate) name: Option<String>,
    pub(crate) channels: usize,
    pub(crate) kernel: bool,
    pub(crate) steps: Option<SiteSteps>,
}

struct Writer(Vec<u8>);

impl Writer {
    fn put<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.0 = postcard::to_extend(value, core::mem::take(&mut self.0)).map_err(|error| EncodeError::Header {
            reason: error.to_string(),
        })?;
        Ok(())
    }
}

/// Returns the header's canonical form in a format version.
pub(crate) fn write(outline: &Outline, version: u16) -> Result<Vec<u8>, EncodeError> {
    let mut out = Writer(Vec::new());
    let header = &outline.header;
    out.put(header.task.as_str())?;
    out.put(header.labels.as_slice())?;
    out.put(&header.backbone)?;
    out.put(&header.recipe)?;
    out.put(&header.preprocessing)?;
    out.put(&header.version)?;
    out.put(&header.parent)?;
    out.put(&header.provenance)?;
    out.put(&header.metrics)?;
    out.put(&(header.canaries.len() as u32))?;
    for canary in &header.canaries {
        out.put(&(canary.size, canary.class, canary.probability))?;
        if version >= 3 {
            out.put(&canary.seed)?;
        }
        if version < 3 || canary.seed.is_none() {
            out.put(canary.pixels.as_slice())?;
        }
    }
    if version >= 2 {
        out.put(&(header.revision, header.expires, header.temperature, header.trial))?;
        out.put(&header.calibration)?;
    }
    let profile = outline.profile.as_ref();
    if version == 2 {
        out.put(&profile.and_then(ProfileOutline::to_version_2))?;
    }
    if version >= 3 {
        out.put(&profile)?;
        out.put(&header.steps)?;
        out.put(&outline.class_features)?;
    }
    out.put(&(outline.features as u32))?;
    out.put(&(outline.sites.len() as u32))?;
    let mut previous: &[u8] = &[];
    for site in &outline.sites {
        if version >= 3 {
            out.put(&(site.channels as u32, site.kernel, site.steps))?;
            continue;
        }
        let name = site.name.as_deref().unwrap_or_default().as_bytes();
        let shared = name.iter().zip(previous).take_while(|(a, b)| a == b).count();
        out.put(&(shared as u32))?;
        out.put(&name[shared..])?;
        out.put(&(site.channels as u32, site.kernel))?;
        previous = name;
    }
    Ok(out.0)
}

/// Parser of postcard, field by field.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn take<T: Deserialize<'a>>(&mut self, field: &'static str) -> Result<T, DecodeError> {
        let (value, rest) = postcard::take_from_bytes(self.rest).map_err(|error| {
            let fault = match error {
                postcard::Error::DeserializeUnexpectedEnd => HeaderFault::Ends,
                postcard::Error::DeserializeBadUtf8 => HeaderFault::Utf8,
                postcard::Error::DeserializeBadVarint => HeaderFault::Number,
                _ => HeaderFault::Choice,
            };
            DecodeError::Header { field, fault }
        })?;
        self.rest = rest;
        Ok(value)
    }

    /// Reads a number that is at most `cap`.
    fn capped(&mut self, field: &'static str, cap: usize) -> Result<usize, DecodeError> {
        let got: u32 = self.take(field)?;
        check(field, got as usize, cap)?;
        Ok(got as usize)
    }

    fn bytes(&mut self, field: &'static str, cap: usize) -> Result<&'a [u8], DecodeError> {
        let got: &[u8] = self.take(field)?;
        check(field, got.len(), cap)?;
        Ok(got)
    }

    pub(crate) fn text(&mut self, field: &'static str, cap: usize) -> Result<String, DecodeError> {
        let got: &str = self.take(field)?;
        check(field, got.len(), cap)?;
        Ok(got.into())
    }

    /// Reads a list after a check of its length. Reserves at most one element per remaining byte.
    pub(crate) fn list<T>(
        &mut self,
        field: &'static str,
        cap: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.capped(field, cap)?;
        if count > self.rest.len() {
            return Err(DecodeError::Header {
                field,
                fault: HeaderFault::Ends,
            });
        }
        (0..count).map(|_| element(self)).collect()
    }
}

pub(crate) fn check(what: &'static str, got: usize, cap: usize) -> Result<(), DecodeError> {
    if got > cap {
        Err(DecodeError::TooLarge {
            what,
            cap: cap as u64,
            got: got as u64,
        })
    } else {
        Ok(())
    }
}

/// Parses a header of the given format version. It must be complete and in canonical form.
pub(crate) fn read(bytes: &[u8], version: u16, limits: &Limits) -> Result<Outline, DecodeError> {
    let mut input = Reader::new(bytes);
    let mut header = Header {
        task: input.text("task", limits.task_bytes)?,
        labels: input.list("labels", limits.classes, |input| {
            input.text("label", limits.label_bytes)
        })?,
        backbone: input.take("backbone")?,
        recipe: input.take("recipe")?,
        preprocessing: input.take("preprocessing")?,
        version: input.take("version")?,
        parent: input.take::<Option<Digest>>("parent")?,
        provenance: input.take("provenance")?,
        metrics: input.take("metrics")?,
        canaries: input.list("canaries", limits.canaries, |input| {
            let (size, class, probability) = input.take("canary")?;
            let size: [u16; 2] = size;
            let seed = if version >= 3 { input.take("canary seed")? } else { None };
            let pixels = if let Some(seed) = seed {
                for side in size {
                    check("canary side", usize::from(side), limits.canary_side)?;
                }
                noise_image(seed, size)
            } else {
                let most = limits.canary_side.saturating_mul(limits.canary_side).saturating_mul(3);
                input.bytes("canary pixels", most)?.to_vec()
            };
            Ok(Canary {
                size,
                pixels,
                seed,
                class,
                probability,
            })
        })?,
        revision: 0,
        expires: None,
        temperature: 1.0,
        trial: None,
        calibration: None,
        profile: None,
        class_features: None,
        steps: None,
    };
    let mut profile: Option<ProfileOutline> = None;
    let mut class_features = None;
    if version >= 2 {
        header.revision = input.take("revision")?;
        header.expires = input.take("expires")?;
        header.temperature = input.take("temperature")?;
        header.trial = input.take("trial")?;
        header.calibration = input.take("calibration")?;
        profile = if version >= 3 {
            ProfileOutline::read(&mut input, limits)?
        } else {
            input.take::<Option<_>>("profile")?.map(ProfileOutline::of_version_2)
        };
        if let Some(profile) = &profile {
            check(
                "dimensions of the profile",
                profile.dimensions as usize,
                limits.profile_dimensions,
            )?;
        }
    }
    if version >= 3 {
        header.steps = input.take("steps")?;
        class_features = ClassFeaturesOutline::read(&mut input, limits)?;
    }
    let features = input.capped("features", limits.features)?;
    let mut previous = Vec::new();
    let sites = input.list("sites", limits.sites, |input| {
        if version >= 3 {
            let channels = input.capped("channels of a site", limits.channels)?;
            return Ok(SiteOutline {
                name: None,
                channels,
                kernel: input.take("site kind")?,
                steps: input.take("site steps")?,
            });
        }
        let shared = input.capped("shared bytes of a site name", limits.site_name_bytes)?;
        if shared > previous.len() {
            let fault = HeaderFault::Shared {
                got: shared,
                have: previous.len(),
            };
            return Err(DecodeError::Header {
                field: "site name",
                fault,
            });
        }
        previous.truncate(shared);
        previous.extend(input.bytes("site name", limits.site_name_bytes - shared)?);
        let name = String::from_utf8(previous.clone()).map_err(|_| DecodeError::Header {
            field: "site name",
            fault: HeaderFault::Utf8,
        })?;
        let channels = input.capped("channels of a site", limits.channels)?;
        Ok(SiteOutline {
            name: Some(name),
            channels,
            kernel: input.take("site kind")?,
            steps: None,
        })
    })?;
    if !input.rest.is_empty() {
        return Err(DecodeError::HeaderRest { left: input.rest.len() });
    }
    let outline = Outline {
        header,
        features,
        profile,
        class_features,
        sites,
    };
    let canonical = write(&outline, version).map_err(|_| DecodeError::HeaderForm { offset: 0 })?;
    if canonical != bytes {
        let offset = canonical.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        return Err(DecodeError::HeaderForm { offset });
    }
    Ok(outline)
}
