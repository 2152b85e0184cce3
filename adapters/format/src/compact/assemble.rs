//! An adapter's values as parts of a payload, and back.

use alloc::{vec, vec::Vec};

use super::{Content, Part};
use crate::{
    Adapter, ClassFeatures, EncodeError, Head, Profile, SectionKind, Site, SiteWeights, StepSize, TaughtPoints,
    wire::Outline,
};

/// Returns the contents of an adapter with these parts.
///
/// # Errors
/// [`EncodeError::Step`] if a value is too large for its step.
pub(crate) fn contents(adapter: &Adapter, parts: &[Part]) -> Result<Vec<Content>, EncodeError> {
    let content = |(part, values): (&Part, &[f32])| match part.step {
        None => Ok(Content::Floats(values.to_vec())),
        Some(step) => {
            let codes = values.iter().map(|&value| code(part.kind, step, value));
            codes.collect::<Result<_, _>>().map(Content::Codes)
        }
    };
    parts.iter().zip(values(adapter)).map(content).collect()
}

/// Returns the values of `adapter` in the order of [`super::parts`].
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
    let known = (adapter.header.class_features.iter()).flat_map(|known| {
        [
            known.mean.as_slice(),
            known.deviations.as_slice(),
            known.directions.as_slice(),
        ]
    });
    let taught = adapter.header.profile.iter().flat_map(|profile| &profile.taught);
    let all = kernels
        .chain(scales)
        .chain(biases)
        .chain(head)
        .chain(profile)
        .chain(known)
        .chain(taught.map(|class| class.mean.as_slice()));
    all.filter(|values| !values.is_empty()).collect()
}

fn code(kind: SectionKind, step: StepSize, value: f32) -> Result<i32, EncodeError> {
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

/// Values of a payload, in the order of [`super::parts`].
struct Values<I>(I);

impl<I: Iterator<Item = Vec<f32>>> Values<I> {
    /// Returns the next vector; an empty one if it would have no values.
    fn next(&mut self, expected: usize) -> Vec<f32> {
        if expected == 0 {
            Vec::new()
        } else {
            self.0.next().unwrap_or_default()
        }
    }
}

/// Returns the adapter with this header and these contents.
pub(crate) fn assemble(outline: Outline, parts: &[Part], contents: Vec<Content>) -> Adapter {
    let values = parts
        .iter()
        .zip(contents)
        .map(|(part, content)| match (content, part.step) {
            (Content::Floats(values), _) => values,
            (Content::Codes(codes), Some(step)) => codes.into_iter().map(|code| step.value(code)).collect(),
            (Content::Codes(_), None) => Vec::new(),
        });
    let mut values = Values(values);
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
        own_scores: profile.own_scores,
        taught: (profile.taught.into_iter())
            .map(|(class, variance, shift)| TaughtPoints {
                class,
                variance,
                shift,
                mean: Vec::new(),
            })
            .collect(),
    });
    header.class_features = outline.class_features.map(|known| ClassFeatures {
        mean: values.next(features),
        deviations: values.next(classes * features),
        directions: values.next(features * known.rank as usize),
        rest: known.rest,
        margins: known.margins,
        mean_step: known.mean_step,
        deviation_step: known.deviation_step,
        direction_step: known.direction_step,
    });
    // The last values of the payload.
    if let Some(profile) = &mut header.profile {
        let dimensions = profile.dimensions();
        for class in &mut profile.taught {
            class.mean = values.next(dimensions);
        }
    }
    Adapter { header, sites, head }
}
