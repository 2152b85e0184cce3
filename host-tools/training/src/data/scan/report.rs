//! Report of a scan: files are grouped into lines by outcome, kind and reason.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::Verdict;

/// Reason for files that the user has no permission to read.
pub(super) const PERMISSION_DENIED: &str = "permission denied";

/// Outcome of a scan for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The file is used.
    Image,
    /// The file is an image, or should be one, but is not used. The user is notified.
    LeftOut,
    /// The file is not an image, and is ignored.
    PassedOver,
}

/// Files with the same outcome, kind and reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScanLine {
    /// Whether the files are used.
    pub outcome: Outcome,
    /// Kind of the files, such as `PNG` or `HEIC`.
    pub kind: String,
    /// The reason why the files are not used, or the remedy; empty for used images.
    pub reason: String,
    /// Number of files.
    pub count: usize,
    /// Paths of the files, sorted; see [`display_path`].
    pub files: Vec<String>,
    /// Details of single files.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

/// All files of a scan. Each file is in exactly one line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScanReport {
    /// Number of files, and of everything else that is not a folder.
    pub files: usize,
    /// Lines of used images come first, then files that were left out, then ignored files.
    pub lines: Vec<ScanLine>,
}

impl ScanReport {
    pub(super) fn new(files: &BTreeMap<PathBuf, Verdict>) -> Self {
        let mut lines: BTreeMap<(Outcome, &str, &str), ScanLine> = BTreeMap::new();
        for (path, verdict) in files {
            let key = (verdict.outcome, &*verdict.kind, &*verdict.reason);
            let line = lines.entry(key).or_insert_with(|| ScanLine {
                outcome: verdict.outcome,
                kind: verdict.kind.clone().into_owned(),
                reason: verdict.reason.clone().into_owned(),
                count: 0,
                files: Vec::new(),
                details: BTreeMap::new(),
            });
            let path = display_path(path);
            if let Some(detail) = &verdict.detail {
                line.details.insert(path.clone(), detail.clone());
            }
            line.files.push(path);
            line.count += 1;
        }
        Self {
            files: files.len(),
            lines: lines.into_values().collect(),
        }
    }

    /// Adds the lines of another folder. `prefix` is put before its files.
    pub fn add(&mut self, other: Self, prefix: &Path) {
        self.files += other.files;
        let named = |file: &str| {
            if file.is_empty() {
                display_path(prefix)
            } else {
                format!("{}/{file}", display_path(prefix).trim_end_matches('/'))
            }
        };
        for line in other.lines {
            let files = line.files.iter().map(|file| named(file));
            let details = line.details.iter().map(|(file, detail)| (named(file), detail.clone()));
            let same = (self.lines.iter_mut())
                .find(|one| (one.outcome, &one.kind, &one.reason) == (line.outcome, &line.kind, &line.reason));
            if let Some(one) = same {
                one.count += line.count;
                one.files.extend(files);
                one.details.extend(details);
            } else {
                let (files, details) = (files.collect(), details.collect());
                self.lines.push(ScanLine { files, details, ..line });
            }
        }
        self.lines
            .sort_by(|a, b| (a.outcome, &a.kind, &a.reason).cmp(&(b.outcome, &b.kind, &b.reason)));
    }

    /// Returns whether anything was left out because the user has no permission to read it.
    pub fn is_denied(&self) -> bool {
        self.lines.iter().any(|line| line.reason == PERMISSION_DENIED)
    }

    /// Returns the number of files of an outcome.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.lines
            .iter()
            .filter(|line| line.outcome == outcome)
            .map(|line| line.count)
            .sum()
    }

    /// Returns the numbers of images by format, such as `60 images: 40 PNG, 20 JPEG`.
    pub fn images(&self) -> String {
        let images = self.lines.iter().filter(|line| line.outcome == Outcome::Image);
        let formats: Vec<String> = images.map(|line| format!("{} {}", line.count, line.kind)).collect();
        format!("{} images: {}", self.count(Outcome::Image), formats.join(", "))
    }
}

impl ScanLine {
    /// Returns the line as text, with its first `most` files.
    pub fn text(&self, most: usize) -> String {
        let mut text = format!("{} {}", self.count, self.kind);
        if !self.reason.is_empty() {
            let _ = write!(text, " ({})", self.reason);
        }
        let shown: Vec<String> = self.files.iter().take(most).map(|file| format!("'{file}'")).collect();
        if !shown.is_empty() {
            let _ = write!(text, ": {}", shown.join(", "));
        }
        if self.files.len() > shown.len() && !shown.is_empty() {
            text.push_str(", …");
        }
        text
    }
}

/// Returns a path as text. Different paths give different texts: bytes that are not UTF-8 and control characters become
/// `\xNN` and `\n`.
pub fn display_path(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' if cfg!(windows) => text.push('/'),
                '\\' => text.push_str("\\\\"),
                character if character.is_control() => text.extend(character.escape_default()),
                character => text.push(character),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02X}");
        }
    }
    text
}
