//! Classifier of a checkpoint: one linear layer on the features, under any name. Any other kind of head is left out.

use std::collections::BTreeMap;

use super::TensorProblem;
use super::fit::{Fit, body_parts, first_part, is_bookkeeping};
use super::weights::Weights;

/// Names of a head that is next to the body's dictionary.
const NAMES: [&str; 6] = ["head", "fc", "classifier", "linear", "cls", "last_linear"];

/// The head after the body.
pub(super) struct FoundHead {
    /// The linear layer.
    pub(super) linear: Option<Linear>,
    /// Notes on decisions, and on parts that were not read.
    pub(super) notes: Vec<String>,
}

/// A single linear layer.
pub(super) struct Linear {
    /// Name of the weight, `[classes, features]`, possibly with two more dimensions of size 1.
    pub(super) weight: String,
    /// Name of the bias, `[classes]`.
    pub(super) bias: Option<String>,
    /// Number of classes.
    pub(super) classes: usize,
}

/// A module after the body: its tensors by full name.
type Group<'a> = Vec<(String, &'a [usize])>;

/// Searches for the classifier next to the body of `fit`. `others` are the places of other sets of weights.
///
/// # Errors
/// [`TensorProblem`] if the bias of a linear layer contradicts its weight.
pub(super) fn find(weights: &Weights<'_>, fit: &Fit, others: &[String]) -> Result<FoundHead, TensorProblem> {
    let features = fit.spec.features;
    let groups = groups(weights, fit, others);
    let mut linear = BTreeMap::new();
    for (name, group) in &groups {
        if let Some(layer) = single_linear(group, features)? {
            linear.insert(name.as_str(), layer);
        }
    }
    let heads: Vec<_> = groups
        .iter()
        .filter(|(_, group)| group.iter().any(|(_, shape)| shape.get(1) == Some(&features)))
        .collect();
    let own = [fit.prefix.as_str(), first_part(fit.spec.classifier)].concat();
    let chosen = match heads.as_slice() {
        [(name, _)] => linear.remove_entry(name.as_str()),
        _ => linear.remove_entry(own.as_str()),
    };
    let mut notes = Vec::new();
    let Some((name, layer)) = chosen else {
        let rest = format!("the backbone ends with its {features} features, without a classifier");
        match heads.as_slice() {
            [] => notes.push(rest),
            [(_, head)] => notes.push(format!(
                "the head is more than one linear layer and was not read ({}): {rest}",
                shapes(head)
            )),
            heads => {
                let heads: Vec<_> = heads.iter().map(|(_, head)| shapes(head)).collect();
                notes.push(format!(
                    "there are several heads, none was read ({}): {rest}",
                    heads.join("; ")
                ));
            }
        }
        let rest = groups
            .iter()
            .filter(|(name, _)| heads.iter().all(|(head, _)| head != name));
        note_others(weights, fit, rest.map(|(_, group)| group), &groups, others, &mut notes);
        return Ok(FoundHead { linear: None, notes });
    };
    let name = name.to_owned();
    // Another layer after this one, or a norm or similar before it, means that the logits are not those of a single
    // linear layer.
    let between = groups.iter().filter(|(other, _)| **other != name).find(|(_, group)| {
        group.iter().any(|(_, shape)| match *shape {
            [channels] => *channels == features,
            [_, inputs, ..] => *inputs == layer.classes && *inputs > 1,
            _ => false,
        })
    });
    if let Some((_, group)) = between {
        notes.push(format!(
            "the head is more than one linear layer and was not read ({}; {}): the backbone ends with its {features} features, without a classifier",
            shapes(&groups[&name]),
            shapes(group)
        ));
        return Ok(FoundHead { linear: None, notes });
    }
    if layer.weight != [fit.prefix.as_str(), fit.spec.classifier, ".weight"].concat() {
        notes.push(format!(
            "`{}` is taken as the classifier: {} classes",
            layer.weight.trim_end_matches(".weight"),
            layer.classes
        ));
    }
    if layer.bias.is_none() {
        notes.push("the classifier has no bias: zeros are used".to_owned());
    }
    let rest = groups.iter().filter(|(other, _)| **other != name);
    note_others(weights, fit, rest.map(|(_, group)| group), &groups, others, &mut notes);
    Ok(FoundHead {
        linear: Some(layer),
        notes,
    })
}

