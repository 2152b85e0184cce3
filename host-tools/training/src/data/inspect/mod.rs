//! Checks of images before training, which find equal and similar images, and images without content.
//!
//! Training runs the checks at input size, on images that it has to read anyway. `clr doctor` runs them at full size.

mod fingerprint;

use std::{collections::HashMap, path::PathBuf};

use clr_adapters::Digest;
use clr_onnx::{ImageNotes, RgbImage, has_further_images};
use image::imageops;
use serde::Serialize;

use super::display_path;
pub use fingerprint::{Fingerprint, near_pairs};

/// Minimum side in pixels without a warning, because networks use about 224.
const SMALL_SIDE: u32 = 32;
/// The range of 12 bits. In an image with 16 bits per sample, values below it are nearly black.
const LOW_RANGE: u16 = 4096;
/// Maximum difference within a channel of a flat image, which allows for compression artefacts.
const FLAT: u8 = 2;

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Severity {
    /// Training on these data gives wrong or misleading results.
    Error,
    /// Training works, but the result may suffer.
    Warning,
    /// A choice between possible interpretations.
    Note,
}

/// A finding.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Severity of the finding.
    pub level: Severity,
    /// The kind of finding, such as `duplicate-across-splits`.
    pub kind: &'static str,
    /// The message.
    pub message: String,
    /// The files, from the data set's folder.
    pub files: Vec<String>,
}

/// Properties of an image that the checks compare.
#[derive(Clone, Debug)]
pub struct ImageProperties {
    /// Path relative to the data set's folder.
    pub path: PathBuf,
    /// Name of the image's split.
    pub split: String,
    /// Class of the image.
    pub class: String,
    size: [u32; 2],
    pixels: Digest,
    print: Fingerprint,
    one_colour: bool,
    notes: ImageNotes,
    further: bool,
}

impl ImageProperties {
    /// Computes the properties of the image at `path` of `split` and `class`. The pixels may be at full size or at
    /// input size; `size` is the size of the image in the file.
    pub fn new(
        path: PathBuf,
        [split, class]: [&str; 2],
        pixels: &RgbImage,
        size: [u32; 2],
        notes: ImageNotes,
        file: &[u8],
    ) -> Self {
        let mut content = Vec::with_capacity(pixels.as_raw().len() + 8);
        content.extend_from_slice(&pixels.width().to_le_bytes());
        content.extend_from_slice(&pixels.height().to_le_bytes());
        content.extend_from_slice(pixels.as_raw());
        Self {
            path,
            split: split.to_owned(),
            class: class.to_owned(),
            size,
            pixels: Digest::of(&content),
            print: Fingerprint::of(&imageops::grayscale(pixels)),
            one_colour: one_colour(pixels),
            notes,
            further: has_further_images(file),
        }
    }

    fn low_range(&self) -> Option<u16> {
        self.notes
            .largest_sample
            .filter(|largest| (1..LOW_RANGE).contains(largest))
    }
}

fn one_colour(pixels: &RgbImage) -> bool {
    let (mut least, mut most) = ([u8::MAX; 3], [0; 3]);
    for pixel in pixels.pixels() {
        for channel in 0..3 {
            least[channel] = least[channel].min(pixel.0[channel]);
            most[channel] = most[channel].max(pixel.0[channel]);
        }
    }
    (0..3).all(|channel| most[channel].saturating_sub(least[channel]) <= FLAT)
}

