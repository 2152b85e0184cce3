//! Sharded weights: several files listed by an index, `model.safetensors.index.json` or `pytorch_model.bin.index.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::weights::Weights;
use super::{ImportError, MAX_CHECKPOINT_BYTES, read};

/// Maximum number of files in an index.
const MAX_FILES: usize = 1024;

/// Names of weight files in a folder, as in Transformers.
const IN_FOLDER: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Returns the weights in `path` if that is a folder with weights, otherwise `path`.
pub(super) fn file_of(path: &Path) -> PathBuf {
    let inside = IN_FOLDER.map(|name| path.join(name));
    inside
        .into_iter()
        .find(|file| file.is_file())
        .unwrap_or_else(|| path.to_owned())
}

/// The file of every tensor.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files of an index, read.
#[derive(Debug)]
pub(super) struct Shards {
    /// Paths and contents, sorted by path.
    files: Vec<(String, Vec<u8>)>,
    /// For each tensor, the index of the file that contains it.
    places: BTreeMap<String, usize>,
}

/// Returns whether `bytes` are such an index.
pub(super) fn is_index(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    let start = &start[..start.len().min(1 << 16)];
    start.first() == Some(&b'{') && start.windows(12).any(|window| window == b"\"weight_map\"")
}

impl Shards {
    /// Reads the files listed by the index `bytes` at `path`. They are in the same folder.
    pub(super) fn load(bytes: &[u8], path: &Path) -> Result<Self, ImportError> {
        let origin = path.display();
        let refuse = |reason: String| ImportError::Container {
            origin: origin.to_string(),
            reason,
        };
        let index: Index = serde_json::from_slice(bytes).map_err(|error| refuse(format!("index: {error}")))?;
        let mut names: Vec<&str> = index.weight_map.values().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() > MAX_FILES {
            return Err(refuse(format!("index: at most {MAX_FILES} files, got {}", names.len())));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut files = Vec::with_capacity(names.len());
        let mut total = 0;
        for name in &names {
            if name.is_empty() || name.contains(['/', '\\', ':']) || name.starts_with("..") {
                return Err(refuse(format!(
                    "index: expected names of files next to it, got `{name}`"
                )));
            }
            let shard = folder.join(name);
            if !shard.exists() {
                return Err(refuse(format!(
                    "`{name}` is listed and missing ({} of {} files are there)\nhint: put it into the same folder",
                    names.iter().filter(|name| folder.join(name).exists()).count(),
                    names.len()
                )));
            }
            let content = read(&shard)?;
            total += content.len() as u64;
            if total > MAX_CHECKPOINT_BYTES {
                return Err(ImportError::TooLarge {
                    origin: origin.to_string(),
                    what: "bytes of all files",
                    limit: MAX_CHECKPOINT_BYTES,
                    got: total,
                });
            }
            files.push((shard.display().to_string(), content));
        }
        let places = index
            .weight_map
            .iter()
            .filter_map(|(tensor, file)| Some((tensor.clone(), names.binary_search(&file.as_str()).ok()?)))
            .collect();
        Ok(Self { files, places })
    }

    /// Returns the tensors of all files, each from the file that the index states.
    pub(super) fn weights(&self) -> Result<Weights<'_>, ImportError> {
        let mut all = Weights::default();
        for (number, (origin, bytes)) in self.files.iter().enumerate() {
            let Some(mut weights) = super::weights_of(bytes, origin)? else {
                return Err(ImportError::Container {
                    origin: origin.clone(),
                    reason:
                        "neither safetensors nor a file of torch.save\nhint: the file may be incomplete; fetch it again"
                            .into(),
                });
            };
            weights.entries.retain(|name, _| self.places.get(name) == Some(&number));
            let missing = self
                .places
                .iter()
                .find(|&(name, &place)| place == number && !weights.entries.contains_key(name));
            if let Some((tensor, _)) = missing {
                return Err(ImportError::Tensor {
                    origin: origin.clone(),
                    tensor: tensor.clone(),
                    reason: "the index says that it is in this file, and it is not\nhint: index and files must be of one download"
                        .into(),
                });
            }
            all.merge(weights);
        }
        Ok(all)
    }
}