/// Returns the modules in the body's dictionary that are not part of the body, by prefix.
fn groups<'a>(weights: &'a Weights<'_>, fit: &Fit, others: &[String]) -> BTreeMap<String, Group<'a>> {
    let container = &fit.prefix[..fit.container(weights)];
    let parts = body_parts(&fit.spec);
    let mut groups: BTreeMap<String, Group<'a>> = BTreeMap::new();
    let mut add = |name: String, shape: &'a [usize]| {
        let group = group_of(&name, &fit.prefix);
        groups.entry(group).or_default().push((name, shape));
    };
    for (rest, entry) in weights.under(container) {
        let name = [container, rest].concat();
        let in_body = name
            .strip_prefix(fit.prefix.as_str())
            .is_some_and(|rest| parts.contains(first_part(rest)));
        let elsewhere = others
            .iter()
            .any(|other| !fit.prefix.starts_with(other.as_str()) && name.starts_with(other.as_str()));
        let here = entry.container == container.len();
        if here && !in_body && !elsewhere && !is_bookkeeping(rest) {
            add(name, &entry.shape);
        }
    }
    // Body and head may be in two neighbouring dictionaries.
    if let Some(parent) = container
        .strip_suffix('.')
        .map(|path| path.rfind('.').map_or("", |dot| &path[..=dot]))
    {
        for head in NAMES {
            let start = format!("{parent}{head}.");
            if start != container {
                for (rest, entry) in weights.under(&start) {
                    if !is_bookkeeping(rest) {
                        add([start.as_str(), rest].concat(), &entry.shape);
                    }
                }
            }
        }
    }
    groups
}

/// Returns the module of a tensor: the part of its name that it shares with `prefix`, and one more component.
fn group_of(name: &str, prefix: &str) -> String {
    let mut shared = 0;
    for (dot, _) in prefix.match_indices('.') {
        if name.starts_with(&prefix[..=dot]) {
            shared = dot + 1;
        }
    }
    name[..shared].to_owned() + first_part(&name[shared..])
}

/// Returns the layer if `group` has a weight `[classes, features]`, optionally a bias, and nothing else.
fn single_linear(group: &Group<'_>, features: usize) -> Result<Option<Linear>, TensorProblem> {
    let (weight, bias, classes) = match group.as_slice() {
        [(weight, shape)] => match weight_of(shape, features) {
            Some(classes) => (weight, None, classes),
            None => return Ok(None),
        },
        [(bias, bias_shape), (weight, shape)] => {
            let same = bias
                .strip_suffix("bias")
                .is_some_and(|layer| weight.strip_suffix("weight") == Some(layer));
            match weight_of(shape, features).filter(|_| same) {
                Some(classes) if **bias_shape == [classes] => (weight, Some(bias.clone()), classes),
                Some(classes) => {
                    return Err(TensorProblem::Shape {
                        name: bias.clone(),
                        expected: vec![classes],
                        got: bias_shape.to_vec(),
                    });
                }
                None => return Ok(None),
            }
        }
        _ => return Ok(None),
    };
    Ok(weight.ends_with("weight").then(|| Linear {
        weight: weight.clone(),
        bias,
        classes,
    }))
}

fn weight_of(shape: &[usize], features: usize) -> Option<usize> {
    match *shape {
        [classes, inputs] | [classes, inputs, 1, 1] if inputs == features && classes > 0 => Some(classes),
        _ => None,
    }
}

fn shapes(group: &Group<'_>) -> String {
    let shown = group.iter().take(6).map(|(name, shape)| format!("`{name}` {shape:?}"));
    let text = shown.collect::<Vec<_>>().join(", ");
    match group.len().checked_sub(6) {
        Some(more @ 1..) => format!("{text} and {more} more"),
        _ => text,
    }
}

/// Adds notes on what was not read: tensors of the body's dictionary individually, everything else by its outermost
/// key.
fn note_others<'a, 'b: 'a>(
    weights: &Weights<'_>,
    fit: &Fit,
    groups: impl Iterator<Item = &'a Group<'b>>,
    seen: &BTreeMap<String, Group<'b>>,
    others: &[String],
    notes: &mut Vec<String>,
) {
    let mut names: Vec<_> = groups.flatten().map(|(name, _)| format!("`{name}`")).collect();
    let container = &fit.prefix[..fit.container(weights)];
    let mut outside: BTreeMap<&str, usize> = BTreeMap::new();
    for name in weights.entries.keys() {
        let in_set = others.iter().any(|other| name.starts_with(other.as_str()));
        let is_head = seen.values().any(|group| group.iter().any(|(head, _)| head == name));
        if !in_set && !is_head && !name.starts_with(container) {
            *outside.entry(first_part(name)).or_default() += 1;
        }
    }
    names.extend(outside.into_iter().map(|(name, count)| match count {
        1 => format!("`{name}`"),
        count => format!("`{name}` ({count} tensors)"),
    }));
    if !names.is_empty() {
        let more = names.len().saturating_sub(6);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        notes.push(format!(
            "not read, since they are not part of the network: {}{more}",
            names[..names.len().min(6)].join(", ")
        ));
    }
}
