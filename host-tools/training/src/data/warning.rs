//! Warnings about the data.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use clr_onnx::ImageError;
use serde::{Serialize, Serializer};

use super::{
    ScanLine, display_path,
    inspect::{Finding, Severity},
};

/// A file that could not be decoded as an image and is skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// The file.
    #[serde(serialize_with = "path")]
    pub path: PathBuf,
    /// The kind of the reason.
    #[serde(skip)]
    pub kind: &'static str,
    /// The reason.
    pub reason: String,
}

impl Unreadable {
    /// Creates the entry for a file that could not be decoded.
    pub fn new(path: PathBuf, error: &ImageError) -> Self {
        let kind = match error {
            ImageError::Damaged { .. } => "damaged or truncated",
            ImageError::Io { .. } => "it cannot be read",
            ImageError::Empty { .. } => "it has no pixels",
            ImageError::Decode { .. } => "it has a feature that is not supported: convert it to PNG",
            error if error.is_over_limit() => "too large to decode",
            _ => "it is no image",
        };
        let text = error.to_string();
        let text = text.split("\nhint:").next().unwrap_or_default();
        let reason = text.split_once(": ").map_or(text, |(_, reason)| reason).to_owned();
        Self { path, kind, reason }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", display_path(&self.path), self.reason)
    }
}

fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&display_path(path))
}

/// A warning about the data.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Warning {
    /// A file was skipped.
    Unreadable(Unreadable),
    /// Files that are images or should be images but are not used, by kind and reason.
    LeftOut {
        /// The line of the scan's report.
        line: ScanLine,
    },
    /// A decision about the layout.
    Layout {
        /// The decision.
        note: String,
    },
    /// Findings of one kind about the images.
    Check {
        /// The kind of the findings.
        check: &'static str,
        /// Severity of the findings.
        level: Severity,
        /// The first finding.
        message: String,
        /// Number of findings.
        findings: usize,
        /// The files of all these findings. Each file is listed once.
        files: Vec<String>,
    },
    /// The largest class has many times as many training images as the smallest.
    Imbalance {
        /// The class with the most images.
        largest: String,
        /// Number of its training images.
        most: usize,
        /// The class with the fewest images.
        smallest: String,
        /// Number of its training images.
        fewest: usize,
    },
    /// There are too few validation images for reliable selection.
    #[serde(rename = "few-validation-pictures")]
    FewValidationImages {
        /// Number of validation images.
        #[serde(rename = "pictures")]
        images: usize,
        /// Maximum standard error of an accuracy measured on them, as a fraction.
        standard_error: f32,
    },
}

impl Warning {
    /// Returns one warning for each kind of finding.
    pub(crate) fn of_findings(findings: Vec<Finding>) -> Vec<Self> {
        let mut warnings: Vec<Self> = Vec::new();
        for finding in findings {
            let same = warnings.iter_mut().find_map(|warning| match warning {
                Self::Check {
                    check, findings, files, ..
                } if *check == finding.kind => Some((findings, files)),
                _ => None,
            });
            if let Some((findings, files)) = same {
                *findings += 1;
                for file in finding.files {
                    if !files.contains(&file) {
                        files.push(file);
                    }
                }
            } else {
                warnings.push(Self::Check {
                    check: finding.kind,
                    level: finding.level,
                    message: finding.message,
                    findings: 1,
                    files: finding.files,
                });
            }
        }
        warnings
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(file) => write!(f, "skipped {file}"),
            Self::LeftOut { line } => write!(f, "left out: {}", line.text(3)),
            Self::Layout { note } => write!(f, "{note}"),
            Self::Check { message, findings, .. } if *findings > 1 => {
                write!(
                    f,
                    "{message} (and {} more findings of this kind: `clr doctor` lists them)",
                    findings - 1
                )
            }
            Self::Check { message, .. } => write!(f, "{message}"),
            Self::Imbalance {
                largest,
                most,
                smallest,
                fewest,
            } => write!(
                f,
                "classes are unequal: `{largest}` has {most} training images, `{smallest}` has {fewest}; \
                 accuracy favours the large ones, compare the per-class results"
            ),
            Self::FewValidationImages { images, standard_error } => write!(
                f,
                "only {images} validation images: an accuracy measured on them is off by up to ±{:.1} points (one \
                 standard error)",
                100.0 * standard_error
            ),
        }
    }
}
