//! Log of a scan: images by format, then files that were left out or ignored.

use std::path::Path;

use clr_training::{Outcome, ScanReport, display_path};

/// Maximum number of files named in a line.
pub(crate) const NAMED: usize = 3;

/// Logs the report: files that were left out as warnings, and with `-v` every file.
pub(crate) fn log(report: &ScanReport) {
    images(report);
    for line in report.lines.iter().filter(|line| line.outcome == Outcome::LeftOut) {
        tracing::warn!("left out: {}", line.text(NAMED));
    }
}

/// Logs everything except the files that were left out, which training reports as warnings.
pub(crate) fn images(report: &ScanReport) {
    if report.count(Outcome::Image) > 0 {
        tracing::info!("{}", report.images());
    }
    for line in report.lines.iter().filter(|line| line.outcome == Outcome::PassedOver) {
        tracing::info!("passed over: {}", line.text(NAMED));
    }
    for line in &report.lines {
        tracing::debug!("{}", line.text(usize::MAX));
        for (file, detail) in &line.details {
            tracing::debug!("'{file}': {detail}");
        }
    }
}

/// Returns an error for folders without an image, which states what they contain.
pub(crate) fn ensure_images(found: &ScanReport, folders: &[impl AsRef<Path>]) -> anyhow::Result<()> {
    if found.count(Outcome::Image) > 0 {
        return Ok(());
    }
    let folders: Vec<String> = folders
        .iter()
        .map(|path| format!("'{}'", display_path(path.as_ref())))
        .collect();
    let lines: Vec<String> = found.lines.iter().map(|line| line.text(1)).collect();
    let hint = if found.is_denied() {
        "let this user read it (`chmod`, `chown`)"
    } else {
        "PNG, JPEG, BMP, WebP, GIF, PNM and TIFF are read"
    };
    anyhow::bail!(
        "no image was found in {}: {}\nhint: {hint}",
        folders.join(", "),
        if lines.is_empty() {
            "there are no files".to_owned()
        } else {
            lines.join("; ")
        }
    );
}
