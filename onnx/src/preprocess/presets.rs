//! The preprocessing that well-known families of checkpoints were trained with.

use clr_adapters::{ChannelOrder, Filter, Fit, Preprocessing};

/// torchvision's ImageNet evaluation: shorter side to 256, bilinear, 224 × 224 cut from the centre, RGB, the ImageNet
/// mean and standard deviation.
pub fn imagenet_preprocessing() -> Preprocessing {
    Preprocessing {
        height: 224,
        width: 224,
        fit: Fit::CenterCrop { fraction: 0.875 },
        filter: Filter::Bilinear,
        channel_order: ChannelOrder::Rgb,
        mean: [123.675, 116.28, 103.53],
        std: [58.395, 57.12, 57.375],
    }
}

/// EfficientNet-Lite at `size` × `size` pixels: the shorter side to `size + 32`, bicubic, the centre cut out, RGB,
/// `(value − 127) / 128` (the reference's `crop_padding` of 32).
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
