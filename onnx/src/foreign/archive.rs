//! Recognition of zip archives by the names of their files.

#[cfg(feature = "import")]
use std::io::Cursor;

use super::Foreign;
#[cfg(feature = "import")]
use crate::message::quoted;

/// Maximum number of names that are examined.
#[cfg(feature = "import")]
const MAX_NAMES: usize = 10_000;

/// Returns the kind of a zip archive. `None` if it may be from PyTorch, because the checkpoint import reports these.
#[cfg(feature = "import")]
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
    Some(if has("model.weights.h5") {
        Foreign::new("a Keras model, expected ONNX", keras(origin))
    } else if ends(".mlmodel").is_some() || holds("com.apple.CoreML") {
        Foreign::compiled("a Core ML package, expected ONNX")
    } else if has("saved_model.pb") {
        Foreign::new(
            "a zip archive with a TensorFlow SavedModel, expected ONNX",
            "unpack it, then: pip install tf2onnx; python -m tf2onnx.convert --saved-model FOLDER --opset 17 --output model.onnx",
        )
    } else {
        let model = ends(".onnx")?;
        Foreign::new(
            format!("a zip archive with `{model}`, expected that file itself"),
            format!("unpack it: unzip {}", quoted(origin)),
        )
    })
}

/// Without the feature `import`, archives are not opened.
#[cfg(not(feature = "import"))]
pub(super) fn recognise(_: &[u8], _: &str) -> Option<Foreign> {
    None
}

/// Returns the hint for converting a Keras file to ONNX. A loaded model can be exported only after it has been called
/// once.
pub(super) fn keras(origin: &str) -> String {
    format!(
        "export it: python -c \"import keras; m = keras.models.load_model('{origin}'); m(keras.ops.zeros((1, \
         *m.input_shape[1:]))); m.export('model.onnx', format='onnx')\""
    )
}
