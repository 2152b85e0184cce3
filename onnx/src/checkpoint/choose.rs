//! Selection among several complete sets of weights in a checkpoint, such as the model and its running average, a
//! student and its teacher, or two networks with the same tensors.

use super::architecture::Architecture;
use super::fit::{Fit, at_root, fits, nearest};
use super::weights::Weights;
use super::{ImportError, TensorProblem};

/// Parts of names under which training scripts store running averages of the weights.
const AVERAGES: [&str; 11] = [
    "ema", "average", "averaged", "avg", "swa", "shadow", "teacher", "momentum", "target", "key", "k",
];

/// The set of weights selected for the backbone.
pub(super) struct Choice {
    /// The set.
    pub(super) fit: Fit,
    /// Prefixes of the other complete sets.
    pub(super) others: Vec<String>,
    /// Notes on what was selected and how to select another set, one sentence each.
    pub(super) notes: Vec<String>,
}

/// Selects the set at the place given by `wanted`. Without `wanted`, prefers the weights themselves to running
/// averages, and short names to long ones. Only the architecture `given` is considered; without it, the architecture is
/// recognised.
pub(super) fn choose(
    weights: &Weights<'_>,
    given: Option<Architecture>,
    wanted: Option<&str>,
    origin: &str,
) -> Result<Choice, ImportError> {
    let (complete, partial): (Vec<_>, Vec<_>) = fits(weights, given).into_iter().partition(Fit::is_complete);
    if complete.is_empty() {
        return Err(no_fit(weights, partial, given, origin));
    }
    let mut places: Vec<&str> = complete.iter().map(Fit::place).collect();
    places.sort_unstable_by_key(|place| (is_average(place), place.matches('.').count(), place.len(), *place));
    places.dedup();
    let chosen = match wanted {
        None => places[0],
        Some(wanted) => matching(&places, wanted).ok_or_else(|| ImportError::Container {
            origin: origin.to_owned(),
            reason: format!(
                "no complete weights are called `{wanted}`\nhint: there are {}",
                list(&places)
            ),
        })?,
    };
    let chosen = chosen.to_owned();
    let mut notes = Vec::new();
    let rejected: Vec<_> = places.iter().copied().filter(|&place| place != chosen).collect();
    if !rejected.is_empty() {
        notes.push(format!(
            "weights of {} are read; complete sets are also {}: --weights chooses another",
            called(&chosen),
            list(&rejected)
        ));
    }
    let (at_place, elsewhere): (Vec<_>, Vec<_>) = complete.into_iter().partition(|fit| fit.place() == chosen);
    let fit = one_architecture(at_place, given, weights, origin, &mut notes)?;
    Ok(Choice {
        fit,
        others: elsewhere.into_iter().map(|fit| fit.prefix).collect(),
        notes,
    })
}

