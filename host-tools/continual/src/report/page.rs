//! The results on one page that needs nothing else.

use std::fmt::Write as _;

use super::{
    plots::{accuracy_over_size_svg, average_accuracy_svg, first_task_svg},
    summary::Summary,
    tables::{escaped, matrices, methods_table, settings_table, tasks_table},
};
use crate::error::Result;

/// Limits of the comparison, on every page.
pub(super) const LIMITS: &str = "The task of an image is known in training and at test. Each task has its own head, except with sgd-ll. \
Images and augmentation are the same for all methods; the schedule too, except with clr-default. All methods but supsup start \
from the backbone; if it is pretrained, the baselines are stronger than in papers that train from scratch. If the tasks are those of \
clr fetch: many of them are drawn or rendered, none is a clinical diagnosis, and no number is comparable with those on the 53 \
tasks of the CLR paper (Ge et al. 2023, arXiv 2307.11386).";

/// Returns the page.
///
/// # Errors
/// [`ContinualError::Plot`](crate::ContinualError::Plot) if a plot cannot be drawn.
pub fn html(summary: &Summary) -> Result<String> {
    let mut body = String::new();
    let _ = write!(
        body,
        "<h1>Continual learning on {}</h1>\n<p>{} Accuracy on test images in per cent, mean ± standard deviation over seeds.</p>\n",
        escaped(&summary.backbone),
        conditions(&summary.tasks, summary.images, summary.size, summary.epochs),
    );
    for (what, jobs) in [("Not finished", &summary.missing), ("Diverged", &summary.diverged)] {
        if !jobs.is_empty() {
            let _ = writeln!(body, "<p><strong>{what}:</strong> {}.</p>", escaped(&jobs.join(", ")));
        }
    }
    let _ = writeln!(body, "<p>{LIMITS}</p>\n<h2>Methods</h2>\n{}", methods_table(summary));
    for (title, svg) in [
        ("Accuracy on the first task after each task", first_task_svg(summary)?),
        ("Average accuracy after the last task", average_accuracy_svg(summary)?),
        (
            "Average accuracy over kB per task, head included",
            accuracy_over_size_svg(summary)?,
        ),
    ] {
        let _ = writeln!(body, "<h2>{title}</h2>\n<figure>{}</figure>", inline(&svg));
    }
    let _ = writeln!(
        body,
        "<h2>Accuracy on each task after the last task</h2>\n{}",
        tasks_table(summary)
    );
    if let Some(tuning) = &summary.tuning {
        let _ = writeln!(body, "<h2>Settings</h2>\n{}", settings_table(tuning));
    }
    for method in &summary.methods {
        let _ = writeln!(
            body,
            "<h2>{}</h2>\n<p>{}.</p>\n{}",
            escaped(&method.method),
            escaped(method.summary),
            matrices(method)
        );
    }
    Ok(document(
        &format!("Continual learning on {}", escaped(&summary.backbone)),
        &body,
    ))
}

/// Returns the sentences on tasks and sizes that begin a page.
pub(super) fn conditions(tasks: &[String], images: usize, size: [u32; 2], epochs: usize) -> String {
    format!(
        "{} tasks, in the order of seed 0: {}. Other seeds keep the first and permute the rest. At most {images} training images \
         of {} × {} pixels per task, {epochs} epochs.",
        tasks.len(),
        escaped(&tasks.join(", ")),
        size[0],
        size[1],
    )
}

/// Returns a page with its style.
pub(super) fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n{body}</body>\n</html>\n"
    )
}

const STYLE: &str = "body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b; background: #fff; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: 0.9rem; }
th, td { padding: 0.25rem 0.75rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1rem 0; }
svg { max-width: 100%; height: auto; }
";

/// Returns an SVG without its XML declaration.
pub(super) fn inline(svg: &str) -> &str {
    svg.find("<svg").map_or(svg, |start| &svg[start..])
}
