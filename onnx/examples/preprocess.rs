//! Preprocesses one image and writes the tensor's values as little-endian f32.
//!
//! `preprocess imagenet|lite FIT IMAGE OUT`, where FIT is `crop` or `stretch`.

use std::error::Error;
use std::path::Path;

use clr_adapters::Fit;
use clr_onnx::{Preprocess as _, decode_image, efficientnet_lite_preprocessing, imagenet_preprocessing};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [preset, fit, image, out] = arguments.as_slice() else {
        return Err("usage: preprocess imagenet|lite crop|stretch IMAGE OUT".into());
    };
    let mut preprocessing = if preset == "lite" {
        efficientnet_lite_preprocessing(224)
    } else {
        imagenet_preprocessing()
    };
    if fit == "stretch" {
        preprocessing.fit = Fit::Stretch;
    }
    let tensor = preprocessing.preprocess(&decode_image(Path::new(image))?);
    std::fs::write(
        out,
        tensor.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>(),
    )?;
    Ok(())
}
