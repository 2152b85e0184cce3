//! Partially stated preprocessing, and the origin of each part.

use std::fmt;

use clr_adapters::{ChannelOrder, Filter, Fit, Preprocessing};
use serde::{Deserialize, Serialize};

use super::Preset;

/// Origin of a part of a preprocessing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Origin {
    /// Metadata that this library wrote to the file.
    Metadata,
    /// Recognised in the graph.
    Graph,
    /// The configuration file that timm or Hugging Face stores next to a model.
    Config,
    /// The architecture's published weights.
    Architecture,
    /// Stated by the caller.
    Option,
    /// No source states it, so the default is assumed.
    Assumed,
}

impl Origin {
    /// Returns the word for messages.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Metadata => "from the file's metadata",
            Self::Graph => "recognised in the graph",
            Self::Config => "from the configuration next to the file",
            Self::Architecture => "of the architecture",
            Self::Option => "stated",
            Self::Assumed => "assumed",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.describe())
    }
}

/// The origin of each part of a preprocessing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreprocessingOrigins {
    /// Origin of the mean and the standard deviation.
    pub normalisation: Origin,
    /// Origin of the channel order.
    pub channel_order: Origin,
    /// Origin of the fit: crop or stretch.
    pub crop: Origin,
    /// Origin of the resampling filter.
    pub filter: Origin,
}

impl PreprocessingOrigins {
    /// Returns the same origin for every part.
    #[must_use]
    pub const fn all(origin: Origin) -> Self {
        Self {
            normalisation: origin,
            channel_order: origin,
            crop: origin,
            filter: origin,
        }
    }

    /// Returns the parts with their names, for messages.
    #[must_use]
    pub const fn parts(&self) -> [(&'static str, Origin); 4] {
        [
            ("normalisation", self.normalisation),
            ("channel order", self.channel_order),
            ("crop", self.crop),
            ("filter", self.filter),
        ]
    }

    /// Returns the names of the parts that no source states.
    #[must_use]
    pub fn assumed(&self) -> Vec<&'static str> {
        let assumed = |(name, origin): (&'static str, Origin)| (origin == Origin::Assumed).then_some(name);
        self.parts().into_iter().filter_map(assumed).collect()
    }
}

/// Parts of a preprocessing that the caller or a configuration file states. The other parts remain unchanged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatedPreprocessing {
    /// Mean per channel, in 0–255, in the channel order.
    pub mean: Option<[f32; 3]>,
    /// Standard deviation per channel, in 0–255, in the channel order.
    pub std: Option<[f32; 3]>,
    /// The order of the channels.
    pub channel_order: Option<ChannelOrder>,
    /// Crop or stretch.
    pub fit: Option<Fit>,
    /// The resampling filter.
    pub filter: Option<Filter>,
}

impl StatedPreprocessing {
    /// Returns whether nothing is stated.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the mean, deviation and channel order of a preset.
    #[must_use]
    pub fn preset(preset: Preset) -> Self {
        Self {
            mean: Some(preset.mean()),
            std: Some(preset.std()),
            channel_order: Some(preset.channel_order()),
            ..Self::default()
        }
    }

    /// Puts the stated parts into a preprocessing.
    pub fn apply(&self, to: &mut Preprocessing) {
        to.mean = self.mean.unwrap_or(to.mean);
        to.std = self.std.unwrap_or(to.std);
        to.channel_order = self.channel_order.unwrap_or(to.channel_order);
        to.fit = self.fit.unwrap_or(to.fit);
        to.filter = self.filter.unwrap_or(to.filter);
    }

    /// Marks the stated parts. If only one of mean and deviation is stated, the origin of the normalisation changes
    /// only if it was an assumption.
    pub(crate) fn mark(&self, origins: &mut PreprocessingOrigins, origin: Origin) {
        let both = self.mean.is_some() && self.std.is_some();
        if both || (self.mean.is_some() || self.std.is_some()) && origins.normalisation != Origin::Assumed {
            origins.normalisation = origin;
        }
        if self.channel_order.is_some() {
            origins.channel_order = origin;
        }
        if self.fit.is_some() {
            origins.crop = origin;
        }
        if self.filter.is_some() {
            origins.filter = origin;
        }
    }
}
