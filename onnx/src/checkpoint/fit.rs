//! Matching of architectures with the tensors of a checkpoint: every place where an architecture's tensors are found,
//! and the mismatches there.

use std::collections::{BTreeSet, HashSet};

use super::TensorProblem;
use super::architecture::Architecture;
use super::architecture_spec::{ArchitectureSpec, Parameter};
use super::spelling::Spelling;
use super::weights::Weights;

/// Maximum number of places that are examined per naming scheme of an architecture.
const MAX_PLACES: usize = 32;

/// An architecture matched at one place of a checkpoint.
pub(super) struct Fit {
    /// The architecture.
    pub(super) architecture: Architecture,
    /// Naming scheme of the tensors.
    pub(super) spelling: Spelling,
    /// The layers.
    pub(super) spec: ArchitectureSpec,
    /// Prefix before the architecture's own names: empty, or ending with a dot.
    pub(super) prefix: String,
    /// Mismatches; empty if the set is complete.
    pub(super) problems: Vec<TensorProblem>,
    /// Number of tensors that exist with the right shape.
    fitting: usize,
}

impl Fit {
    /// Returns whether every tensor of the body matches.
    pub(super) fn is_complete(&self) -> bool {
        self.problems.is_empty()
    }

    /// Returns the place, for messages.
    pub(super) fn place(&self) -> &str {
        self.prefix.trim_end_matches('.')
    }

    /// Returns how many bytes of the prefix lead to the dictionary of the tensors.
    pub(super) fn container(&self, weights: &Weights<'_>) -> usize {
        let first = self.spec.parameters().swap_remove(0).name;
        weights
            .entries
            .get(&[self.prefix.as_str(), &first].concat())
            .map_or(0, |entry| entry.container.min(self.prefix.len()))
    }
}

/// Returns the places where at least half of an architecture's tensors match. If `given` is set, only this architecture
/// is tried.
pub(super) fn fits(weights: &Weights<'_>, given: Option<Architecture>) -> Vec<Fit> {
    let (mut fits, mut seen) = (Vec::new(), HashSet::new());
    for architecture in Architecture::ALL {
        if given.is_some_and(|given| given != architecture) {
            continue;
        }
        for &spelling in architecture.spellings() {
            let parameters = architecture.spec(spelling).parameters();
            for prefix in places(weights, &parameters) {
                let first = [prefix.as_str(), &parameters[0].name].concat();
                let fit = fit(weights, architecture, spelling, prefix);
                // The same set may be found under two naming schemes whose prefixes end at different positions.
                if 2 * fit.fitting >= parameters.len() && seen.insert((architecture, first)) {
                    fits.push(fit);
                }
            }
        }
    }
    fits
}

/// Returns the fit with the fewest problems.
pub(super) fn nearest(fits: Vec<Fit>) -> Option<Fit> {
    fits.into_iter().min_by_key(|fit| fit.problems.len())
}

/// Returns the match of `architecture` at the root, however few tensors match.
pub(super) fn at_root(weights: &Weights<'_>, architecture: Architecture) -> Fit {
    fit(weights, architecture, architecture.spellings()[0], String::new())
}

/// Returns the prefixes of all places in which the first and the last convolution have the right shapes, shortest
/// first.
fn places(weights: &Weights<'_>, parameters: &[Parameter]) -> Vec<String> {
    let mut convolutions = parameters.iter().filter(|parameter| parameter.shape.len() == 4);
    let ends = [convolutions.next(), convolutions.next_back()];
    let mut places = BTreeSet::new();
    for (name, entry) in &weights.entries {
        for end in ends.into_iter().flatten() {
            if entry.shape == end.shape
                && let Some(prefix) = name.strip_suffix(end.name.as_str())
                && (prefix.is_empty() || prefix.ends_with('.'))
            {
                places.insert((prefix.len(), prefix));
            }
        }
    }
    let places = places.into_iter().take(MAX_PLACES);
    places.map(|(_, prefix)| prefix.to_owned()).collect()
}

fn fit(weights: &Weights<'_>, architecture: Architecture, spelling: Spelling, prefix: String) -> Fit {
    let spec = architecture.spec(spelling);
    let expected: Vec<_> = spec
        .parameters()
        .into_iter()
        .map(|Parameter { name, shape }| Parameter {
            name: [prefix.as_str(), &name].concat(),
            shape,
        })
        .collect();
    let mismatch = |parameter: &Parameter| problem(weights, &parameter.name, &parameter.shape);
    let mut problems: Vec<_> = expected.iter().filter_map(mismatch).collect();
    let fitting = expected.len() - problems.len();
    let known: HashSet<_> = expected.iter().map(|parameter| parameter.name.as_str()).collect();
    // If the body contains a tensor that the architecture does not have, the network computes a different function.
    let parts = body_parts(&spec);
    for (rest, entry) in weights.under(&prefix) {
        let name = [prefix.as_str(), rest].concat();
        if parts.contains(first_part(rest)) && !known.contains(name.as_str()) && !is_bookkeeping(rest) {
            problems.push(TensorProblem::Unexpected {
                name,
                got: entry.shape.clone(),
            });
        }
    }
    for (name, expected, got) in weights.settings.differing(&spec, &prefix) {
        problems.push(TensorProblem::Setting { name, expected, got });
    }
    Fit {
        architecture,
        spelling,
        spec,
        prefix,
        problems,
        fitting,
    }
}

/// Returns the mismatch of the tensor `name` with `shape`, if there is one.
pub(super) fn problem(weights: &Weights<'_>, name: &str, shape: &[usize]) -> Option<TensorProblem> {
    let (name, expected) = (name.to_owned(), shape.to_vec());
    match weights.entries.get(&name) {
        None => Some(TensorProblem::Missing { name, expected }),
        Some(entry) => match entry.unreadable() {
            Some(reason) => Some(TensorProblem::Unreadable {
                reason: reason.to_owned(),
                name,
            }),
            None if entry.shape != shape => Some(TensorProblem::Shape {
                got: entry.shape.clone(),
                name,
                expected,
            }),
            None => None,
        },
    }
}

/// Returns the first parts of the names of the body's tensors, such as `conv1` and `layer1`.
pub(super) fn body_parts(spec: &ArchitectureSpec) -> HashSet<String> {
    let parameters = spec.parameters();
    parameters
        .iter()
        .map(|parameter| first_part(&parameter.name).to_owned())
        .collect()
}

/// Returns the first part of a name, such as `layer1` of `layer1.0.conv1.weight`.
pub(super) fn first_part(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// Returns whether a name is that of a counter, which training and profilers write and inference never reads.
pub(super) fn is_bookkeeping(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    matches!(last, "num_batches_tracked" | "total_ops" | "total_params")
}
