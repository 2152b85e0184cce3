//! Preprocessed calibration images.

use std::path::{Path, PathBuf};

use clr_adapters::Preprocessing;
use clr_onnx::{ImageView, Preprocess as _, decode_image_for};
use clr_training::Unreadable;
use rayon::prelude::*;

use crate::{
    QuantisationError, Selection,
    progress::{Observer, Progress, Stage},
};

/// Number of images between two reports of progress.
const CHUNK: usize = 16;

/// Preprocessed images for calibration, and held-out ones for the measurement of the error.
#[derive(Clone, Debug, Default)]
pub struct Images {
    /// Input sizes (rows, columns).
    pub(crate) sizes: Vec<[usize; 2]>,
    pub(crate) calibration: Vec<Input>,
    pub(crate) held_out: Vec<Input>,
    /// Files that could not be read.
    pub unreadable: Vec<Unreadable>,
}

/// A preprocessed image.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    /// Index of its size.
    pub(crate) size: usize,
    /// `[C, H, W]`.
    pub(crate) values: Vec<f32>,
}

impl Images {
    /// Preprocesses decoded images, once for each of `inputs`.
    #[must_use]
    pub fn new<'a>(
        calibration: impl IntoIterator<Item = ImageView<'a>>,
        held_out: impl IntoIterator<Item = ImageView<'a>>,
        inputs: &[Preprocessing],
    ) -> Self {
        Self {
            sizes: sizes(inputs),
            calibration: calibration
                .into_iter()
                .flat_map(|image| preprocessed(image, inputs))
                .collect(),
            held_out: held_out
                .into_iter()
                .flat_map(|image| preprocessed(image, inputs))
                .collect(),
            unreadable: Vec::new(),
        }
    }

    /// Reads image files and preprocesses them, once for each of `inputs`. Files that cannot be read are left out.
    ///
    /// # Errors
    /// [`QuantisationError::FewImages`] if too few of them can be read.
    pub fn read(
        files: &Selection,
        inputs: &[Preprocessing],
        observer: &mut Observer<'_>,
    ) -> Result<Self, QuantisationError> {
        let total = files.calibration.len() + files.held_out.len();
        let mut images = Self {
            sizes: sizes(inputs),
            ..Self::default()
        };
        let mut done = 0;
        let mut read = |files: &[PathBuf]| {
            let mut read = Vec::with_capacity(files.len() * inputs.len());
            for chunk in files.chunks(CHUNK) {
                let decoded: Vec<_> = chunk.par_iter().map(|file| one(file, inputs)).collect();
                for image in decoded {
                    match image {
                        Ok(image) => read.extend(image),
                        Err(unreadable) => images.unreadable.push(unreadable),
                    }
                }
                done += chunk.len();
                observer(Progress {
                    stage: Stage::Read,
                    done,
                    total,
                });
            }
            read
        };
        let (calibration, held_out) = (read(&files.calibration), read(&files.held_out));
        (images.calibration, images.held_out) = (calibration, held_out);
        files.ensure(total - images.unreadable.len())?;
        Ok(images)
    }

    /// Returns the number of images for calibration and of held-out ones. An image counts once for each input size.
    pub fn counts(&self) -> [usize; 2] {
        [self.calibration.len(), self.held_out.len()]
    }
}

fn sizes(inputs: &[Preprocessing]) -> Vec<[usize; 2]> {
    inputs
        .iter()
        .map(|input| [input.height as usize, input.width as usize])
        .collect()
}

fn preprocessed(image: ImageView<'_>, inputs: &[Preprocessing]) -> Vec<Input> {
    let inputs = inputs.iter().enumerate();
    inputs
        .map(|(size, input)| Input {
            size,
            values: input.preprocess(image),
        })
        .collect()
}

fn one(file: &Path, inputs: &[Preprocessing]) -> Result<Vec<Input>, Unreadable> {
    match decode_image_for(file, &inputs.iter().collect::<Vec<_>>()) {
        Ok(image) => Ok(preprocessed((&image).into(), inputs)),
        Err(error) => Err(Unreadable::new(file.to_path_buf(), &error)),
    }
}
