//! This library's entries in a model's `metadata_props`, opaque to other tools.
//!
//! | key | value |
//! |---|---|
//! | `clr.preprocessing` | JSON of [`Preprocessing`] |
//! | `clr.preprocessing_origins` | JSON of [`PreprocessingOrigins`]: where each part came from at import |
//! | `clr.labels` | JSON list of the classifier's labels |
//! | `clr.classifier` | `present` or `absent`: whether the last dense layer is a classifier or part of the backbone |
//! | `clr.bias_units` | hexadecimal f16 of [`BiasUnits`], with a space after each site |
//! | `clr.opaque` | JSON list of [`StepEntry`]: the nodes of each opaque step |
//!
//! Any other key that starts with `clr.` is an error, and so is an unknown field in the JSON, because its meaning could
//! affect all results.

use clr_adapters::Preprocessing;

use crate::{OnnxError, PreprocessingOrigins, bias_units::BiasUnits, proto::ModelProto};

const OURS: &str = "clr.";
const PREPROCESSING: &str = "clr.preprocessing";
const ORIGINS: &str = "clr.preprocessing_origins";
const LABELS: &str = "clr.labels";
const CLASSIFIER: &str = "clr.classifier";
const OPAQUE: &str = "clr.opaque";
const BIAS_UNITS: &str = "clr.bias_units";

/// An opaque step in a file, given by its nodes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepEntry {
    /// Name of the step in the graph.
    pub(crate) name: String,
    /// Names of the step's nodes.
    pub(crate) nodes: Vec<String>,
    /// The values that the step reads, in order.
    pub(crate) inputs: Vec<String>,
    /// The value that the step produces.
    pub(crate) output: String,
    /// The output's sizes after the batch: `[C, H, W]` or `[F]`.
    pub(crate) shape: Vec<usize>,
    /// Whether the step supports only a batch of one.
    pub(crate) single: bool,
}

/// The entries of a file. Missing ones are `None` or empty.
#[derive(Default)]
pub(crate) struct Metadata {
    pub(crate) preprocessing: Option<Preprocessing>,
    pub(crate) origins: Option<PreprocessingOrigins>,
    pub(crate) labels: Option<Vec<String>>,
    pub(crate) classifier: Option<bool>,
    pub(crate) steps: Vec<StepEntry>,
    pub(crate) bias_units: Option<BiasUnits>,
}

/// Returns the entries, keys and values.
pub(crate) fn entries(
    preprocessing: &Preprocessing,
    origins: PreprocessingOrigins,
    labels: Option<&[String]>,
    steps: &[StepEntry],
    classifier: bool,
    bias_units: Option<&BiasUnits>,
) -> Vec<(&'static str, String)> {
    // Serialising plain structs of numbers and strings cannot fail. A missing entry would only select the default.
    let mut entries = Vec::new();
    let mut add = |key, json: serde_json::Result<String>| entries.extend(json.ok().map(|json| (key, json)));
    add(PREPROCESSING, serde_json::to_string(preprocessing));
    add(ORIGINS, serde_json::to_string(&origins));
    if let Some(labels) = labels {
        add(LABELS, serde_json::to_string(labels));
    }
    if !steps.is_empty() {
        add(OPAQUE, serde_json::to_string(steps));
    }
    if let Some(units) = bias_units {
        entries.push((BIAS_UNITS, units.to_text()));
    }
    entries.push((CLASSIFIER, if classifier { "present" } else { "absent" }.to_owned()));
    entries
}

/// Reads the entries.
pub(crate) fn read(model: &ModelProto, origin: &str) -> Result<Metadata, OnnxError> {
    let mut metadata = Metadata::default();
    let fail = |key: &str, reason: String| OnnxError::Metadata {
        origin: origin.to_owned(),
        key: key.to_owned(),
        reason,
    };
    let mut seen = std::collections::HashSet::new();
    for entry in &model.metadata_props {
        let (Some(key), Some(value)) = (&entry.key, &entry.value) else {
            continue;
        };
        if !key.starts_with(OURS) {
            continue;
        }
        if !seen.insert(key) {
            return Err(fail(key, "expected once, got twice".to_owned()));
        }
        match key.as_str() {
            PREPROCESSING => metadata.preprocessing = Some(json(value).map_err(|reason| fail(key, reason))?),
            ORIGINS => metadata.origins = Some(json(value).map_err(|reason| fail(key, reason))?),
            LABELS => metadata.labels = Some(json(value).map_err(|reason| fail(key, reason))?),
            OPAQUE => metadata.steps = json(value).map_err(|reason| fail(key, reason))?,
            BIAS_UNITS => {
                metadata.bias_units = Some(BiasUnits::from_text(value).map_err(|reason| fail(key, reason))?);
            }
            CLASSIFIER => {
                metadata.classifier = match value.as_str() {
                    "present" => Some(true),
                    "absent" => Some(false),
                    other => return Err(fail(key, format!("expected `present` or `absent`, got `{other}`"))),
                }
            }
            _ => {
                let known = [PREPROCESSING, ORIGINS, LABELS, CLASSIFIER, OPAQUE, BIAS_UNITS];
                let known = known.map(|key| format!("`{key}`"));
                let reason = format!(
                    "unknown key, expected {}\nhint: correct or remove the key, or use the version that wrote the file",
                    known.join(", ")
                );
                return Err(fail(key, reason));
            }
        }
    }
    Ok(metadata)
}

fn json<T: serde::de::DeserializeOwned>(value: &str) -> Result<T, String> {
    serde_json::from_str(value).map_err(|error| error.to_string())
}
