//! Network architectures whose weights can be imported.

use clr_adapters::Preprocessing;

use super::architecture_spec::ArchitectureSpec;
use super::spelling::Spelling;
use super::{efficientnet_lite as lite, mobilenet, resnet};
use crate::{efficientnet_lite_preprocessing, imagenet_preprocessing};

/// A network architecture whose weights can be imported.
///
/// Tensor names may follow torchvision, timm or Transformers, or be positions in `nn.Sequential`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// EfficientNet-Lite0, 224 px; timm's `tf_efficientnet_lite0`.
    EfficientNetLite0,
    /// EfficientNet-Lite1, 240 px; timm's `tf_efficientnet_lite1`.
    EfficientNetLite1,
    /// EfficientNet-Lite2, 260 px; timm's `tf_efficientnet_lite2`.
    EfficientNetLite2,
    /// ResNet-18, 224 px.
    ResNet18,
    /// ResNet-34, 224 px.
    ResNet34,
    /// ResNet-50, 224 px.
    ResNet50,
    /// MobileNetV2 of width 1 as in torchvision and timm (`mobilenetv2_100`), 224 px.
    MobileNetV2,
    /// ResNet-101, 224 px.
    ResNet101,
    /// ResNet-152, 224 px.
    ResNet152,
    /// ResNeXt-50 32×4d, 224 px.
    ResNeXt50,
    /// ResNeXt-101 32×8d, 224 px.
    ResNeXt101,
    /// ResNeXt-101 64×4d, 224 px.
    ResNeXt101Groups64,
    /// Wide ResNet-50-2, 224 px.
    WideResNet50,
    /// Wide ResNet-101-2, 224 px.
    WideResNet101,
    /// Google's MobileNetV2 of width 1 as in Transformers: TensorFlow's SAME padding, ε = 10⁻³, 224 px.
    TfMobileNetV2,
    /// timm's own `efficientnet_lite0`: symmetric padding, ε = 10⁻⁵, 224 px.
    TimmEfficientNetLite0,
    /// timm's own `efficientnet_lite1`: symmetric padding, ε = 10⁻⁵, 240 px.
    TimmEfficientNetLite1,
    /// timm's own `efficientnet_lite2`: symmetric padding, ε = 10⁻⁵, 260 px.
    TimmEfficientNetLite2,
}

/// Returns the known names, for messages.
pub(super) fn names() -> String {
    Architecture::ALL.map(Architecture::name).join(", ")
}

impl Architecture {
    /// All architectures.
    pub const ALL: [Self; 18] = [
        Self::EfficientNetLite0,
        Self::EfficientNetLite1,
        Self::EfficientNetLite2,
        Self::ResNet18,
        Self::ResNet34,
        Self::ResNet50,
        Self::MobileNetV2,
        Self::ResNet101,
        Self::ResNet152,
        Self::ResNeXt50,
        Self::ResNeXt101,
        Self::ResNeXt101Groups64,
        Self::WideResNet50,
        Self::WideResNet101,
        Self::TfMobileNetV2,
        Self::TimmEfficientNetLite0,
        Self::TimmEfficientNetLite1,
        Self::TimmEfficientNetLite2,
    ];

