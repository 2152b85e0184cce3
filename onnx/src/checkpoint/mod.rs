//! Checkpoints of known architectures to backbones.

mod architecture;
mod efficientnet_lite;
mod error;
mod mobilenet;
mod pickle;
mod plan;
mod resnet;
mod safetensors;
mod seeded;
mod state;
#[cfg(test)]
mod tests;
mod torch;
mod views;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{
    Backbone, Origin, PreprocessingOrigins, ReadOptions, StatedPreprocessing, foreign, import as onnx,
    preprocess::stated_next_to,
};

pub use architecture::Architecture;
pub use error::{ImportError, TensorProblem};
pub use seeded::seeded_backbone;

/// The longest checkpoint, in bytes; that of a ResNet-50 has 100 MB.
const MAX_CHECKPOINT_BYTES: u64 = 2 << 30;

/// What a file does not say by itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportOptions {
    /// The architecture of a state dict; guessed from names and shapes if absent. ONNX files need none.
    pub architecture: Option<Architecture>,
    /// One label per class of the file's own classifier.
    pub labels: Option<Vec<String>>,
    /// Parts of the preprocessing, instead of what the file or the architecture says.
    pub preprocessing: StatedPreprocessing,
    /// The backbone's name, instead of that in the ONNX file's metadata or the architecture's.
    pub name: Option<String>,
    /// What an ONNX file leaves open.
    pub onnx: ReadOptions,
}

/// Reads a backbone from an ONNX file, a PyTorch state dict (`torch.save`, the zip format and the one before it) or a
/// `.safetensors` file. The content decides, not the extension. Nothing in the file is executed; memory stays within
/// a small multiple of the file's length.
///
/// In a state dict, names may start with `module.`, and the weights may lie under `state_dict`, `model` or
/// `model_state_dict`. Tensors of half and double precision and of integers become f32.
///
/// # Errors
/// [`ImportError`]: the file is damaged, of unknown format, refers to anything but tensors, or does not fit the architecture; then every
/// tensor in question is listed.
pub fn import(path: &Path, options: &ImportOptions) -> Result<Backbone, ImportError> {
    let bytes = read(path)?;
    import_from(&bytes, &path.display().to_string(), Some(path), options)
}

/// [`import`] for a file in memory; `origin` names it in errors.
///
/// # Errors
/// As [`import`].
pub fn import_bytes(bytes: &[u8], origin: &str, options: &ImportOptions) -> Result<Backbone, ImportError> {
    import_from(bytes, origin, None, options)
}

/// `path` is the file's, if it has one: an ONNX file may have its weights in others next to it, and its preprocessing.
fn import_from(
    bytes: &[u8],
    origin: &str,
    path: Option<&Path>,
    options: &ImportOptions,
) -> Result<Backbone, ImportError> {
    foreign::refuse(bytes, origin)?;
    let state = match bytes {
        [b'P', b'K', 3 | 5, 4 | 6, ..] => torch::read_zip(bytes, origin)?,
        [0x80, 2..=5, ..] => torch::read_legacy(bytes, origin)?,
        _ if safetensors::is_safetensors(bytes) => safetensors::read(bytes, origin)?,
        // A ModelProto starts with one of its first fields: IR version, opset import, or the producer's name.
        [0x08 | 0x12 | 0x1a | 0x3a | 0x42, ..] => {
            let mut reading = options.onnx.clone();
            reading.two_classes |= options.labels.as_ref().is_some_and(|labels| labels.len() == 2);
            return finish(onnx::backbone(bytes, origin, path, &reading)?, options);
        }
        _ => {
            return Err(ImportError::UnknownFormat {
                origin: origin.to_owned(),
            });
        }
    };
    let architecture = options.architecture.or_else(|| architecture::guess(&state));
    let Some(architecture) = architecture else {
        return Err(ImportError::UnknownArchitecture {
            origin: origin.to_owned(),
            count: state.tensors.len(),
            first: state.tensors.keys().take(5).cloned().collect(),
        });
    };
    let (graph, head) = architecture::build(architecture, state, origin)?;
    let name = options.name.clone().unwrap_or_else(|| architecture.name().to_owned());
    let mut backbone = Backbone::new(name, graph, head, None, architecture.preprocessing())?
        .with_origins(PreprocessingOrigins::all(Origin::Architecture));
    if let Some(stated) = path.and_then(stated_next_to) {
        backbone = backbone.with_stated(&stated, Origin::Config)?;
    }
    finish(backbone, options)
}

fn finish(mut backbone: Backbone, options: &ImportOptions) -> Result<Backbone, ImportError> {
    backbone = backbone.with_stated(&options.preprocessing, Origin::Option)?;
    if let Some(labels) = &options.labels {
        backbone = backbone.with_labels(labels.clone())?;
    }
    if let Some(name) = &options.name {
        backbone = backbone.with_name(name.clone());
    }
    Ok(backbone)
}

fn read(path: &Path) -> Result<Vec<u8>, ImportError> {
    let fail = |source| ImportError::Io {
        path: path.to_owned(),
        source,
    };
    foreign::refuse_folder(path)?;
    let file = File::open(path).map_err(fail)?;
    let length = file.metadata().map_err(fail)?.len();
    if length > MAX_CHECKPOINT_BYTES {
        return Err(ImportError::TooLarge {
            origin: path.display().to_string(),
            what: "bytes",
            limit: MAX_CHECKPOINT_BYTES,
            got: length,
        });
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(MAX_CHECKPOINT_BYTES).read_to_end(&mut bytes).map_err(fail)?;
    Ok(bytes)
}
