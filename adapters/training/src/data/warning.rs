//! What a person should know about the data, without being an error.

use std::{fmt, path::PathBuf};

use serde::Serialize;

/// A file that could not be read as a picture and is skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// A remark about the data.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Warning {
    /// A file was skipped.
    Unreadable(Unreadable),
    /// The largest class has many times the training pictures of the smallest.
    Imbalance {
        /// The class with the most pictures.
        largest: String,
        /// Its training pictures.
        most: usize,
        /// The class with the fewest pictures.
        smallest: String,
        /// Its training pictures.
        fewest: usize,
    },
    /// So few validation pictures that choices rest on noise.
    FewValidationPictures {
        /// How many there are.
        pictures: usize,
        /// One standard error of an accuracy measured on them, as a fraction, at most.
        standard_error: f32,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(file) => write!(f, "skipped {}: {}", file.path.display(), file.reason),
            Self::Imbalance {
                largest,
                most,
                smallest,
                fewest,
            } => write!(
                f,
                "classes are unequal: `{largest}` has {most} training pictures, `{smallest}` has {fewest}; \
                 accuracy favours the large ones, look at the per-class numbers"
            ),
            Self::FewValidationPictures {
                pictures,
                standard_error,
            } => write!(
                f,
                "only {pictures} validation pictures: an accuracy measured on them is off by up to ±{:.1} points (one \
                 standard error)",
                100.0 * standard_error
            ),
        }
    }
}