/// Returns all findings. The search for similar images covers at most `near` images, because its time is quadratic.
pub fn findings(images: &[ImageProperties], near: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    duplicates(images, &mut findings);
    if images.len() <= near {
        near_duplicates(images, &mut findings);
    }
    low_range(images, &mut findings);
    let total = images.len();
    let mut of = |level, kind, what: &str, holds: &dyn Fn(&ImageProperties) -> bool| {
        let files: Vec<String> = images
            .iter()
            .filter(|image| holds(image))
            .map(|image| display_path(&image.path))
            .collect();
        if let Some(first) = files.first() {
            let message = format!("{} of {total} images {what}, '{first}' first", files.len());
            findings.push(Finding {
                level,
                kind,
                message,
                files,
            });
        }
    };
    of(Severity::Warning, "one-colour", "are all one colour", &|image| {
        image.one_colour && image.low_range().is_none()
    });
    of(
        Severity::Warning,
        "small-pictures",
        "have a side under 32 pixels",
        &|image| image.size[0].min(image.size[1]) < SMALL_SIDE,
    );
    of(
        Severity::Note,
        "further-images",
        "have several frames or pages, of which only the first is read",
        &|image| image.further,
    );
    of(
        Severity::Note,
        "transparent",
        "have transparent pixels, which are composed onto white",
        &|image| image.notes.transparent,
    );
    findings.sort_by_key(|finding| (finding.level, finding.kind));
    findings
}

/// Finds images with equal pixels. They are an error across splits or with different labels, and a warning within a
/// split.
fn duplicates(images: &[ImageProperties], findings: &mut Vec<Finding>) {
    let mut same: HashMap<Digest, Vec<&ImageProperties>> = HashMap::new();
    for image in images.iter().filter(|image| !image.one_colour) {
        same.entry(image.pixels).or_default().push(image);
    }
    let mut sets: Vec<Vec<&ImageProperties>> = same.into_values().filter(|images| images.len() > 1).collect();
    for set in &mut sets {
        set.sort_by(|a, b| a.path.cmp(&b.path));
    }
    sets.sort_by(|a, b| a[0].path.cmp(&b[0].path));
    for set in sets {
        let first = set[0];
        let (level, kind, what) = if set.iter().any(|image| image.class != first.class) {
            (Severity::Error, "contradictory-labels", "under different labels")
        } else if set.iter().any(|image| image.split != first.split) {
            (
                Severity::Error,
                "duplicate-across-splits",
                "in different splits: the measured accuracy would be too high",
            )
        } else {
            (Severity::Warning, "duplicate", "within one split")
        };
        let more = match set.len() {
            2 => format!("'{}'", display_path(&set[1].path)),
            count => format!("{} more", count - 1),
        };
        findings.push(Finding {
            level,
            kind,
            message: format!("'{}' and {more} are the same image, {what}", display_path(&first.path)),
            files: set.iter().map(|image| display_path(&image.path)).collect(),
        });
    }
}

fn near_duplicates(images: &[ImageProperties], findings: &mut Vec<Finding>) {
    let prints: Vec<Fingerprint> = images.iter().map(|image| image.print).collect();
    for (a, b) in near_pairs(&prints) {
        let (first, second) = (&images[a], &images[b]);
        if first.split != second.split && first.pixels != second.pixels {
            let files = [first, second].map(|image| display_path(&image.path));
            findings.push(Finding {
                level: Severity::Warning,
                kind: "near-duplicate-across-splits",
                message: format!(
                    "'{}' and '{}' look alike and are in different splits: the measured accuracy may be too high",
                    files[0], files[1]
                ),
                files: files.into(),
            });
        }
    }
}

fn low_range(images: &[ImageProperties], findings: &mut Vec<Finding>) {
    let low: Vec<&ImageProperties> = images.iter().filter(|image| image.low_range().is_some()).collect();
    let Some(largest) = low.iter().filter_map(|image| image.low_range()).max() else {
        return;
    };
    let files: Vec<String> = low.iter().map(|image| display_path(&image.path)).collect();
    findings.push(Finding {
        level: Severity::Warning,
        kind: "low-range",
        message: format!(
            "{} of {} images of 16 bits per sample have no value above {largest} of 65535, so they look nearly black, \
             '{}' first; to scale them all alike: magick mogrify -evaluate multiply {} FILES (without magick before \
             ImageMagick 7)",
            low.len(),
            images
                .iter()
                .filter(|image| image.notes.largest_sample.is_some())
                .count(),
            files[0],
            u16::MAX / largest
        ),
        files,
    });
}
