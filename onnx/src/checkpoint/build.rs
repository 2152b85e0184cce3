//! Construction of a backbone from the tensors of a checkpoint.

use std::collections::BTreeMap;

use clr_adapters::Head;

use super::architecture_spec::{Parameter, Wanted};
use super::choose::{Choice, choose};
use super::config::Config;
use super::fit::{Fit, body_parts, first_part};
use super::head::{self, Linear};
use super::pickle::Element;
use super::spelling::Spelling;
use super::weights::{Entry, Weights};
use super::{ImportError, ImportOptions, refuse};
use crate::{Backbone, Graph};

/// Builds the backbone from the set of weights selected by `options`, with notes on the selection and on what was not
/// read.
pub(super) fn backbone(
    mut weights: Weights<'_>,
    config: &Config,
    origin: &str,
    options: &ImportOptions,
) -> Result<Backbone, ImportError> {
    refuse::if_empty(&weights, origin)?;
    weights.stated.extend(config.stated.iter().cloned());
    let Choice { fit, others, mut notes } = choose(&weights, options.architecture, options.weights.as_deref(), origin)
        .map_err(|error| match error {
            ImportError::UnknownArchitecture { .. } | ImportError::Mismatch { .. } => {
                refuse::for_kind(&weights, origin).unwrap_or(error)
            }
            error => error,
        })?;
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
    notes.extend(other_layers(&weights, &fit, options, origin)?);
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

/// Notes layers without weights that the architecture does not have.
///
/// # Errors
/// [`ImportError`] if such layers are inside the network's body, unless the caller gave the architecture.
fn other_layers(
    weights: &Weights<'_>,
    fit: &Fit,
    options: &ImportOptions,
    origin: &str,
) -> Result<Option<String>, ImportError> {
    let parts = body_parts(&fit.spec);
    let list = |layers: &[(&str, &str)]| {
        let shown = layers.iter().take(6).map(|(class, name)| format!("`{name}` ({class})"));
        shown.collect::<Vec<_>>().join(", ")
    };
    let (inside, outside): (Vec<_>, Vec<_>) =
        weights
            .settings
            .unknown(&fit.prefix)
            .into_iter()
            .partition(|(_, name)| {
                let part = first_part(name);
                parts.contains(part) || BETWEEN.contains(&part)
            });
    if !inside.is_empty() && options.architecture.is_none() {
        return Err(ImportError::Container {
            origin: origin.to_owned(),
            reason: format!(
                "its tensors fit {0}, but the pickled module has other layers than {0}: {1}\nhint: export ONNX with torch.onnx.export; or read it as {0} all the same with --architecture {0}",
                fit.architecture,
                list(&inside)
            ),
        });
    }
    let all = [inside, outside].concat();
    Ok((!all.is_empty()).then(|| format!("layers of the pickled module are not read: {}", list(&all))))
}

/// Parts of the names of layers without weights that occur between the layers of the body.
const BETWEEN: [&str; 12] = [
    "relu",
    "act",
    "act1",
    "act2",
    "maxpool",
    "avgpool",
    "global_pool",
    "pool",
    "pooler",
    "2",
    "3",
    "8",
];

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
    let graph = fit.spec.graph(|_, wanted| match wanted {
        Wanted::Conv(parameter) => vec![take(parameter)],
        Wanted::Norm(parameters) => parameters.iter().map(&mut take).collect(),
    });
    match failed {
        Some(error) => Err(error),
        None => Ok((graph, types)),
    }
}

/// Returns `tensor` if all its values are finite in f32.
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
        features: fit.spec.features,
        weight,
        bias,
    })
}

/// Returns a note on properties that the tensors do not show and that their names leave open.
fn arithmetic(fit: &Fit, options: &ImportOptions) -> Option<String> {
    let open = fit.spelling == Spelling::Timm && fit.architecture.name().contains("lite");
    (open && options.architecture.is_some()).then(|| format!("read as {}", fit.architecture.title()))
}
