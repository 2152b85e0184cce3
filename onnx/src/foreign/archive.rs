//! Zip archives: by the names of the files in them.

use std::io::Cursor;

use super::{Foreign, quoted};

/// The most names that are looked at, and named in a message.
const MAX_NAMES: usize = 10_000;
const SHOWN: usize = 3;
/// The ends of names of models that are read.
const MODELS: [&str; 6] = [".onnx", ".pth", ".pt", ".ckpt", ".safetensors", ".bin"];

/// What a zip archive is, unless it is a checkpoint of PyTorch.
pub(super) fn recognise(bytes: &[u8], origin: &str) -> Option<Foreign> {
    if !bytes.starts_with(b"PK") {
        return None;
    }
    let archive = zip::ZipArchive::new(Cursor::new(bytes)).ok()?;
    let names: Vec<_> = archive.file_names().take(MAX_NAMES).flatten().collect();
    let has = |wanted: &str| {
        names
            .iter()
            .any(|name| name == wanted || name.ends_with(&format!("/{wanted}")))
    };
    let holds = |part: &str| names.iter().any(|name| name.contains(part));
    let ends = |end: &str| names.iter().find(|name| name.to_lowercase().ends_with(end));
    if has("constants.pkl") && holds("code/") {
        return Some(Foreign::new(
            "a TorchScript program, expected ONNX or a state dict",
            format!(
                "export it: python -c \"import torch; torch.onnx.export(torch.jit.load('{origin}', 'cpu').eval(), \
                 torch.zeros(1, 3, 224, 224), 'model.onnx', dynamo=False)\", with the size of its images; or save its weights: \
                 torch.save(torch.jit.load('{origin}', 'cpu').state_dict(), 'weights.pth')"
            ),
        ));
    }
    if has("serialized_exported_program.json") || has("archive_format") || holds("models/model.json") {
        return Some(Foreign::new(
            "a program of torch.export, expected ONNX or a state dict",
            format!(
                "export it: python -c \"import torch; torch.onnx.export(torch.export.load('{origin}'), f='model.onnx', \
                 dynamo=True)\""
            ),
        ));
    }
    if has("data.pkl") {
        return None;
    }
    Some(if has("model.weights.h5") {
        Foreign::new("a Keras model, expected ONNX", keras(origin))
    } else if ends(".mlmodel").is_some() || holds("com.apple.CoreML") {
        Foreign::compiled("a Core ML package, expected ONNX")
    } else if has("saved_model.pb") {
        Foreign::new(
            "a zip archive with a TensorFlow SavedModel, expected ONNX",
            "unpack it, then: pip install tf2onnx; python -m tf2onnx.convert --saved-model FOLDER --opset 17 --output model.onnx",
        )
    } else if holds(".data/extern_modules") {
        Foreign::new(
            "an archive of torch.package, expected ONNX or a state dict",
            "load the model in Python and save its weights: torch.save(model.state_dict(), 'weights.pth')",
        )
    } else if let Some(model) = MODELS.iter().find_map(|end| ends(end)) {
        Foreign::new(
            format!("a zip archive with `{model}`, expected that file itself"),
            format!("unpack it: unzip {}", quoted(origin)),
        )
    } else if !names.is_empty() && names.iter().all(|name| name.to_lowercase().ends_with(".npy")) {
        Foreign::new(
            "a NumPy archive, expected an ONNX model or a checkpoint",
            "in Python: torch.save({k: torch.from_numpy(v) for k, v in numpy.load(path).items()}, 'weights.pth')",
        )
    } else {
        let shown = match names.len() {
            0 => String::new(),
            count => format!(" ({})", names[..count.min(SHOWN)].join(", ")),
        };
        Foreign::new(
            format!(
                "a zip archive of {} file(s){shown}, expected an ONNX model or a checkpoint",
                names.len()
            ),
            format!("unpack it, and give the model in it: unzip {}", quoted(origin)),
        )
    })
}

/// The way from a Keras file to ONNX. A model that was loaded exports only after a first call.
pub(super) fn keras(origin: &str) -> String {
    format!(
        "export it: python -c \"import keras; m = keras.models.load_model('{origin}'); m(keras.ops.zeros((1, \
         *m.input_shape[1:]))); m.export('model.onnx', format='onnx')\""
    )
}
