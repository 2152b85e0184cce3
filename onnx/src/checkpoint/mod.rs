//! Checkpoints of known architectures to backbones.

mod architecture;
mod build;
mod choose;
mod config;
mod efficientnet_lite;
mod error;
mod fit;
mod foreign;
mod head;
mod mobilenet;
mod pickle;
mod plan;
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

use clr_adapters::Preprocessing;

use crate::Backbone;

use config::Config;
use shards::Shards;
use weights::Weights;

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
    /// Instead of the preprocessing in the ONNX file's metadata or that of the architecture.
    pub preprocessing: Option<Preprocessing>,
    /// Which set of weights to read where a checkpoint has several: a key or path, or `model` or `ema` in general.
    pub weights: Option<String>,
    /// The backbone's name, instead of that in the ONNX file's metadata or the architecture's.
    pub name: Option<String>,
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
    if shards::is_index(&bytes) {
        let shards = Shards::load(&bytes, path)?;
        let weights = shards.weights()?;
        return finish(
            build::backbone(weights, &Config::next_to(path), &path.display().to_string(), options)?,
            options,
        );
    }
    import_with(&bytes, &path.display().to_string(), &Config::next_to(path), options)
}

/// [`import`] for a file in memory; `origin` names it in errors.
///
/// # Errors
/// As [`import`].
pub fn import_bytes(bytes: &[u8], origin: &str, options: &ImportOptions) -> Result<Backbone, ImportError> {
    import_with(bytes, origin, &Config::default(), options)
}

fn import_with(bytes: &[u8], origin: &str, config: &Config, options: &ImportOptions) -> Result<Backbone, ImportError> {
    if let Some(weights) = weights_of(bytes, origin)? {
        return finish(build::backbone(weights, config, origin, options)?, options);
    }
    match bytes {
        // A ModelProto starts with one of its first fields: IR version, opset import, or the producer's name.
        [0x08 | 0x12 | 0x1a | 0x3a | 0x42, ..] => finish(Backbone::from_bytes(bytes, origin)?, options),
        _ => Err(ImportError::UnknownFormat {
            origin: origin.to_owned(),
        }),
    }
}

/// The tensors of a file of `torch.save` or a `.safetensors` file; nothing if it is of another format.
fn weights_of<'a>(bytes: &'a [u8], origin: &str) -> Result<Option<Weights<'a>>, ImportError> {
    Ok(Some(match bytes {
        [b'P', b'K', 3 | 5, 4 | 6, ..] => torch::read_zip(bytes, origin)?,
        [0x80, 2..=5, ..] => torch::read_legacy(bytes, origin)?,
        _ if safetensors::is_safetensors(bytes) => safetensors::read(bytes, origin)?,
        _ => return Ok(None),
    }))
}

fn finish(mut backbone: Backbone, options: &ImportOptions) -> Result<Backbone, ImportError> {
    if let Some(preprocessing) = &options.preprocessing {
        backbone = backbone.with_preprocessing(preprocessing.clone())?;
    }
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
