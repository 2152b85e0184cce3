//! Fitting of a backbone's background to folders of images.

use std::path::PathBuf;

use clr_adapters::{Background, Preprocessing, Recipe};
use clr_learning::{Network, learn_background};
use clr_onnx::{Backbone, Preprocess as _, decode_image_for};
use rayon::prelude::*;

use crate::{
    Unreadable, Warning,
    data::{Scan, evenly_spaced},
    error::{Result, TrainError},
    observer::{Meter, Observer, Phase},
};

/// Minimum number of readable images of a folder.
const LEAST_IMAGES: usize = 20;
/// Number of images between two reports of progress.
const CHUNK: usize = 32;

/// Options of fitting a background.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackgroundOptions {
    /// Input sizes (rows, columns) at which images are looked at. Every folder counts once for each size.
    pub sizes: Vec<[u32; 2]>,
    /// Maximum number of images of each folder, evenly spaced in the order of their paths.
    pub images: usize,
    /// Seed of the fit.
    pub seed: u64,
}

impl BackgroundOptions {
    /// Returns the options for these input sizes: up to 300 images of each folder.
    #[must_use]
    pub fn new(sizes: Vec<[u32; 2]>) -> Self {
        Self {
            sizes,
            images: 300,
            seed: 0,
        }
    }

    /// Sets the maximum number of images of each folder.
    #[must_use]
    pub fn with_images(mut self, images: usize) -> Self {
        self.images = images;
        self
    }
}

/// Fits the background of `backbone` to the images in `folders`, one folder (with all folders inside) for each kind of
/// images. Unreadable images are left out, with a warning.
///
/// # Errors
/// [`TrainError::FewImages`] if a folder has fewer than 20 readable images; another [`TrainError`] if there are fewer
/// than three kinds, or if the runtime cannot execute the backbone.
pub fn fit_background(
    backbone: &Backbone,
    folders: &[PathBuf],
    options: &BackgroundOptions,
    observer: &mut dyn Observer,
) -> Result<Background> {
    let network = Network::new(backbone, Recipe::Linear, 1, 0)?;
    let inputs: Vec<Preprocessing> = (options.sizes.iter())
        .map(|&[height, width]| Preprocessing {
            height,
            width,
            ..backbone.preprocessing().clone()
        })
        .collect();
    let mut chosen = Vec::with_capacity(folders.len());
    for folder in folders {
        let images = Scan::of(folder)?.images();
        let spread = evenly_spaced(images.len(), options.images).map(|at| images[at].clone());
        chosen.push(spread.collect::<Vec<_>>());
    }
    let mut meter = Meter::new(Phase::Features, chosen.iter().map(Vec::len).sum());
    let mut kinds = Vec::with_capacity(folders.len() * inputs.len());
    for (folder, images) in folders.iter().zip(&chosen) {
        let mut own: Vec<Vec<Vec<f32>>> = inputs.iter().map(|_| Vec::with_capacity(images.len())).collect();
        for chunk in images.chunks(CHUNK) {
            let rows: Vec<_> = chunk
                .par_iter()
                .map(|path| statistics(&network, path, &inputs))
                .collect();
            for row in rows {
                match row? {
                    Ok(sizes) => own.iter_mut().zip(sizes).for_each(|(own, row)| own.push(row)),
                    Err(unreadable) => observer.warning(&Warning::Unreadable(unreadable)),
                }
            }
            meter.advance(chunk.len(), observer);
        }
        let got = own.first().map_or(0, Vec::len);
        if got < LEAST_IMAGES {
            return Err(TrainError::FewImages {
                path: folder.clone(),
                expected: LEAST_IMAGES,
                got,
            });
        }
        kinds.extend(own);
    }
    Ok(learn_background(backbone.digest(), &kinds, options.seed)?)
}

/// Returns the block statistics of an image at each size, or why it cannot be read.
fn statistics(
    network: &Network,
    path: &std::path::Path,
    inputs: &[Preprocessing],
) -> Result<std::result::Result<Vec<Vec<f32>>, Unreadable>> {
    let image = match decode_image_for(path, &inputs.iter().collect::<Vec<_>>()) {
        Ok(image) => image,
        Err(error) => return Ok(Err(Unreadable::new(path.to_owned(), &error))),
    };
    let mut all = Vec::with_capacity(inputs.len());
    for input in inputs {
        let values = input.preprocess(&image);
        let size = [input.height as usize, input.width as usize];
        all.extend(network.block_statistics(&[&values], size)?);
    }
    Ok(Ok(all))
}
