//! What this library keeps in a model's `metadata_props`, opaque to other tools.
//!
//! | key | value |
//! |---|---|
//! | `clr.preprocessing` | JSON of [`Preprocessing`] |
//! | `clr.labels` | JSON list of the classifier's labels |
//! | `clr.classifier` | `present` or `absent`: whether the last dense layer is a classifier or part of the backbone |

use clr_adapters::Preprocessing;

use crate::{OnnxError, proto::ModelProto, write::Builder};

const PREPROCESSING: &str = "clr.preprocessing";
const LABELS: &str = "clr.labels";
const CLASSIFIER: &str = "clr.classifier";

/// The entries of a file, where it has them.
#[derive(Default)]
pub(crate) struct Metadata {
    pub(crate) preprocessing: Option<Preprocessing>,
    pub(crate) labels: Option<Vec<String>>,
    pub(crate) classifier: Option<bool>,
}

/// Writes the entries.
pub(crate) fn write(builder: &mut Builder, preprocessing: &Preprocessing, labels: Option<&[String]>, classifier: bool) {
    // Plain structs of numbers and strings: their JSON cannot fail, and a missing entry would only mean the default.
    if let Ok(json) = serde_json::to_string(preprocessing) {
        builder.metadata(PREPROCESSING, json);
    }
    if let Some(Ok(json)) = labels.map(serde_json::to_string) {
        builder.metadata(LABELS, json);
    }
    builder.metadata(CLASSIFIER, if classifier { "present" } else { "absent" }.to_owned());
}

/// Reads the entries.
pub(crate) fn read(model: &ModelProto, origin: &str) -> Result<Metadata, OnnxError> {
    let mut metadata = Metadata::default();
    for entry in &model.metadata_props {
        let (Some(key), Some(value)) = (&entry.key, &entry.value) else {
            continue;
        };
        match key.as_str() {
            PREPROCESSING => metadata.preprocessing = Some(json(PREPROCESSING, value, origin)?),
            LABELS => metadata.labels = Some(json(LABELS, value, origin)?),
            CLASSIFIER => metadata.classifier = Some(value == "present"),
            _ => {}
        }
    }
    Ok(metadata)
}

fn json<T: serde::de::DeserializeOwned>(key: &'static str, value: &str, origin: &str) -> Result<T, OnnxError> {
    serde_json::from_str(value).map_err(|error| OnnxError::Metadata {
        origin: origin.to_owned(),
        key,
        reason: error.to_string(),
    })
}
