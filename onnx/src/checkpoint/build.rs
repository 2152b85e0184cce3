//! A backbone from the tensors of a checkpoint.

use std::collections::BTreeMap;

use clr_adapters::Head;

use super::choose::{Choice, choose};
use super::config::Config;
use super::fit::Fit;
use super::head::{self, Linear};
use super::pickle::Element;
use super::plan::{Parameter, Wanted};
use super::spelling::Spelling;
use super::weights::{Entry, Source, Weights};
use super::{ImportError, ImportOptions};
use crate::{Backbone, Graph};

/// The backbone of the set of weights that `options` choose, with notes on the choice and on what was not read.
pub(super) fn backbone(
    mut weights: Weights<'_>,
    config: &Config,
    origin: &str,
    options: &ImportOptions,
) -> Result<Backbone, ImportError> {
    refuse_unreadable(&weights, origin)?;
    weights.stated.extend(config.stated.iter().cloned());
    let Choice { fit, others, mut notes } = choose(&weights, options.architecture, options.weights.as_deref(), origin)?;
    if let Some(other) = config.other.as_ref().filter(|_| fit.spelling == Spelling::Transformers) {
        return Err(ImportError::Container {
            origin: origin.to_owned(),
            reason: format!(
                "its config.json: {other}; the network computes something else than {}\nhint: export ONNX with torch.onnx.export and import that",
                fit.architecture
            ),
        });
    }
    let found = head::find(&weights, &fit, &others).map_err(|problem| ImportError::Mismatch {
        origin: origin.to_owned(),
        architecture: fit.architecture,
        problems: vec![problem],
        hint: "the file may be damaged or edited; save it again with torch.save(model.state_dict(), path)".to_owned(),
    })?;
    notes.extend(arithmetic(&fit, options));
    let unknown = weights.settings.unknown_classes(&fit.prefix);
    if !unknown.is_empty() {
        let unknown: Vec<_> = unknown.into_iter().take(6).collect();
        notes.push(format!(
            "the pickled module also has layers without weights that {} does not have, and they are not read: {}",
            fit.architecture,
            unknown.join(", ")
        ));
    }
    notes.extend(found.notes);
    let (graph, mut types) = graph(&fit, &mut weights)?;
    let classifier = match &found.linear {
        Some(layer) => Some(classifier(layer, &fit, &mut weights, &mut types)?),
        None => None,
    };
    notes.extend(converted(&types));
    let architecture = fit.architecture;
    let name = options.name.clone().unwrap_or_else(|| architecture.name().to_owned());
    let backbone = Backbone::new(name, graph, classifier, None, architecture.preprocessing())?;
    Ok(backbone.with_notes(notes))
}

/// Numbers of tensors per type of element.
type Types = BTreeMap<&'static str, usize>;

fn count(types: &mut Types, weights: &Weights<'_>, name: &str) {
    let kind = match weights.entries.get(name).and_then(Entry::element) {
        Some(Element::F16) => "float16",
        Some(Element::Bf16) => "bfloat16",
        Some(Element::F64) => "float64",
        _ => return,
    };
    *types.entry(kind).or_default() += 1;
}

fn converted(types: &Types) -> impl Iterator<Item = String> {
    types.iter().map(|(kind, count)| match *kind {
        "float64" => format!("{count} tensors of float64 were rounded to float32"),
        kind => format!("{count} tensors of {kind} were widened to float32, exactly"),
    })
}

fn graph(fit: &Fit, weights: &mut Weights<'_>) -> Result<(Graph, Types), ImportError> {
    let (mut types, mut failed) = (Types::new(), None);
    let mut take = |parameter: &Parameter| {
        let name = [fit.prefix.as_str(), &parameter.name].concat();
        count(&mut types, weights, &name);
        weights
            .read(&name)
            .and_then(|tensor| finite(tensor, &name, weights))
            .unwrap_or_else(|error| {
                failed.get_or_insert(error);
                crate::Tensor::new([0], [])
            })
    };
    let graph = fit.plan.graph(|_, wanted| match wanted {
        Wanted::Conv(parameter) => vec![take(parameter)],
        Wanted::Norm(parameters) => parameters.iter().map(&mut take).collect(),
    });
    match failed {
        Some(error) => Err(error),
        None => Ok((graph, types)),
    }
}

/// `tensor`, if all of its values are numbers that f32 can hold.
fn finite(tensor: crate::Tensor, name: &str, weights: &Weights<'_>) -> Result<crate::Tensor, ImportError> {
    let Some(index) = tensor.data().iter().position(|value| !value.is_finite()) else {
        return Ok(tensor);
    };
    Err(ImportError::Tensor {
        origin: weights
            .entries
            .get(name)
            .map_or_else(String::new, |entry| entry.origin.to_string()),
        tensor: name.to_owned(),
        reason: format!(
            "element {index}: expected a finite number, got {}\nhint: the training has diverged; import an earlier checkpoint",
            tensor.data()[index]
        ),
    })
}

fn classifier(layer: &Linear, fit: &Fit, weights: &mut Weights<'_>, types: &mut Types) -> Result<Head, ImportError> {
    count(types, weights, &layer.weight);
    let mut values = |name: &str| {
        let tensor = weights.read(name)?;
        Ok::<_, ImportError>(finite(tensor, name, weights)?.data().to_vec())
    };
    let weight = values(&layer.weight)?;
    let bias = match &layer.bias {
        Some(bias) => values(bias)?,
        None => vec![0.0; layer.classes],
    };
    Ok(Head {
        features: fit.plan.features,
        weight,
        bias,
    })
}

/// What the tensors do not show, where the names leave it open.
fn arithmetic(fit: &Fit, options: &ImportOptions) -> Option<String> {
    let open = fit.spelling == Spelling::Timm && fit.architecture.name().contains("lite");
    (open && options.architecture.is_some()).then(|| format!("read as {}", fit.architecture.title()))
}

/// Files whose tensors are mostly of a kind that cannot be read, named by their first one.
fn refuse_unreadable(weights: &Weights<'_>, origin: &str) -> Result<(), ImportError> {
    if weights.entries.is_empty() {
        return Err(ImportError::Container {
            origin: origin.to_owned(),
            reason: "there are no tensors in it\nhint: save the weights with torch.save(model.state_dict(), path)"
                .into(),
        });
    }
    let unreadable = || {
        weights.entries.iter().filter_map(|(name, entry)| match &entry.source {
            Source::Unreadable(reason) => Some((name, reason)),
            _ => None,
        })
    };
    let Some((tensor, reason)) = unreadable()
        .next()
        .filter(|_| 2 * unreadable().count() > weights.entries.len())
    else {
        return Ok(());
    };
    let hint = if reason.contains("_reconstruct") {
        "in Python: torch.save({k: torch.from_numpy(v) for k, v in weights.items()}, \"weights.pth\")"
    } else if reason.contains("qtensor") {
        "this is a quantised network: save the float model's state_dict before its conversion"
    } else {
        "save the weights as float32 with torch.save(model.float().state_dict(), path)"
    };
    Err(ImportError::Tensor {
        origin: origin.to_owned(),
        tensor: tensor.clone(),
        reason: format!("{reason}\nhint: {hint}"),
    })
}
