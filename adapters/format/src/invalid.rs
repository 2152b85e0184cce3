//! Validation errors of an adapter.

use alloc::string::String;

use crate::{Recipe, SectionKind};

/// Validation error of an adapter.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAdapter {
    /// A size is beyond its cap.
    #[error("{what}: {got}, at most {cap} allowed")]
    TooLarge {
        /// The limited quantity.
        what: &'static str,
        /// The largest permitted size.
        cap: usize,
        /// The size.
        got: usize,
    },
    /// A required value is empty or zero.
    #[error("{what} is empty or zero")]
    Empty {
        /// The value.
        what: &'static str,
    },
    /// A text contains a control character.
    #[error("{what} {text:?} contains a control character")]
    ControlCharacter {
        /// The field.
        what: &'static str,
        /// The text, with the character escaped.
        text: String,
    },
    /// The task's name is reserved.
    #[error("`{name}` cannot be the name of a task: it means automatic choice\nhint: use another name")]
    ReservedName {
        /// The name.
        name: &'static str,
    },
    /// A number is outside its range, or not a number.
    #[error("{what} is {got}, expected {expected}")]
    OutOfRange {
        /// The name of the number.
        what: &'static str,
        /// The range in words.
        expected: &'static str,
        /// The number.
        got: f64,
    },
    /// A weight is NaN or infinite.
    #[error("{section}{}: value {index} is {value}\nhint: the training diverged; lower the learning rate", at(.site.as_ref()))]
    NotFinite {
        /// The section of the adapter.
        section: SectionKind,
        /// The site; `None` for the head.
        site: Option<String>,
        /// The value's index within the site or head.
        index: usize,
        /// The value.
        value: f32,
    },
    /// The numbers of labels and of the head's classes differ.
    #[error("{labels} labels for a head of {classes} classes")]
    Labels {
        /// Number of labels.
        labels: usize,
        /// Number of the head's classes.
        classes: usize,
    },
    /// The head's weight has the wrong length.
    #[error("head weight of {got} values, expected {expected} (classes × features)")]
    HeadWeight {
        /// Product of classes and features.
        expected: usize,
        /// Number of values found.
        got: usize,
    },
    /// A site's weights have the wrong length for its channels.
    #[error("site `{site}`: {got} weights for {channels} channels, expected {expected}")]
    SiteWeights {
        /// The site.
        site: String,
        /// Number of the site's channels (the length of its bias).
        channels: usize,
        /// Required number of values: the channels for a scale, 9 × channels for a kernel.
        expected: usize,
        /// Number of values found.
        got: usize,
    },
    /// A vector of the feature profile has the wrong length for its dimensions.
    #[error("{section} of {got} values, expected {expected}")]
    Profile {
        /// The section of the vector.
        section: SectionKind,
        /// Length required by the mean's dimensions.
        expected: usize,
        /// Number of values found.
        got: usize,
    },
    /// A profile of sketches describes taught classes.
    #[error("a feature profile without a background, with points of taught classes")]
    TaughtWithoutBackground,
    /// A vector of the class features has the wrong length for the head.
    #[error("{section} of {got} values, expected {expected}")]
    ClassFeatures {
        /// The section of the vector.
        section: SectionKind,
        /// Length required by the head's classes and features.
        expected: usize,
        /// Number of values found.
        got: usize,
    },
    /// Two sites have the same name.
    #[error("site `{site}` occurs twice")]
    DuplicateSite {
        /// The name.
        site: String,
    },
    /// The sites do not match the recipe.
    #[error("recipe {recipe}: {problem}")]
    Recipe {
        /// The recipe.
        recipe: Recipe,
        /// The disagreement.
        problem: &'static str,
    },
    /// A canary's pixels do not match its size.
    #[error("canary {canary}: {got} bytes of pixels, expected {expected}")]
    CanaryPixels {
        /// Index of the canary.
        canary: usize,
        /// Required number of bytes: 3 · width · height.
        expected: usize,
        /// Number of bytes found.
        got: usize,
    },
    /// A canary's pixels are not those of its seed.
    #[error("canary {canary}: its pixels are not those of its seed")]
    CanarySeed {
        /// Index of the canary.
        canary: usize,
    },
    /// A canary expects a class that the head does not have.
    #[error("canary {canary} expects class {class} of {classes}")]
    CanaryClass {
        /// Index of the canary.
        canary: usize,
        /// Index of the expected class.
        class: u32,
        /// Number of the head's classes.
        classes: usize,
    },
}

fn at(site: Option<&String>) -> String {
    site.map(|site| alloc::format!(" of site `{site}`")).unwrap_or_default()
}
