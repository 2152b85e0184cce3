//! Networks of the benchmarks: any file that `clr import` accepts, or random weights of a known architecture.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clr_onnx::{Architecture, Backbone, ImportOptions, seeded_backbone};

use super::CLASSES;

/// A network, with its names in PyTorch.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) name: String,
    pub(crate) backbone: Backbone,
    /// The file itself, if peers can execute it: an ONNX file with the classifier of `backbone`.
    pub(crate) onnx: Option<PathBuf>,
    /// Possible names of the network in torchvision or timm.
    pub(crate) torch: Vec<String>,
    /// Whether the name was given; otherwise it was guessed from the file's name.
    pub(crate) torch_stated: bool,
}

impl Network {
    /// Imports a file. `torch` is the name that was given for it.
    pub(crate) fn import(path: &Path, torch: Option<&str>) -> anyhow::Result<Self> {
        let backbone = clr_onnx::import(path, &ImportOptions::default())?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let onnx =
            path.extension().is_some_and(|kind| kind.eq_ignore_ascii_case("onnx")) && backbone.classifier().is_some();
        Ok(Self {
            name: stem.clone().into_owned(),
            backbone,
            onnx: onnx.then(|| path.to_owned()),
            torch: torch.map_or_else(|| names_in(&stem), |name| vec![name.to_owned()]),
            torch_stated: torch.is_some(),
        })
    }

    /// Returns a network with random weights.
    pub(crate) fn seeded(name: &str) -> anyhow::Result<Self> {
        let architecture = match name {
            "lite0" => Some(Architecture::EfficientNetLite0),
            other => Architecture::from_name(other),
        };
        let architecture = architecture.with_context(|| {
            let known = Architecture::ALL.map(Architecture::name).join(", ");
            format!("no architecture '{name}', expected lite0 or one of {known}\nhint: --backbone FILE measures any other network")
        })?;
        Ok(Self {
            name: name.to_owned(),
            backbone: seeded_backbone(architecture, 1, CLASSES),
            onnx: None,
            torch: vec![torch_name(architecture)],
            torch_stated: true,
        })
    }
}

/// Returns torchvision's or timm's name of an architecture.
fn torch_name(architecture: Architecture) -> String {
    let name = architecture.name();
    match name.strip_prefix("timm-") {
        Some(name) => format!("timm/{name}").replace('-', "_"),
        None if name.starts_with("efficientnet-lite") => format!("timm/tf_{name}").replace('-', "_"),
        None => name.replace('-', "_"),
    }
}

/// Returns possible names in a file's stem: the stem itself, and its parts separated by `-` and `.`.
fn names_in(stem: &str) -> Vec<String> {
    let mut names = vec![stem.replace('-', "_")];
    for part in stem.split(['-', '.']) {
        if !names.iter().any(|name| name == part) {
            names.push(part.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pytorch_knows_the_seeded_networks_by_its_own_names() {
        assert_eq!(
            torch_name(Architecture::EfficientNetLite0),
            "timm/tf_efficientnet_lite0"
        );
        assert_eq!(torch_name(Architecture::ResNet18), "resnet18");
        let name = |name: &str| torch_name(Architecture::from_name(name).unwrap());
        assert_eq!(name("resnext50-32x4d"), "resnext50_32x4d");
        assert_eq!(name("timm-efficientnet-lite1"), "timm/efficientnet_lite1");
    }

    #[test]
    fn a_file_name_gives_its_parts_as_names() {
        assert_eq!(names_in("resnet18"), ["resnet18"]);
        assert_eq!(
            names_in("tv-mobilenet_v2-opset17"),
            ["tv_mobilenet_v2_opset17", "tv", "mobilenet_v2", "opset17"]
        );
    }

    #[test]
    fn an_unknown_architecture_is_answered_with_the_known_ones() {
        let error = Network::seeded("resnet19").unwrap_err().to_string();
        assert!(
            error.contains("resnet18") && error.contains("hint: --backbone"),
            "{error}"
        );
    }
}