/// Returns the place that `wanted` denotes: its path or a prefix of it, one of its keys, the general words `model` or
/// `ema`, or a word of a key.
fn matching<'a>(places: &[&'a str], wanted: &str) -> Option<&'a str> {
    let wanted = wanted.trim_matches('.');
    let first = |test: &dyn Fn(&str) -> bool| places.iter().copied().find(|place| test(place));
    first(&|place| place == wanted)
        .or_else(|| first(&|place| place.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'))))
        .or_else(|| first(&|place| place.split('.').any(|key| key == wanted)))
        .or_else(|| match wanted {
            "model" => first(&|place| !is_average(place)),
            "ema" => first(&is_average),
            _ => None,
        })
        .or_else(|| first(&|place| words(place).any(|word| word == wanted)))
}

/// Returns whether a place has the name of a running average.
fn is_average(place: &str) -> bool {
    words(place).any(|word| AVERAGES.contains(&word))
}

fn words(place: &str) -> impl Iterator<Item = &str> {
    place.split(|character: char| !character.is_ascii_alphanumeric())
}

/// Describes a place, for messages.
fn called(place: &str) -> String {
    if place.is_empty() {
        "the file's root".to_owned()
    } else {
        format!("`{place}`")
    }
}

fn list(places: &[&str]) -> String {
    places.iter().map(|place| called(place)).collect::<Vec<_>>().join(", ")
}

/// Decides between architectures that fit the same tensors: by the name that the file states, otherwise the caller must
/// choose.
fn one_architecture(
    mut fits: Vec<Fit>,
    given: Option<Architecture>,
    weights: &Weights<'_>,
    origin: &str,
    notes: &mut Vec<String>,
) -> Result<Fit, ImportError> {
    let stated = || weights.stated.iter().filter_map(|name| Architecture::from_stated(name));
    if fits.len() > 1 {
        let stated: Vec<_> = stated().collect();
        let named = fits.iter().position(|fit| stated.contains(&fit.architecture));
        let Some(named) = named else {
            return Err(ImportError::Ambiguous {
                origin: origin.to_owned(),
                architectures: fits.iter().map(|fit| fit.architecture).collect(),
            });
        };
        notes.push(format!(
            "read as {}, which the file calls itself; other networks have the same tensors",
            fits[named].architecture
        ));
        fits.swap(0, named);
    }
    let fit = fits.swap_remove(0);
    // The file may name a network that differs from this one only in layers without weights.
    let other = weights.stated.iter().find(|name| {
        let name = name.to_ascii_lowercase();
        name.starts_with("resnetblur") || name.starts_with("resnetaa")
    });
    match other {
        Some(name) if given.is_none() => Err(ImportError::Container {
            origin: origin.to_owned(),
            reason: format!(
                "the file calls its network `{name}`: its tensors fit {0}, but its pooling differs\nhint: export ONNX; or read it as {0} all the same with --architecture {0}",
                fit.architecture
            ),
        }),
        _ => Ok(fit),
    }
}

fn no_fit(weights: &Weights<'_>, partial: Vec<Fit>, given: Option<Architecture>, origin: &str) -> ImportError {
    let fit = match (nearest(partial), given) {
        (Some(fit), _) => fit,
        (None, Some(architecture)) => at_root(weights, architecture),
        (None, None) => {
            return ImportError::UnknownArchitecture {
                origin: origin.to_owned(),
                count: weights.entries.len(),
                first: weights.entries.keys().take(5).cloned().collect(),
                shard: is_shard(origin),
            };
        }
    };
    // The tensors may fit another architecture better than the given one.
    let better = given.and_then(|_| fits(weights, None).into_iter().find(Fit::is_complete));
    let hint = match better {
        Some(better) => format!("the tensors fit {0}: give --architecture {0}", better.architecture),
        None if any_named(&fit, "weight_orig") => {
            "the layers are pruned: call torch.nn.utils.prune.remove on each before saving".to_owned()
        }
        None if any_named(&fit, "parametrizations") || any_named(&fit, "weight_g") => {
            "the weights are parametrised: call torch.nn.utils.parametrize.remove_parametrizations (or remove_weight_norm) on each layer before saving".to_owned()
        }
        None if is_shard(origin) => SHARD_HINT.trim_end_matches("; ").to_owned(),
        None => "export ONNX with torch.onnx.export, which keeps what the network computes, and import that".to_owned(),
    };
    ImportError::Mismatch {
        origin: origin.to_owned(),
        architecture: fit.architecture,
        problems: fit.problems,
        hint,
    }
}

/// Returns whether a tensor that does not fit has `part` in its name.
fn any_named(fit: &Fit, part: &str) -> bool {
    fit.problems
        .iter()
        .any(|problem| matches!(problem, TensorProblem::Unexpected { name, .. } if name.contains(part)))
}

/// Hint for a file that is one of several shards.
pub(super) const SHARD_HINT: &str =
    "this is one of several files: give the index, which ends in .index.json, with all of them next to it; ";

/// Returns whether a file has a shard's name, such as `model-00001-of-00003.safetensors`.
fn is_shard(origin: &str) -> bool {
    origin.split_once("-of-").is_some_and(|(before, after)| {
        before.ends_with(|c: char| c.is_ascii_digit()) && after.starts_with(|c: char| c.is_ascii_digit())
    })
}
