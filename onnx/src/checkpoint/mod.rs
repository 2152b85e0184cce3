//! Import of checkpoints of known architectures as backbones.

mod architecture;
mod architecture_spec;
mod archive;
mod build;
mod choose;
mod config;
mod efficientnet_lite;
mod error;
mod fit;
mod head;
mod mobilenet;
mod numpy;
mod pickle;
mod refuse;
mod resnet;
mod safetensors;
mod seeded;
mod settings;
mod shards;
mod spelling;
#[cfg(test)]
mod tests;
mod torch;
mod views;
mod walk;
mod weights;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{
    Backbone, Origin, PreprocessingOrigins, ReadOptions, StatedPreprocessing, foreign, import as onnx,
    preprocess::stated_next_to,
};

use config::Config;
use shards::Shards;
use weights::Weights;

pub use architecture::Architecture;
pub use error::{ImportError, TensorProblem};
pub use numpy::{NumpyArray, numpy_arrays};
pub use seeded::seeded_backbone;

/// Maximum bytes of a checkpoint; that of a ResNet-50 has 100 MB.
const MAX_CHECKPOINT_BYTES: u64 = 2 << 30;

/// Options for information that the file does not contain.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Architecture of a state dict; recognised from names and shapes if absent. ONNX files do not need it.
    pub architecture: Option<Architecture>,
    /// Labels for the file's own classifier, one per class.
    pub labels: Option<Vec<String>>,
    /// Parts of the preprocessing that replace those of the file or the architecture.
    pub preprocessing: StatedPreprocessing,
    /// Set of weights to read if a checkpoint has several: its key or path, `model` for the trained weights, or `ema` for
    /// the averaged ones.
    pub weights: Option<String>,
    /// Name of the backbone. It replaces the name in the ONNX file's metadata or the name of the architecture.
    pub name: Option<String>,
    /// Options for information that an ONNX file does not contain.
    pub onnx: ReadOptions,
}

impl ImportOptions {
    /// Sets the architecture of a state dict.
    #[must_use]
    pub fn with_architecture(mut self, architecture: impl Into<Option<Architecture>>) -> Self {
        self.architecture = architecture.into();
        self
    }

    /// Sets the labels of the file's own classifier.
    #[must_use]
    pub fn with_labels(mut self, labels: impl Into<Option<Vec<String>>>) -> Self {
        self.labels = labels.into();
        self
    }

    /// Sets parts of the preprocessing.
    #[must_use]
    pub fn with_preprocessing(mut self, preprocessing: StatedPreprocessing) -> Self {
        self.preprocessing = preprocessing;
        self
    }

    /// Sets which weights of a checkpoint to read.
    #[must_use]
    pub fn with_weights(mut self, weights: impl Into<Option<String>>) -> Self {
        self.weights = weights.into();
        self
    }

    /// Sets the backbone's name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<Option<String>>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the options for an ONNX file.
    #[must_use]
    pub fn with_onnx(mut self, onnx: ReadOptions) -> Self {
        self.onnx = onnx;
        self
    }
}

/// Reads a backbone from an ONNX file, a `torch.save` file (the zip format and the older one), a `.safetensors` file,
/// the `.index.json` of several such files, or a folder in which such a file has the name that Transformers gives it.
/// The content decides the format, not the extension. Nothing in the file is executed, and memory stays within a small
/// multiple of the file's length.
///
/// The weights are found anywhere in a checkpoint: under any keys, with any prefix, next to other objects, or in a
/// pickled `nn.Module`. Tensors of half precision, double precision and integers become f32. A classifier that is a
/// single linear layer is read under any name; any other head is left out. [`Backbone::notes`] state what was selected
/// and what was not read.
///
/// # Errors
/// [`ImportError`] if the file is damaged, has an unknown format, or does not match an architecture. In the last case,
/// every affected tensor is listed.
pub fn import(path: &Path, options: &ImportOptions) -> Result<Backbone, ImportError> {
    let file = shards::file_of(path);
    let path = file.as_path();
    let bytes = read(path)?;
    import_from(&bytes, &path.display().to_string(), Some(path), options)
}

/// Reads a backbone from the bytes of a file, like [`import`]. `origin` names the file in errors.
///
/// # Errors
/// [`ImportError`] in the same cases as [`import`].
pub fn import_bytes(bytes: &[u8], origin: &str, options: &ImportOptions) -> Result<Backbone, ImportError> {
    import_from(bytes, origin, None, options)
}

/// Imports `bytes`. `path` is the path of the file, if it has one: weights and settings may be in the same folder.
fn import_from(
    bytes: &[u8],
    origin: &str,
    path: Option<&Path>,
    options: &ImportOptions,
) -> Result<Backbone, ImportError> {
    if let Some(path) = path.filter(|_| shards::is_index(bytes)) {
        let shards = Shards::load(bytes, path)?;
        return of_weights(shards.weights()?, origin, Some(path), options);
    }
    foreign::refuse(bytes, origin)?;
    if let Some(weights) = weights_of(bytes, origin)? {
        return of_weights(weights, origin, path, options);
    }
    match bytes {
        // A ModelProto starts with one of its first fields: IR version, opset import, or the producer's name.
        [0x08 | 0x12 | 0x1a | 0x3a | 0x42, ..] => {
            let mut reading = options.onnx.clone();
            reading.two_classes |= options.labels.as_ref().is_some_and(|labels| labels.len() == 2);
            finish(onnx::backbone(bytes, origin, path, &reading)?, options)
        }
        _ => Err(ImportError::UnknownFormat {
            origin: origin.to_owned(),
        }),
    }
}

fn of_weights(
    weights: Weights<'_>,
    origin: &str,
    path: Option<&Path>,
    options: &ImportOptions,
) -> Result<Backbone, ImportError> {
    let config = path.map(Config::next_to).unwrap_or_default();
    let mut backbone = build::backbone(weights, &config, origin, options)?
        .with_origins(PreprocessingOrigins::all(Origin::Architecture));
    if let Some(stated) = path.and_then(stated_next_to) {
        backbone = backbone.with_stated(&stated, Origin::Config)?;
    }
    finish(backbone, options)
}

/// Returns the tensors of a `torch.save` or `.safetensors` file; `None` if the file has another format.
fn weights_of<'a>(bytes: &'a [u8], origin: &str) -> Result<Option<Weights<'a>>, ImportError> {
    Ok(Some(match bytes {
        [b'P', b'K', 3 | 5, 4 | 6, ..] => torch::read_zip(bytes, origin)?,
        [0x80, 2..=5, ..] => torch::read_legacy(bytes, origin)?,
        _ if safetensors::is_safetensors(bytes) => safetensors::read(bytes, origin)?,
        _ => return Ok(None),
    }))
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
