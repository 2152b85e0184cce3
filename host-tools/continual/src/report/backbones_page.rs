//! The comparison of backbones on one page that needs nothing else.

use std::fmt::Write as _;

use super::{
    backbones::Backbones,
    page::{LIMITS, conditions, document, inline},
    plots::backbones_svg,
    tables::{escaped, head, percent, row},
};
use crate::error::Result;

/// Returns the page.
///
/// # Errors
/// [`ContinualError::Plot`](crate::ContinualError::Plot) if the plot cannot be drawn.
pub fn backbones_html(compared: &Backbones) -> Result<String> {
    let names = compared.backbones.iter().map(String::as_str);
    let mut accuracies = head(&std::iter::once("method").chain(names.clone()).collect::<Vec<_>>());
    let mut stored = accuracies.clone();
    for method in &compared.methods {
        let name = std::iter::once(method.method.clone());
        let cells = method
            .average_accuracy
            .iter()
            .zip(&method.seeds)
            .map(|(&spread, seeds)| match seeds {
                0 => "–".to_owned(),
                1 => format!("{} (1 seed)", percent(spread)),
                seeds => format!("{} ({seeds} seeds)", percent(spread)),
            });
        accuracies.push_str(&row(&name.clone().chain(cells).collect::<Vec<_>>()));
        let cells = method
            .bytes_per_task
            .iter()
            .zip(&compared.values)
            .map(|(bytes, values)| {
                bytes.map_or_else(
                    || "–".to_owned(),
                    |bytes| {
                        format!(
                            "{:.1} kB ({:.2} %)",
                            bytes / 1e3,
                            25.0 * bytes / (*values).max(1) as f64
                        )
                    },
                )
            });
        stored.push_str(&row(&name.chain(cells).collect::<Vec<_>>()));
    }
    let mut unfinished = String::new();
    for (what, jobs) in [("Not finished", &compared.missing), ("Diverged", &compared.diverged)] {
        for (backbone, jobs) in compared.backbones.iter().zip(jobs).filter(|(_, jobs)| !jobs.is_empty()) {
            let (backbone, jobs) = (escaped(backbone), escaped(&jobs.join(", ")));
            let _ = writeln!(unfinished, "<p><strong>{what} on {backbone}:</strong> {jobs}.</p>");
        }
    }
    let body = format!(
        "<h1>Continual learning on {} backbones</h1>\n<p>{} Average accuracy on test images after the last task in per cent, \
         mean ± standard deviation over seeds.</p>\n{unfinished}<p>The backbones may differ in architecture, and in images and \
         method of pretraining, so a difference has no single cause. In the CLR paper, only pretraining differs. {LIMITS}</p>\n\
         <table>\n{accuracies}</table>\n<figure>{}</figure>\n<h2>Stored per task</h2>\n<p>For inference, without the head; in \
         brackets as a share of the backbone's values.</p>\n<table>\n{stored}</table>\n",
        compared.backbones.len(),
        conditions(&compared.tasks, compared.images, compared.size, compared.epochs),
        inline(&backbones_svg(compared)?),
    );
    Ok(document("Continual learning on several backbones", &body))
}
