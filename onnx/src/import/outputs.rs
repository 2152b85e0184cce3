//! Selection of the output: by name, the only one, or the only one of several that is a classifier.

use super::{File, Network, boundary};
use crate::{Node, OnnxError, Op, Shape};

/// Maximum number of outputs that are tried.
const MAX_TRIED: usize = 32;

/// Returns the network that ends in the selected output.
pub(super) fn choose(file: &File<'_>, wanted: Option<&str>) -> Result<Network, OnnxError> {
    let outputs: Vec<&str> = file
        .graph
        .output
        .iter()
        .map(|output| output.name.as_deref().unwrap_or(""))
        .collect();
    match (wanted, &outputs[..]) {
        (Some(wanted), _) if outputs.contains(&wanted) || file.producers.has(wanted) => file.network(wanted),
        (Some(wanted), _) => Err(refuse(
            file,
            format!("expected the name of an output, got `{wanted}`"),
            &outputs,
            outputs.last().copied().unwrap_or_default(),
            |_| None,
        )),
        (None, &[]) => Err(OnnxError::Output {
            origin: file.origin.to_owned(),
            reason: "expected 1, got none".to_owned(),
        }),
        (None, &[output]) => file.network(output),
        (None, _) => automatic(file, &outputs),
    }
}

/// Result of reading an output as if it were the only one.
enum Trial {
    Classifier { classes: usize, convolutions: usize },
    Features { features: usize, convolutions: usize },
    Failed(OnnxError),
}

impl Trial {
    fn of(file: &File<'_>, output: &str) -> Self {
        let network = match file.network(output) {
            Ok(network) => network,
            Err(error) => return Self::Failed(error),
        };
        let is_convolution = |node: &&Node| matches!(node.op, Op::Conv(_));
        let convolutions = network.graph.nodes.iter().filter(is_convolution).count();
        match (network.head, network.features) {
            (Some(head), _) => Self::Classifier {
                classes: head.classes(),
                convolutions,
            },
            (None, Shape::Map([features, ..]) | Shape::Vector(features)) => Self::Features { features, convolutions },
        }
    }

    /// Returns the number of convolutions before the output; 0 if it could not be read.
    fn depth(&self) -> usize {
        match self {
            Self::Classifier { convolutions, .. } | Self::Features { convolutions, .. } => *convolutions,
            Self::Failed(_) => 0,
        }
    }
}

/// Returns the only classifier. If all classifiers have the same classes, they are auxiliary heads for training, and
/// the deepest one is returned.
fn automatic(file: &File<'_>, outputs: &[&str]) -> Result<Network, OnnxError> {
    // Logits, their Softmax and their ArgMax are the same result. The output closest to the logits is read.
    let mut groups: Vec<(&str, &str)> = Vec::new();
    for &output in outputs.iter().take(MAX_TRIED) {
        let root = file.producers.root(output);
        match groups.iter_mut().find(|(known, _)| *known == root) {
            Some((_, chosen)) if *chosen == root => *chosen = output,
            Some(_) => {}
            None => groups.push((root, output)),
        }
    }
    if let [(_, output)] = groups[..] {
        return file
            .network(output)
            .map(|network| noted(network, outputs, output, "they show the same result"));
    }
    let mut trials: Vec<(&str, Trial)> = groups
        .iter()
        .map(|&(_, output)| (output, Trial::of(file, output)))
        .collect();
    let mut classifiers: Vec<(&str, usize, usize)> = trials
        .iter()
        .filter_map(|(output, trial)| match trial {
            Trial::Classifier { classes, convolutions } => Some((*output, *classes, *convolutions)),
            _ => None,
        })
        .collect();
    classifiers.sort_by_key(|&(_, _, convolutions)| std::cmp::Reverse(convolutions));
    let (chosen, reason) = match classifiers[..] {
        _ if outputs.len() > MAX_TRIED => (None, ""),
        [(output, ..)] => (Some(output), "it is the only classifier"),
        [(output, classes, most), (_, _, next), ..]
            if most > next && classifiers.iter().all(|&(_, other, _)| other == classes) =>
        {
            (
                Some(output),
                "it is the deepest of several classifiers of the same classes",
            )
        }
        _ => (None, ""),
    };
    if let Some(output) = chosen {
        return file
            .network(output)
            .map(|network| noted(network, outputs, output, reason));
    }
    if trials.iter().all(|(_, trial)| matches!(trial, Trial::Failed(_)))
        && let Some((_, Trial::Failed(error))) = trials.drain(..).next()
    {
        return Err(error);
    }
    let what = if classifiers.is_empty() {
        "none of them a classifier"
    } else {
        "several of them classifiers"
    };
    let described = |output: &str| {
        let (_, trial) = trials.iter().find(|(tried, _)| *tried == output)?;
        Some(match trial {
            Trial::Classifier { classes, .. } => format!("a classifier of {classes} classes"),
            Trial::Features { features, .. } => format!("{features} features"),
            Trial::Failed(error) => {
                let text = error.to_string();
                let line = text
                    .lines()
                    .next()
                    .unwrap_or("")
                    .trim_start_matches(file.origin)
                    .trim_start_matches(": ");
                format!("cannot be read: {}", line.trim_end_matches(':'))
            }
        })
    };
    // The deepest output is used for the hint. If there are several maps, it is the one at the end of the network.
    let deepest = trials.iter().max_by_key(|(_, trial)| trial.depth());
    let deepest = deepest.map_or(outputs[0], |(output, _)| output);
    let reason = format!("expected 1, got {}, {what}", outputs.len());
    Err(refuse(file, reason, outputs, deepest, described))
}

/// Adds a note on the output that was read and the reason.
fn noted(mut network: Network, outputs: &[&str], chosen: &str, reason: &str) -> Network {
    let others: Vec<String> = outputs
        .iter()
        .filter(|&&output| output != chosen)
        .map(|output| format!("`{output}`"))
        .collect();
    network.notes.insert(
        0,
        format!(
            "of {} outputs `{chosen}` is read: {reason} (the others: {}); --output-name chooses another",
            outputs.len(),
            others.join(", ")
        ),
    );
    network
}

fn refuse(
    file: &File<'_>,
    reason: String,
    outputs: &[&str],
    suggestion: &str,
    described: impl Fn(&str) -> Option<String>,
) -> OnnxError {
    let shape = |output: &str| {
        let info = file
            .graph
            .output
            .iter()
            .find(|info| info.name.as_deref() == Some(output))?;
        Some(boundary::dimensions(
            info.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?,
        ))
    };
    let line = |output: &&str| {
        let shape = shape(output).unwrap_or_else(|| "of unknown shape".to_owned());
        match described(output) {
            Some(what) => format!("`{output}` {shape}: {what}"),
            None => format!("`{output}` {shape}"),
        }
    };
    OnnxError::Outputs {
        origin: file.origin.to_owned(),
        reason,
        outputs: outputs.iter().take(MAX_TRIED).map(line).collect(),
        suggestion: suggestion.to_owned(),
    }
}
