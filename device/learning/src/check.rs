//! Checks before a pass: sizes of images, and whether every trained site has a backward pass.

use clr_runtime::{Executable, SiteParameters};

use crate::error::{LearningError, Result};

pub(crate) fn check_images(executable: &Executable, images: &[&[f32]]) -> Result<()> {
    let shape = executable.image();
    let length = shape.iter().product::<usize>();
    match images.iter().find(|image| image.len() != length) {
        None => Ok(()),
        Some(image) => Err(LearningError::mismatch(
            "preprocessed image",
            format!("{length} values ({} × {} × {})", shape[0], shape[1], shape[2]),
            format!("{} values", image.len()),
        )),
    }
}

pub(crate) fn check_backward(executable: &Executable, sites: &[SiteParameters]) -> Result<()> {
    let trainable = executable.trainable_sites();
    let mut all = sites.iter().zip(trainable);
    if all.any(|(site, trainable)| site.is_trained() && !trainable) {
        let node = executable.first_obstacle().unwrap_or_default().to_owned();
        return Err(LearningError::NoBackwardPass { node });
    }
    Ok(())
}
