//! Checkpoints of known architectures to backbones.

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
pub use seeded::seeded_backbone;

/// The longest checkpoint, in bytes; that of a ResNet-50 has 100 MB.
const MAX_CHECKPOINT_BYTES: u64 = 2 << 30;

/// Options for information that the file lacks.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ImportOptions {
    /// The architecture of a state dict; guessed from names and shapes if absent. ONNX files need none.
    pub architecture: Option<Architecture>,
    /// One label per class of the file's own classifier.
    pub labels: Option<Vec<String>>,
    /// Parts of the preprocessing, instead of what the file or the architecture says.
    pub preprocessing: StatedPreprocessing,
    /// Set of weights to read from a checkpoint with several: a key or path, or `model` or `ema` in general.
    pub weights: Option<String>,
    /// The backbone's name, instead of that in the ONNX file's metadata or the architecture's.
    pub name: Option<String>,
    /// Options for information that an ONNX file lacks.
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

    /// Sets which weights of a checkpoint are read.
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

    /// Sets what an ONNX file leaves open.
    #[must_use]
    pub fn with_onnx(mut self, onnx: ReadOptions) -> Self {
        self.onnx = onnx;
        self
    }
}

/// Reads a backbone from an ONNX file, a file of `torch.save` (the zip format and the one before it), a `.safetensors` file, or
/// the `.index.json` of several such files; or from a folder with such a file under the name that Transformers gives it. The content decides, not the extension. Nothing in the file is executed; memory
/// stays within a small multiple of the file's length.
///
/// The weights are found wherever they are in a checkpoint: under any keys, with any prefix, next to other objects, or in a
/// pickled `nn.Module`. Tensors of half and double precision and of integers become f32. A classifier of one linear layer comes
/// along under any name; any other head is left out. [`Backbone::notes`] say what was chosen and what was not read.
///
/// # Errors
/// [`ImportError`]: the file is damaged, of unknown format, or does not fit an architecture; then every tensor in question is
/// listed.
pub fn import(path: &Path, options: &ImportOptions) -> Result<Backbone, ImportError> {
    let file = shards::file_of(path);
    let path = file.as_path();
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

/// `path` is the file's, if it has one: next to it may lie weights and settings.
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

/// Returns the tensors of a file of `torch.save` or a `.safetensors` file; nothing if it is of another format.
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