    /// Returns the name used on the command line, e.g. `efficientnet-lite0`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EfficientNetLite0 => "efficientnet-lite0",
            Self::EfficientNetLite1 => "efficientnet-lite1",
            Self::EfficientNetLite2 => "efficientnet-lite2",
            Self::ResNet18 => "resnet18",
            Self::ResNet34 => "resnet34",
            Self::ResNet50 => "resnet50",
            Self::MobileNetV2 => "mobilenet-v2",
            Self::ResNet101 => "resnet101",
            Self::ResNet152 => "resnet152",
            Self::ResNeXt50 => "resnext50-32x4d",
            Self::ResNeXt101 => "resnext101-32x8d",
            Self::ResNeXt101Groups64 => "resnext101-64x4d",
            Self::WideResNet50 => "wide-resnet50-2",
            Self::WideResNet101 => "wide-resnet101-2",
            Self::TfMobileNetV2 => "tf-mobilenet-v2",
            Self::TimmEfficientNetLite0 => "timm-efficientnet-lite0",
            Self::TimmEfficientNetLite1 => "timm-efficientnet-lite1",
            Self::TimmEfficientNetLite2 => "timm-efficientnet-lite2",
        }
    }

    /// Returns a description that distinguishes the architecture from others with the same tensors, for messages.
    pub(super) fn title(self) -> String {
        match self {
            Self::EfficientNetLite0 | Self::EfficientNetLite1 | Self::EfficientNetLite2 => {
                format!("timm's tf_{}, padding SAME, ε 10⁻³", self.name().replace('-', "_"))
            }
            Self::TimmEfficientNetLite0 | Self::TimmEfficientNetLite1 | Self::TimmEfficientNetLite2 => {
                let name = self.name().trim_start_matches("timm-").replace('-', "_");
                format!("timm's {name}, symmetric padding, ε 10⁻⁵")
            }
            _ => self.name().to_owned(),
        }
    }

    /// Returns the architecture with this command-line name. Names of torchvision and timm with underscores, such as
    /// `wide_resnet50_2` and `mobilenetv2_100`, are accepted too.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase().replace('_', "-");
        let name = match name.as_str() {
            "mobilenetv2" | "mobilenetv2-100" => "mobilenet-v2",
            "tf-efficientnet-lite0" => "efficientnet-lite0",
            "tf-efficientnet-lite1" => "efficientnet-lite1",
            "tf-efficientnet-lite2" => "efficientnet-lite2",
            name => name,
        };
        Self::ALL.into_iter().find(|architecture| architecture.name() == name)
    }

    /// Returns the architecture that timm and torchvision call `name`. A suffix after a dot identifies the weights and
    /// is ignored.
    pub(super) fn from_stated(name: &str) -> Option<Self> {
        let name = name
            .split('.')
            .next()
            .unwrap_or(name)
            .to_ascii_lowercase()
            .replace('-', "_");
        match name.as_str() {
            "efficientnet_lite0" => Some(Self::TimmEfficientNetLite0),
            "efficientnet_lite1" => Some(Self::TimmEfficientNetLite1),
            "efficientnet_lite2" => Some(Self::TimmEfficientNetLite2),
            name => Self::from_name(name),
        }
    }

    /// Returns the preprocessing of the architecture's published weights.
    #[must_use]
    pub fn preprocessing(self) -> Preprocessing {
        match self {
            Self::EfficientNetLite0 => efficientnet_lite_preprocessing(224),
            Self::EfficientNetLite1 => efficientnet_lite_preprocessing(240),
            Self::EfficientNetLite2 => efficientnet_lite_preprocessing(260),
            Self::TfMobileNetV2 => Preprocessing {
                mean: [127.5; 3],
                std: [127.5; 3],
                ..imagenet_preprocessing()
            },
            Self::TimmEfficientNetLite1 => sized(240),
            Self::TimmEfficientNetLite2 => sized(260),
            _ => imagenet_preprocessing(),
        }
    }

    /// Returns the naming schemes that the architecture's tensors may follow.
    pub(super) fn spellings(self) -> &'static [Spelling] {
        match self {
            Self::EfficientNetLite0 | Self::EfficientNetLite1 | Self::EfficientNetLite2 => lite::SPELLINGS,
            Self::TimmEfficientNetLite0 | Self::TimmEfficientNetLite1 | Self::TimmEfficientNetLite2 => {
                lite::TIMM_SPELLINGS
            }
            Self::MobileNetV2 => mobilenet::SPELLINGS,
            Self::TfMobileNetV2 => mobilenet::TENSORFLOW_SPELLINGS,
            _ => resnet::SPELLINGS,
        }
    }

    /// Returns the architecture's layers. The tensors are named as in `spelling`, one of [`Architecture::spellings`].
    pub(super) fn spec(self, spelling: Spelling) -> ArchitectureSpec {
        let lite = |width, depth, tensorflow| {
            let variant = lite::Variant {
                width,
                depth,
                tensorflow,
            };
            lite::spec(variant, spelling)
        };
        let resnet = |blocks, bottleneck, groups, width| {
            let variant = resnet::Variant {
                blocks,
                bottleneck,
                groups,
                width,
            };
            resnet::spec(variant, spelling)
        };
        match self {
            Self::EfficientNetLite0 => lite(10, 10, true),
            Self::EfficientNetLite1 => lite(10, 11, true),
            Self::EfficientNetLite2 => lite(11, 12, true),
            Self::TimmEfficientNetLite0 => lite(10, 10, false),
            Self::TimmEfficientNetLite1 => lite(10, 11, false),
            Self::TimmEfficientNetLite2 => lite(11, 12, false),
            Self::ResNet18 => resnet([2, 2, 2, 2], false, 1, 64),
            Self::ResNet34 => resnet([3, 4, 6, 3], false, 1, 64),
            Self::ResNet50 => resnet([3, 4, 6, 3], true, 1, 64),
            Self::ResNet101 => resnet([3, 4, 23, 3], true, 1, 64),
            Self::ResNet152 => resnet([3, 8, 36, 3], true, 1, 64),
            Self::ResNeXt50 => resnet([3, 4, 6, 3], true, 32, 128),
            Self::ResNeXt101 => resnet([3, 4, 23, 3], true, 32, 256),
            Self::ResNeXt101Groups64 => resnet([3, 4, 23, 3], true, 64, 256),
            Self::WideResNet50 => resnet([3, 4, 6, 3], true, 1, 128),
            Self::WideResNet101 => resnet([3, 4, 23, 3], true, 1, 128),
            Self::MobileNetV2 => mobilenet::spec(spelling, false),
            Self::TfMobileNetV2 => mobilenet::spec(spelling, true),
        }
    }
}

fn sized(side: u32) -> Preprocessing {
    Preprocessing {
        height: side,
        width: side,
        ..imagenet_preprocessing()
    }
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
