//! Tables as HTML.

use std::fmt::Write as _;

use super::{
    results::{Difference, MethodSummary, Spread},
    summary::Summary,
};
use crate::{registry::METHODS, run::Tuning};

/// Returns text for the inside of an element.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

pub(super) fn percent(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "–".to_owned(), Spread::percent)
}

pub(super) fn row(cells: &[String]) -> String {
    let cells = cells.iter().map(|cell| format!("<td>{}</td>", escaped(cell)));
    format!("<tr>{}</tr>\n", cells.collect::<String>())
}

pub(super) fn head(cells: &[&str]) -> String {
    let cells = cells.iter().map(|cell| format!("<th>{}</th>", escaped(cell)));
    format!("<tr>{}</tr>\n", cells.collect::<String>())
}

/// Returns the table of all methods, with the definitions of its columns.
pub(super) fn methods_table(summary: &Summary) -> String {
    let mut table = head(&[
        "method",
        "seeds",
        "average accuracy",
        "forgetting",
        "backward transfer",
        "intransigence",
        "against clr",
        "share of backbone",
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
            percent(method.intransigence),
            method.against_clr.map_or_else(|| "–".to_owned(), Difference::points),
            format!("{:.2} %", 100.0 * method.share_of_backbone),
            format!("{:.1}", method.bytes_per_task / 1e3),
            format!("{:.1}", method.head_bytes_per_task / 1e3),
            if method.reference_bytes > 0.0 {
                format!(
                    "{:.1} (paper: {:.1})",
                    method.training_bytes / 1e3,
                    method.reference_bytes / 1e3
                )
            } else {
                format!("{:.1}", method.training_bytes / 1e3)
            },
            format!("{:.2}", method.relative_multiplications),
            method
                .relative_seconds
                .map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}")),
        ]));
    }
    format!(
        "<table>\n{table}</table>\n<p>Average accuracy: the mean over all tasks after the last task. Forgetting: the best accuracy on a task before the last task \
         minus that after it, averaged over all tasks but the last. Backward transfer: the mean change since a task was learned, over \
         all tasks but the last. Intransigence: the accuracy of <code>independent</code> minus that of the method directly after each \
         task, averaged. Against <code>clr</code>: the difference of the average accuracies in points; level: at most two standard \
         errors, √(Σ p(1 − p)/n) / T for T tasks with n test images each, both methods added in squares. Standard deviations are over \
         seeds, so they include the effect of the order of the tasks. Per task: 32-bit values that one more task stores for \
         inference, without the head, also as a share of the backbone's {} values; 32 bits count as one value. For training: what all tasks together need \
         for further training, such as anchors or a buffer; in brackets, what it is in the form of the method's paper. Multiplications and time are relative to <code>sgd</code>. The recipes of CLR run \
         on the project's kernels, the other methods operator by operator, so times compare implementations.</p>",
        summary.backbone_values
    )
}

/// Returns the accuracy of each method on each task after the last one.
pub(super) fn tasks_table(summary: &Summary) -> String {
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

/// Returns the accuracy matrix of each seed.
pub(super) fn matrices(method: &MethodSummary) -> String {
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

/// Returns the trials of settings, with those that were chosen.
pub(super) fn settings_table(tuning: &Tuning) -> String {
    let mut table = head(&["method", "settings", "accuracy", "chosen"]);
    for entry in METHODS {
        let chosen = tuning.chosen(entry);
        let mut trials: Vec<_> = (tuning.trials.iter())
            .filter(|trial| trial.method == entry.name)
            .collect();
        trials.sort_by(|a, b| {
            let [a, b] = [a, b].map(|trial| trial.settings.values());
            a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal)
        });
        for trial in trials {
            let settings = trial.settings.iter().map(|(name, value)| format!("{name} {value}"));
            let chosen = if chosen.as_ref() == Some(&trial.settings) {
                "yes"
            } else {
                ""
            };
            table.push_str(&row(&[
                entry.name.to_owned(),
                settings.collect::<Vec<_>>().join(", "),
                trial.percent(),
                chosen.to_owned(),
            ]));
        }
    }
    format!(
        "<table>\n{table}</table>\n<p>Mean validation accuracy on {} in turn, at most {} training images each, seed {}: after the last \
         task, and for sgd directly after each task. The learning rate of sgd is the network-rate of other methods. Methods \
         that are not in the table have one combination of settings.</p>",
        escaped(&tuning.basis.tasks.join(", ")),
        tuning.basis.images,
        tuning.basis.seed
    )
}
