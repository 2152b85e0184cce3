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
        /// Which size.
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
    #[error("`{name}` cannot be the name of a task: it stands for automatic selection\nhint: use another name")]
    ReservedName {
        /// The name.
        name: &'static str,
    },
    /// A number is outside its range, or not a number.
    #[error("{what} is {got}, expected {expected}")]
    OutOfRange {
        /// Which number.
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
    /// Labels and head disagree.
    #[error("{labels} labels for a head of {classes} classes")]
    Labels {
        /// Number of labels.
        labels: usize,
        /// Classes of the head.
        classes: usize,
    },
    /// The head's weight has the wrong length.
    #[error("head weight of {got} values, expected {expected} (classes × features)")]
    HeadWeight {
        /// Classes × features.
        expected: usize,
        /// Values there.
        got: usize,
    },
    /// A site's weights have the wrong length for its channels.
    #[error("site `{site}`: {got} weights for {channels} channels, expected {expected}")]
    SiteWeights {
        /// The site.
        site: String,
        /// Its channels (the length of its bias).
        channels: usize,
        /// Channels, or 9 × channels.
        expected: usize,
        /// Values there.
        got: usize,
    },
    /// A vector of the feature profile has the wrong length for its dimensions.
    #[error("{section} of {got} values, expected {expected}")]
    Profile {
        /// Which vector.
        section: SectionKind,
        /// Length required by the mean's dimensions.
        expected: usize,
        /// Values there.
        got: usize,
    },
    /// Two sites have the same name.
    #[error("site `{site}` occurs twice")]
    DuplicateSite {
        /// The name.
        site: String,
    },
    /// The recipe and the sites disagree.
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
        /// Which canary.
        canary: usize,
        /// 3 · width · height.
        expected: usize,
        /// Bytes there.
        got: usize,
    },
    /// A canary expects a class that the head does not have.
    #[error("canary {canary} expects class {class} of {classes}")]
    CanaryClass {
        /// Which canary.
        canary: usize,
        /// The class.
        class: u32,
        /// Classes of the head.
        classes: usize,
    },
}

fn at(site: Option<&String>) -> String {
    site.map(|site| alloc::format!(" of site `{site}`")).unwrap_or_default()
}
