//! Trained backbones from packages, imported to ONNX once and cached.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use clr_adapters::Encoding;
use clr_onnx::{Architecture, Backbone, ImportOptions};
use serde::Serialize;

use super::{
    FetchError, archive,
    client::{self, Source},
    package::{self, Package},
    squeezenet,
    tasks::is_kind,
};
use crate::{
    cache::{self, Cache},
    progress::Progress,
};

/// A backbone that can be fetched.
#[derive(Debug)]
pub struct BackboneItem {
    /// Its name in `clr fetch`.
    pub name: &'static str,
    /// The package with its weights.
    pub package: &'static Package,
    /// The kind of the package's weights.
    pub weights: Weights,
    /// Architecture, training data and input size in pixels.
    pub title: &'static str,
    /// The file of its background, fitted to the training images of all tasks at 96 pixels and at its own size.
    pub background: &'static [u8],
}

/// Kind of a package's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weights {
    /// A `.pth` file of PyTorch with weights of this architecture.
    Torch(Architecture),
    /// A pickle of `NumPy` arrays with the weights of `SqueezeNet` 1.1.
    SqueezeNet,
}

/// Every backbone.
pub static BACKBONES: &[BackboneItem] = &[
    BackboneItem {
        name: "lite0",
        package: &package::LITE0,
        weights: Weights::Torch(Architecture::EfficientNetLite0),
        title: "EfficientNet-Lite0, ImageNet, 224 px",
        background: include_bytes!("../backgrounds/lite0.background"),
    },
    BackboneItem {
        name: "lite1",
        package: &package::LITE1,
        weights: Weights::Torch(Architecture::EfficientNetLite1),
        title: "EfficientNet-Lite1, ImageNet, 240 px",
        background: include_bytes!("../backgrounds/lite1.background"),
    },
    BackboneItem {
        name: "lite2",
        package: &package::LITE2,
        weights: Weights::Torch(Architecture::EfficientNetLite2),
        title: "EfficientNet-Lite2, ImageNet, 260 px",
        background: include_bytes!("../backgrounds/lite2.background"),
    },
    BackboneItem {
        name: "squeezenet",
        package: &package::NDF,
        weights: Weights::SqueezeNet,
        title: "SqueezeNet 1.1 (dense), ImageNet, 227 px",
        background: include_bytes!("../backgrounds/squeezenet.background"),
    },
];

/// Returns the backbone of this name.
pub fn find_backbone(name: &str) -> Option<&'static BackboneItem> {
    BACKBONES.iter().find(|item| item.name == name)
}

/// A backbone on disk.
#[derive(Clone, Debug, Serialize)]
pub struct FetchedBackbone {
    /// Its name in `clr fetch`.
    pub name: &'static str,
    /// The ONNX file.
    pub path: PathBuf,
    /// Path of the backbone's own classifier as an adapter.
    pub original_adapter: PathBuf,
    /// Path of the backbone's background.
    pub background: PathBuf,
    /// Whether the backbone was already cached.
    pub cached: bool,
    /// The licence of the weights, as an SPDX expression.
    pub licence: &'static str,
}

/// Returns the imported backbone from the cache, or imports it from its package first.
pub fn fetch_backbone(
    item: &'static BackboneItem,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<FetchedBackbone, FetchError> {
    let fetched = |cached| FetchedBackbone {
        name: item.name,
        path: cache.backbone(&format!("{}.onnx", item.name)),
        original_adapter: cache.backbone(&format!("{}.original.clr", item.name)),
        background: Backbone::background_path(&cache.backbone(&format!("{}.onnx", item.name))),
        cached,
        licence: item.package.licence,
    };
    let done = fetched(true);
    if done.path.exists() && done.original_adapter.exists() {
        ensure_background(item, &done, cache)?;
        return Ok(done);
    }
    let source = client::ensure(item.package, cache, progress)?;
    let work = cache.work()?;
    let backbone = import(item, &source, cached_imagenet_labels(cache))?;
    // The other files are written first, so that an existing backbone implies all of them.
    ensure_background(item, &done, cache)?;
    if let Some(adapter) = backbone.original_adapter() {
        let path = work.path().join("original.clr");
        write_durably(&path, &clr_adapters::encode(&adapter, Encoding::F32)?)?;
        cache::install(&path, &done.original_adapter)?;
    }
    let path = work.path().join("backbone.onnx");
    backbone.save(&path)?;
    cache::install(&path, &done.path)?;
    Ok(fetched(false))
}

