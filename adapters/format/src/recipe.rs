//! Recipes: the reprogrammed sites of an adapter (CLR paper, section 3, and variants).

use serde::{Deserialize, Serialize};

/// Trained parameters of a task in addition to its head. Adapters of all recipes have the same structure; only their
/// sites differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Recipe {
    /// The head alone on the frozen features.
    Linear,
    /// The norm after every convolution, and the head.
    Bn,
    /// A 3×3 kernel per channel after every k > 1 convolution, the norm everywhere, and the head (the paper's main
    /// method).
    Clr,
    /// `Clr`, and a 1×1 kernel per channel after every 1×1 convolution.
    ClrScale,
    /// A 3×3 kernel per channel after every convolution, the norm everywhere, and the head.
    ClrFull,
}

/// Kind of the parameters after one convolution, after folding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SiteKind {
    /// No parameters: the backbone's norm stays in use.
    Frozen,
    /// A scale and a bias per channel.
    Scale,
    /// A 3×3 kernel and a bias per channel (stride 1, padding 1).
    Kernel,
}

impl Recipe {
    /// All recipes, those with the fewest parameters first.
    pub const ALL: [Self; 5] = [Self::Linear, Self::Bn, Self::Clr, Self::ClrScale, Self::ClrFull];

    /// Returns the kind of parameters that this recipe has after a convolution with the kernel size `[kh, kw]`.
    #[must_use]
    pub const fn site_kind(self, kernel: [usize; 2]) -> SiteKind {
        let spatial = kernel[0] > 1 || kernel[1] > 1;
        match (self, spatial) {
            (Self::Linear, _) => SiteKind::Frozen,
            (Self::Bn, _) | (Self::Clr | Self::ClrScale, false) => SiteKind::Scale,
            (Self::Clr | Self::ClrScale, true) | (Self::ClrFull, _) => SiteKind::Kernel,
        }
    }

    /// Returns the name used on the command line and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Bn => "bn",
            Self::Clr => "clr",
            Self::ClrScale => "clr-scale",
            Self::ClrFull => "clr-full",
        }
    }

    /// Returns the recipe with this command-line name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|recipe| recipe.name() == name)
    }
}

impl core::fmt::Display for Recipe {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}
