//! Pooled features `[F]` of stored images.

use clr_adapters::{Canary, Preprocessing};
use clr_learning::{FeaturePass, Network};
use clr_onnx::RgbImage;

use crate::{
    error::{Result, TuneError},
    examples::{Example, Examples},
    images::Image,
};

/// Returns the features `[F]` of images by `network`, in the given order. Skips images that cannot be decoded, with a
/// warning, because one damaged file must not prevent teaching a class.
pub(crate) fn features(
    network: &Network,
    preprocessing: &Preprocessing,
    examples: &dyn Examples,
    list: &[Example],
) -> Result<Vec<Vec<f32>>> {
    let mut all = Vec::with_capacity(list.len());
    for image in images(preprocessing, examples, list)? {
        all.push(features_of(network, preprocessing, &image)?);
    }
    Ok(all)
}

/// Decodes images, and skips those that cannot be decoded.
pub(crate) fn images(preprocessing: &Preprocessing, examples: &dyn Examples, list: &[Example]) -> Result<Vec<Image>> {
    let mut all = Vec::with_capacity(list.len());
    for example in list {
        match Image::load(examples, example, None, preprocessing) {
            Ok(image) => all.push(image),
            Err(error @ TuneError::Image { .. }) => tracing::warn!("left out: {error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Returns the features `[F]` of one image.
pub(crate) fn features_of(network: &Network, preprocessing: &Preprocessing, image: &Image) -> Result<Vec<f32>> {
    let size = [preprocessing.height as usize, preprocessing.width as usize];
    Ok(network.image_features(&image.variant(0, 0, preprocessing), size)?)
}

/// Returns features and block statistics of one image, as the unmodified backbone computes them.
pub(crate) fn unmodified(network: &Network, preprocessing: &Preprocessing, image: &Image) -> Result<FeaturePass> {
    let size = [preprocessing.height as usize, preprocessing.width as usize];
    Ok(network.unmodified(&image.variant(0, 0, preprocessing), size)?)
}

/// Returns an adapter's canary as an image; `None` if its pixels do not match its size.
pub(crate) fn canary_image(canary: &Canary, preprocessing: &Preprocessing) -> Option<Image> {
    let [width, height] = canary.size.map(u32::from);
    let pixels = RgbImage::from_raw(width, height, canary.pixels.clone())?;
    Some(Image::new(&pixels, Some(canary.class as usize), preprocessing, 0))
}

/// Returns the mean of features `[F]`.
pub(crate) fn mean(features: &[Vec<f32>]) -> Vec<f64> {
    let mut mean = vec![0.0; features.first().map_or(0, Vec::len)];
    for x in features {
        mean.iter_mut().zip(x).for_each(|(mean, &x)| *mean += f64::from(x));
    }
    for mean in &mut mean {
        *mean /= features.len().max(1) as f64;
    }
    mean
}
