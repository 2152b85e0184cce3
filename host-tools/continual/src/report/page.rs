//! The results on one page that needs nothing else.

use std::fmt::Write as _;

use super::{
    plots::{accuracy_over_size_svg, average_accuracy_svg, first_task_svg},
    summary::{MethodSummary, Spread, Summary},
};
use crate::error::Result;

/// Limits of the comparison, on every page.
const LIMITS: &str = "The task of an image is known in training and at test. Each task has its own head, except with sgd-ll. \
Images and augmentation are the same for all methods; the schedule too, except with clr-default. All methods but supsup start \
from the pretrained backbone, so the baselines are stronger than in papers that train from scratch. If the tasks are those of \
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
        "<h1>Continual learning on {}</h1>\n<p>{} tasks in turn: {}. At most {} training images of {} × {} pixels per task, \
         {} epochs. Accuracy on test images in per cent, mean ± standard deviation over seeds.</p>\n",
        escaped(&summary.backbone),
        summary.tasks.len(),
        escaped(&summary.tasks.join(", ")),
        summary.images,
        summary.size[0],
        summary.size[1],
        summary.epochs,
    );
    if !summary.missing.is_empty() {
        let _ = writeln!(
            body,
            "<p><strong>Not finished:</strong> {}.</p>",
            escaped(&summary.missing.join(", "))
        );
    }
    let _ = writeln!(body, "<p>{LIMITS}</p>\n<h2>Methods</h2>\n{}", methods_table(summary));
    for (title, svg) in [
        ("Accuracy on the first task after each task", first_task_svg(summary)?),
        ("Average accuracy after the last task", average_accuracy_svg(summary)?),
        (
            "Average accuracy over kB stored per task",
            accuracy_over_size_svg(summary)?,
        ),
    ] {
        let _ = writeln!(body, "<h2>{title}</h2>\n<figure>{}</figure>", inline(&svg));
    }
    let _ = writeln!(body, "<h2>Each task after the last one</h2>\n{}", tasks_table(summary));
    for method in &summary.methods {
        let _ = writeln!(
            body,
            "<h2>{}</h2>\n<p>{}.</p>\n{}",
            escaped(&method.method),
            escaped(method.summary),
            matrices(method)
        );
    }
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>Continual learning on {}</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n{body}</body>\n</html>\n",
        escaped(&summary.backbone)
    ))
}

const STYLE: &str = "body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b; background: #fff; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: 0.9rem; }
th, td { padding: 0.25rem 0.75rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1rem 0; }
svg { max-width: 100%; height: auto; }
";

/// Returns an SVG without its XML declaration.
fn inline(svg: &str) -> &str {
    svg.find("<svg").map_or(svg, |start| &svg[start..])
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn percent(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "–".to_owned(), Spread::percent)
}

fn row(cells: &[String]) -> String {
    let cells = cells.iter().map(|cell| format!("<td>{}</td>", escaped(cell)));
    format!("<tr>{}</tr>\n", cells.collect::<String>())
}

fn head(cells: &[&str]) -> String {
    let cells = cells.iter().map(|cell| format!("<th>{}</th>", escaped(cell)));
    format!("<tr>{}</tr>\n", cells.collect::<String>())
}

fn methods_table(summary: &Summary) -> String {
    let mut table = head(&[
        "method",
        "seeds",
        "average accuracy",
        "forgetting",
        "backward transfer",
        "stored per task",
        "kB per task",
        "kB of a head",
        "kB for training",
        "multiplications",
        "time",
    ]);
    for method in &summary.methods {
        table.push_str(&row(&[
            method.method.clone(),
            method.seeds.len().to_string(),
            percent(method.average_accuracy),
            percent(method.forgetting),
            percent(method.backward_transfer),
            format!("{:.2} %", 100.0 * method.share_of_backbone),
            format!("{:.1}", method.bytes_per_task / 1e3),
            format!("{:.1}", method.head_bytes_per_task / 1e3),
            format!("{:.1}", method.training_bytes / 1e3),
            format!("{:.2}", method.relative_multiplications),
            method
                .relative_seconds
                .map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}")),
        ]));
    }
    format!(
        "<table>\n{table}</table>\n<p>Average accuracy: the mean over all tasks after the last one. Forgetting: the mean drop from the best earlier accuracy, \
         without the last task. Backward transfer: the mean change since a task was learned. Standard deviations include the \
         order of the tasks, which depends on the seed. Stored per task: 32-bit values that one more task stores for inference, as a share of \
         the backbone's {} values, without the head; 32 bits count as one value. For training: what all tasks together need \
         for further training, such as anchors or a buffer. Multiplications and time are relative to sgd. The recipes of CLR run \
         on the project's kernels, the other methods operator by operator, so times compare implementations.</p>",
        summary.backbone_values
    )
}

fn tasks_table(summary: &Summary) -> String {
    let mut names = vec!["method"];
    names.extend(summary.tasks.iter().map(String::as_str));
    let mut table = head(&names);
    for method in &summary.methods {
        let mut cells = vec![method.method.clone()];
        cells.extend(method.final_accuracies.iter().map(|&spread| percent(spread)));
        table.push_str(&row(&cells));
    }
    format!("<table>\n{table}</table>")
}

/// The accuracy matrix of each seed.
fn matrices(method: &MethodSummary) -> String {
    let mut text = String::new();
    for seed in &method.seeds {
        let mut names = vec!["after"];
        names.extend(seed.order.iter().map(String::as_str));
        let mut table = head(&names);
        for (after, accuracies) in seed.accuracies.iter().enumerate() {
            let mut cells = vec![seed.order[after].clone()];
            cells.extend(accuracies.iter().map(|accuracy| format!("{:.1}", 100.0 * accuracy)));
            table.push_str(&row(&cells));
        }
        let _ = writeln!(
            text,
            "<details><summary>seed {}</summary>\n<table>\n{table}</table></details>",
            seed.seed
        );
    }
    text
}
