//! Payload of format version 3: all values in one range-coded stream.
//!
//! Values with a step are integer codes, other ones are f32. `docs/reference/adapter-format.md`, "Payload of version 3".

mod assemble;
mod read;
mod write;

use alloc::vec::Vec;

pub(crate) use assemble::{assemble, contents};
pub(crate) use read::{read, read_contents};
pub(crate) use write::{write, write_contents};

use crate::{
    SectionKind, StepSize,
    codec::codes::{CodeModel, Flag},
    wire::Outline,
};

/// A vector of the payload.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Part {
    pub(crate) kind: SectionKind,
    /// The values are multiples of it; without a step, they are coded as f32.
    pub(crate) step: Option<StepSize>,
    pub(crate) values: usize,
    /// Number of values in a row: neighbours in a row, and in the row before, tend to be alike.
    pub(crate) width: usize,
}

/// Returns the vectors of a file with this header, in their order in the payload.
pub(crate) fn parts(outline: &Outline) -> Vec<Part> {
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
    if let Some(known) = &outline.class_features {
        let (mean, directions) = (Some(known.mean_step), Some(known.direction_step));
        let deviations = Some(known.deviation_step);
        push(SectionKind::ClassMean, mean, outline.features, outline.features);
        push(SectionKind::ClassDeviations, deviations, head, outline.features);
        let values = outline.features.saturating_mul(known.rank as usize);
        push(SectionKind::ClassDirections, directions, values, outline.features);
    }
    if let Some(profile) = &outline.profile {
        let dimensions = profile.dimensions as usize;
        let mean = steps.map(|steps| steps.profile_mean);
        for _ in &profile.taught {
            push(SectionKind::ProfileTaught, mean, dimensions, dimensions);
        }
    }
    parts
}

/// The values of a part.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    /// Multiples of the part's step.
    Codes(Vec<i32>),
    /// Values of a part without a step.
    Floats(Vec<f32>),
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
pub(crate) struct Models([Option<Model>; SectionKind::ALL.len()]);

impl Models {
    fn of(&mut self, kind: SectionKind) -> &mut Model {
        self.0[kind as usize - 1].get_or_insert_default()
    }
}