/// Writes the background unless there is one. An existing one stays, because adapters that were trained with it name it.
fn ensure_background(item: &BackboneItem, done: &FetchedBackbone, cache: &Cache) -> Result<(), FetchError> {
    if done.background.exists() {
        return Ok(());
    }
    let work = cache.work()?;
    let part = work.path().join("background");
    write_durably(&part, item.background)?;
    cache::install(&part, &done.background)
}

fn import(item: &BackboneItem, source: &Source, labels: Option<Vec<String>>) -> Result<Backbone, FetchError> {
    match item.weights {
        Weights::Torch(architecture) => {
            let checkpoint = archive::one(source, &|name| is_kind(name, "pth"), ".pth file")?;
            let options = ImportOptions::default()
                .with_architecture(architecture)
                .with_labels(labels)
                .with_name(item.name.to_owned());
            Ok(clr_onnx::import_bytes(&checkpoint, &source.file(), &options)?)
        }
        Weights::SqueezeNet => {
            let pickle = archive::one(source, &|name| is_kind(name, "pkl"), ".pkl file")?;
            squeezenet::backbone(item.name, &pickle, &source.file(), labels)
        }
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), FetchError> {
    let failed = |source| FetchError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    };
    let mut file = fs::File::create_new(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}

/// Returns the 1,000 ImageNet names if `opencv-doc` is already cached. It is not downloaded for the names alone,
/// because it has 96 MB.
fn cached_imagenet_labels(cache: &Cache) -> Option<Vec<String>> {
    if !client::is_cached(&package::OPENCV_DOC, cache) {
        return None;
    }
    let source = client::ensure(&package::OPENCV_DOC, cache, &()).ok()?;
    let wanted = |name: &str| name.ends_with("classification_classes_ILSVRC2012.txt");
    let text = archive::one(&source, &wanted, "ImageNet names").ok()?;
    parse_labels(&String::from_utf8_lossy(&text))
        .ok()
        .filter(|labels| labels.len() == 1_000)
}

/// Reads labels from a text file: one per line, in class order.
pub fn read_labels(path: &Path) -> Result<Vec<String>, FetchError> {
    let bytes = std::fs::read(path).map_err(|source| FetchError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let text = clr_adapters::text_from_bytes(bytes)
        .map_err(|error| FetchError::content(path.display().to_string(), error.to_string()))?;
    parse_labels(&text).map_err(|detail| FetchError::content(path.display().to_string(), detail))
}

fn parse_labels(text: &str) -> Result<Vec<String>, &'static str> {
    let labels: Vec<String> = text.trim_end().lines().map(|line| line.trim().to_owned()).collect();
    if labels.iter().any(String::is_empty) {
        return Err("an empty line among the labels: expected one label per line, in class order");
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backgrounds_belong_to_the_weights() {
        // The digests of the imported weights, as `clr inspect` shows them, and numbers of block statistics.
        let known = [
            ("lite0", "51ffa25a9f33", 1_568),
            ("lite1", "6a9bc52eba6b", 1_568),
            ("lite2", "14499e79fb62", 1_712),
            ("squeezenet", "8c17b6d94764", 640),
        ];
        assert_eq!(known.len(), BACKBONES.len());
        for (name, digest, statistics) in known {
            let item = find_backbone(name).unwrap();
            let background = clr_adapters::Background::decode(item.background).unwrap();
            assert_eq!(background.backbone().short(), digest, "{name}");
            assert_eq!(
                (background.statistics(), background.dimensions()),
                (statistics, 120),
                "{name}"
            );
        }
    }

    #[test]
    fn labels_are_lines_and_a_gap_is_refused() {
        assert_eq!(
            parse_labels("tench\ngreat white shark\n\n").unwrap(),
            ["tench", "great white shark"]
        );
        assert!(parse_labels("a\n\nb\n").is_err());
    }

    #[test]
    fn a_byte_order_mark_is_not_part_of_the_first_label() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\u{feff}tench\r\nshark\r\n").unwrap();
        assert_eq!(read_labels(file.path()).unwrap(), ["tench", "shark"]);
        std::fs::write(file.path(), b"\xff\xfet\0\n\0").unwrap();
        assert!(read_labels(file.path()).unwrap_err().to_string().contains("UTF-16"));
    }
}
