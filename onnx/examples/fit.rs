//! Scales images to a network's input size, for `tests/tools/pillow_resampling.py`.
//!
//! Reads lines `WIDTH HEIGHT stretch|FRACTION bilinear|bicubic FULL|REDUCED IMAGE OUT` from standard input, and writes
//! the pixels to OUT as RGB bytes. With `REDUCED`, the decoder reduces large images, as in training and on the device.

use std::{error::Error, fs, io::stdin, path::Path};

use clr_adapters::{Filter, Fit, Preprocessing};
use clr_onnx::{Preprocess as _, decode_image_for, imagenet_preprocessing};

fn main() -> Result<(), Box<dyn Error>> {
    for line in stdin().lines() {
        let line = line?;
        let [width, height, fit, filter, size, image, out] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(format!("expected seven words, got '{line}'").into());
        };
        let input = Preprocessing {
            width: width.parse()?,
            height: height.parse()?,
            fit: match fit {
                "stretch" => Fit::Stretch,
                fraction => Fit::CenterCrop {
                    fraction: fraction.parse()?,
                },
            },
            filter: match filter {
                "bilinear" => Filter::Bilinear,
                "bicubic" => Filter::Bicubic,
                other => return Err(format!("unknown filter {other}").into()),
            },
            ..imagenet_preprocessing()
        };
        let reduced_for: &[&Preprocessing] = if size == "REDUCED" { &[&input] } else { &[] };
        let decoded = decode_image_for(Path::new(image), reduced_for)?;
        fs::write(out, input.fit(&decoded).as_raw())?;
    }
    Ok(())
}
