//! A folder given in place of a file.

use std::{fs, path::Path};

use super::Foreign;
use crate::message::quoted;

/// Maximum number of entries that are examined, and listed in a message.
const MAX_ENTRIES: usize = 10_000;
const SHOWN: usize = 3;

/// Returns the kind of a folder, with a hint.
pub(super) fn recognise(path: &Path) -> Foreign {
    let entries = fs::read_dir(path).into_iter().flatten().flatten().take(MAX_ENTRIES);
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let shown = quoted(&path.display().to_string());
    if has("saved_model.pb") || has("saved_model.pbtxt") {
        return Foreign::new(
            "a TensorFlow SavedModel folder, expected an ONNX file",
            format!(
                "convert it: pip install tf2onnx; python -m tf2onnx.convert --saved-model {shown} --opset 17 --output model.onnx"
            ),
        );
    }
    if path
        .extension()
        .is_some_and(|extension| extension == "mlpackage" || extension == "mlmodelc")
    {
        return Foreign::compiled("a Core ML package, expected an ONNX file");
    }
    if has("model.json")
        && names
            .iter()
            .any(|name| Path::new(name).extension().is_some_and(|end| end == "bin"))
    {
        return Foreign::new(
            "a TensorFlow.js model, expected an ONNX file",
            "export ONNX from the Keras or TensorFlow model that it was made from",
        );
    }
    let is_model = |name: &&String| {
        let name = name.to_lowercase();
        [".onnx", ".safetensors", ".pth", ".pt", ".safetensors.index.json"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let models: Vec<String> = names
        .iter()
        .filter(is_model)
        .map(|name| path.join(name).display().to_string())
        .collect();
    let hint = match &models[..] {
        [] => "there is no .onnx, .pth, .pt or .safetensors file in it: give the path of the file".to_owned(),
        [model] => format!("give the file in it: {model}"),
        _ => format!(
            "give one of the files in it: {}",
            models[..models.len().min(SHOWN)].join(", ")
        ),
    };
    Foreign::new("a folder, expected a file", hint)
}
