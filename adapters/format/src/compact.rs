//! Payload of format version 3: all values in one range-coded stream.
//!
//! Values with a step are integer codes, other ones are f32. `docs/reference/adapter-format.md`, "Payload of version 3".

use alloc::{vec, vec::Vec};

use crate::{
    Adapter, EncodeError, Head, Profile, SectionEncoding, SectionInfo, SectionKind, Site, SiteWeights, Step,
    codec::{
        CodeFault,
        codes::{CodeModel, Flag},
        range::{Coder as _, Decoder, Encoder},
    },
    error::DecodeError,
    wire::Outline,
};

/// A vector of the payload.
#[derive(Clone, Copy)]
struct Part {
    kind: SectionKind,
    /// The values are multiples of it; without a step, they are coded as f32.
    step: Option<Step>,
    values: usize,
    /// Number of values in a row: neighbours in a row, and in the row before, tend to be alike.
    width: usize,
}

/// Returns the vectors of a file with this header, in their order in the payload.
fn parts(outline: &Outline) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut push = |kind, step, values, width| {
        if values > 0 {
            parts.push(Part {
                kind,
                step,
                values,
                width,
            });
        }
    };
    for kernel in [true, false] {
        for site in outline.sites.iter().filter(|site| site.kernel == kernel) {
            let step = site.steps.map(|steps| steps.weights);
            if kernel {
                push(SectionKind::Kernels, step, 9 * site.channels, 9);
            } else {
                push(SectionKind::Scales, step, site.channels, site.channels);
            }
        }
    }
    for site in &outline.sites {
        let step = site.steps.map(|steps| steps.bias);
        push(SectionKind::Biases, step, site.channels, site.channels);
    }
    let (steps, classes) = (outline.header.steps, outline.header.labels.len());
    let head = classes * outline.features;
    push(
        SectionKind::HeadWeight,
        steps.map(|steps| steps.head),
        head,
        outline.features,
    );
    push(SectionKind::HeadBias, None, classes, classes);
    if let Some(profile) = &outline.profile {
        let dimensions = profile.dimensions as usize;
        let below = dimensions.saturating_mul(dimensions.saturating_sub(1)) / 2;
        let (mean, factor) = (
            steps.map(|steps| steps.profile_mean),
            steps.map(|steps| steps.profile_factor),
        );
        push(SectionKind::ProfileMean, mean, dimensions, dimensions);
        push(SectionKind::ProfileDiagonal, factor, dimensions, dimensions);
        push(SectionKind::ProfileFactor, factor, below, below);
    }
    parts
}

/// Returns the values of `adapter` in the order of [`parts`].
fn values(adapter: &Adapter) -> Vec<&[f32]> {
    let sites = || adapter.sites.iter();
    let is_kernel = |site: &&Site| matches!(site.weights, SiteWeights::Kernel(_));
    let kernels = sites().filter(is_kernel).map(|site| site.weights.values());
    let scales = sites()
        .filter(|site| !is_kernel(site))
        .map(|site| site.weights.values());
    let biases = sites().map(|site| site.bias.as_slice());
    let head = [adapter.head.weight.as_slice(), adapter.head.bias.as_slice()];
    let profile = (adapter.header.profile.iter()).flat_map(|profile| {
        [
            profile.mean.as_slice(),
            profile.diagonal.as_slice(),
            profile.factor.as_slice(),
        ]
    });
    let all = kernels.chain(scales).chain(biases).chain(head).chain(profile);
    all.filter(|values| !values.is_empty()).collect()
}

/// Models of one kind of values.
#[derive(Default)]
struct Model {
    /// Whether a vector has a code other than 0.
    any: Flag,
    codes: CodeModel,
}

/// Models of all kinds, made when they are first used.
#[derive(Default)]
struct Models([Option<Model>; SectionKind::ALL.len()]);

impl Models {
    fn of(&mut self, kind: SectionKind) -> &mut Model {
        self.0[kind as usize - 1].get_or_insert_default()
    }
}

/// Encodes the payload of `adapter`, whose header is `outline`.
pub(crate) fn write(adapter: &Adapter, outline: &Outline) -> Result<Vec<u8>, EncodeError> {
    let (mut encoder, mut models) = (Encoder::default(), Models::default());
    for (part, values) in parts(outline).into_iter().zip(values(adapter)) {
        let Some(step) = part.step else {
            for byte in values.iter().flat_map(|value| value.to_le_bytes()) {
                // Only decoders return `None`.
                let _ = encoder.byte(byte);
            }
            continue;
        };
        let codes = values.iter().map(|&value| code(part.kind, step, value));
        let codes = codes.collect::<Result<Vec<_>, _>>()?;
        let model = models.of(part.kind);
        let any = codes.iter().any(|&code| code != 0);
        let _ = model.any.code(&mut encoder, any);
        if any {
            model.codes.write(&mut encoder, &codes, part.width);
        }
    }
    Ok(encoder.finish())
}

