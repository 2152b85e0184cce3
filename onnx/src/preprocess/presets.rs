//! Preprocessing of well-known families of checkpoints.

use clr_adapters::{ChannelOrder, Filter, Fit, Preprocessing};

/// Mean, standard deviation and channel order, under the name of the framework that uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Preset {
    /// torchvision and timm: RGB, mean and deviation of ImageNet.
    ImageNet,
    /// TensorFlow's and Inception's: RGB, −1 to 1.
    Tf,
    /// Caffe: BGR, 0 to 255 minus the mean of ImageNet.
    Caffe,
    /// RGB, with the bytes unchanged.
    Bytes,
    /// RGB, 0 to 1.
    Unit,
}

impl Preset {
    /// All presets.
    pub const ALL: [Self; 5] = [Self::ImageNet, Self::Tf, Self::Caffe, Self::Bytes, Self::Unit];

    /// Returns the name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ImageNet => "imagenet",
            Self::Tf => "tf",
            Self::Caffe => "caffe",
            Self::Bytes => "0-255",
            Self::Unit => "unit",
        }
    }

    /// Returns the preset with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// Returns the mean of each channel, in 0–255, in the order of [`Preset::channel_order`].
    #[must_use]
    pub const fn mean(self) -> [f32; 3] {
        match self {
            Self::ImageNet => [123.675, 116.28, 103.53],
            Self::Tf => [127.5; 3],
            Self::Caffe => [103.939, 116.779, 123.68],
            Self::Bytes | Self::Unit => [0.0; 3],
        }
    }

    /// Returns the standard deviation of each channel, in 0–255, in the order of [`Preset::channel_order`].
    #[must_use]
    pub const fn std(self) -> [f32; 3] {
        match self {
            Self::ImageNet => [58.395, 57.12, 57.375],
            Self::Tf => [127.5; 3],
            Self::Caffe | Self::Bytes => [1.0; 3],
            Self::Unit => [255.0; 3],
        }
    }

    /// Returns the order of the channels.
    #[must_use]
    pub const fn channel_order(self) -> ChannelOrder {
        match self {
            Self::Caffe => ChannelOrder::Bgr,
            _ => ChannelOrder::Rgb,
        }
    }

    /// Returns the preset that `preprocessing` follows, with the same mean, deviation and channel order up to rounding.
    #[must_use]
    pub fn of(preprocessing: &Preprocessing) -> Option<Self> {
        let near = |a: [f32; 3], b: [f32; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4 * b.abs().max(1.0));
        Self::ALL.into_iter().find(|preset| {
            near(preprocessing.mean, preset.mean())
                && near(preprocessing.std, preset.std())
                && preprocessing.channel_order == preset.channel_order()
        })
    }
}

impl std::fmt::Display for Preset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Returns torchvision's ImageNet evaluation: shorter side to 256, bilinear, centre crop of 224 × 224, RGB, the
/// ImageNet mean and standard deviation.
pub fn imagenet_preprocessing() -> Preprocessing {
    Preprocessing {
        height: 224,
        width: 224,
        fit: Fit::CenterCrop { fraction: 0.875 },
        filter: Filter::Bilinear,
        channel_order: ChannelOrder::Rgb,
        mean: Preset::ImageNet.mean(),
        std: Preset::ImageNet.std(),
    }
}

/// Returns the preprocessing of EfficientNet-Lite at `size` × `size` pixels: shorter side to `size + 32`, bicubic,
/// centre crop, RGB, `(value − 127) / 128` (the reference's `crop_padding` of 32).
pub fn efficientnet_lite_preprocessing(size: u32) -> Preprocessing {
    Preprocessing {
        height: size,
        width: size,
        fit: Fit::CenterCrop {
            fraction: size as f32 / (size as f32 + 32.0),
        },
        filter: Filter::Bicubic,
        channel_order: ChannelOrder::Rgb,
        mean: [127.0; 3],
        std: [128.0; 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_is_found_again_by_its_name_and_by_its_numbers() {
        for preset in Preset::ALL {
            assert_eq!(Preset::from_name(preset.name()), Some(preset));
            let preprocessing = Preprocessing {
                mean: preset.mean(),
                std: preset.std(),
                channel_order: preset.channel_order(),
                ..imagenet_preprocessing()
            };
            assert_eq!(Preset::of(&preprocessing), Some(preset));
        }
        assert_eq!(Preset::of(&efficientnet_lite_preprocessing(224)), None);
    }
}