fn code(kind: SectionKind, step: Step, value: f32) -> Result<i32, EncodeError> {
    let code = step.code(value).ok_or(EncodeError::Step {
        section: kind,
        value,
        step: step.size(),
    })?;
    // The diagonal must stay above 0.
    Ok(if kind == SectionKind::ProfileDiagonal {
        code.max(1)
    } else {
        code
    })
}

/// Values of a payload, in the order of [`parts`].
struct Values(alloc::vec::IntoIter<Vec<f32>>);

impl Values {
    /// Returns the next vector; an empty one if it would have no values.
    fn next(&mut self, expected: usize) -> Vec<f32> {
        if expected == 0 {
            Vec::new()
        } else {
            self.0.next().unwrap_or_default()
        }
    }
}

/// Decodes the payload of a file with this header. The number of values must have been checked against the limits.
/// Returns the adapter, and where its sections are; `start` is the payload's offset in the file.
pub(crate) fn read(payload: &[u8], outline: Outline, start: usize) -> Result<(Adapter, Vec<SectionInfo>), DecodeError> {
    let (mut decoder, mut models) = (Decoder::new(payload), Models::default());
    let mut all = Vec::new();
    let mut sections: Vec<SectionInfo> = Vec::new();
    for (run, part) in parts(&outline).into_iter().enumerate() {
        let fault = |fault| DecodeError::SectionData {
            section: part.kind,
            run,
            fault,
        };
        let before = decoder.position();
        let values = match part.step {
            None => floats(&mut decoder, part.values).ok_or(fault(CodeFault::Ends))?,
            Some(step) => {
                let codes = codes(&mut decoder, models.of(part.kind), part).ok_or(fault(CodeFault::Ends))?;
                codes.map_or(vec![0.0; part.values], |codes| {
                    codes.into_iter().map(|code| step.value(code)).collect()
                })
            }
        };
        if values.iter().any(|value| !value.is_finite()) {
            return Err(fault(CodeFault::NotFinite));
        }
        let bytes = decoder.position() - before;
        match sections.last_mut().filter(|section| section.kind == part.kind) {
            Some(section) => {
                section.elements += part.values;
                section.bytes += bytes;
            }
            None => sections.push(SectionInfo {
                kind: part.kind,
                encoding: if part.step.is_some() {
                    SectionEncoding::Coded
                } else {
                    SectionEncoding::F32
                },
                elements: part.values,
                offset: start + before,
                bytes,
                crc: None,
            }),
        }
        all.push(values);
    }
    let left = payload.len() - decoder.position();
    if left > 0 {
        return Err(DecodeError::PayloadRest { left });
    }
    let adapter = assemble(outline, Values(all.into_iter()));
    Ok((adapter, sections))
}

fn floats(decoder: &mut Decoder<'_>, count: usize) -> Option<Vec<f32>> {
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        let mut bytes = [0; 4];
        for byte in &mut bytes {
            *byte = decoder.byte(0)?;
        }
        values.push(f32::from_le_bytes(bytes));
    }
    Some(values)
}

/// Returns the codes of a part, or `Some(None)` if all are 0; `None` if the payload ends.
fn codes(decoder: &mut Decoder<'_>, model: &mut Model, part: Part) -> Option<Option<Vec<i32>>> {
    if !model.any.code(decoder, false)? {
        return Some(None);
    }
    let mut codes = Vec::with_capacity(part.values);
    model.codes.read(decoder, part.values, part.width, &mut codes)?;
    Some(Some(codes))
}

fn assemble(outline: Outline, mut values: Values) -> Adapter {
    let (features, classes) = (outline.features, outline.header.labels.len());
    let mut weights: Vec<Vec<f32>> = vec![Vec::new(); outline.sites.len()];
    for kernel in [true, false] {
        for (site, weights) in outline.sites.iter().zip(&mut weights) {
            if site.kernel == kernel {
                *weights = values.next(site.channels);
            }
        }
    }
    let sites = outline.sites.into_iter().zip(weights).map(|(site, weights)| Site {
        name: site.name,
        weights: if site.kernel {
            SiteWeights::Kernel(weights)
        } else {
            SiteWeights::Scale(weights)
        },
        bias: values.next(site.channels),
        steps: site.steps,
    });
    let sites = sites.collect();
    let head = Head {
        features,
        weight: values.next(classes * features),
        bias: values.next(classes),
    };
    let mut header = outline.header;
    header.profile = outline.profile.map(|profile| Profile {
        mean: values.next(profile.dimensions as usize),
        diagonal: values.next(profile.dimensions as usize),
        factor: values.next((profile.dimensions as usize).saturating_sub(1)),
        typical: profile.typical,
        limit: profile.limit,
    });
    Adapter { header, sites, head }
}
