//! Decoded images of a split at input size, kept in memory up to a budget.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use clr_adapters::{Digest, Preprocessing};
use clr_onnx::{ImageError, Preprocess as _, ReducedImage, RgbImage, decode_image_bytes_for, read_image_file};
use rayon::prelude::*;

use crate::data::{Dataset, Sample, Split, Unreadable, inspect::ImageProperties};
use crate::{
    error::{Result, TrainError},
    observer::{Meter, Observer},
};

/// Images of a split at input size, `height × width` in 8-bit RGB, with their classes.
pub struct SplitImages {
    root: PathBuf,
    samples: Vec<Sample>,
    files: Vec<Digest>,
    /// `None` if the image exceeds the budget and is decoded again whenever it is needed.
    decoded: Vec<Option<RgbImage>>,
    preprocessing: Preprocessing,
    unreadable: Vec<Unreadable>,
    properties: Vec<ImageProperties>,
}

impl SplitImages {
    /// Decodes the images of a split in parallel, scales them to input size, and keeps at most `budget` bytes of them
    /// in memory. Images that cannot be decoded are left out and listed.
    ///
    /// # Errors
    /// [`TrainError::NoSuchSplit`] if the data set has no such split; [`TrainError::EmptyClass`] if a class has no
    /// readable image.
    pub fn load(
        dataset: &Dataset,
        split: Split,
        preprocessing: &Preprocessing,
        budget: usize,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        const CHUNK: usize = 64;
        let samples = dataset.samples(split)?;
        let root = dataset.root();
        let bytes = 3 * preprocessing.height as usize * preprocessing.width as usize;
        let mut meter = Meter::new(crate::Phase::Decode, samples.len());
        let mut images = Self {
            root: root.to_owned(),
            samples: Vec::with_capacity(samples.len()),
            files: Vec::with_capacity(samples.len()),
            decoded: Vec::with_capacity(samples.len()),
            preprocessing: preprocessing.clone(),
            unreadable: Vec::new(),
            properties: Vec::with_capacity(samples.len()),
        };
        for chunk in samples.chunks(CHUNK) {
            let fitted: Vec<_> = chunk
                .par_iter()
                .map(|sample| {
                    let (bytes, image) = read(root, sample, preprocessing)?;
                    let fitted = preprocessing.fit(&image);
                    let (path, place) = (sample.path.clone(), [split.name(), &dataset.classes()[sample.class]]);
                    let properties = ImageProperties::new(path, place, &fitted, image.size(), image.notes(), &bytes);
                    Ok((Digest::of(&bytes), fitted, properties))
                })
                .collect();
            for (sample, fitted) in chunk.iter().zip(fitted) {
                match fitted {
                    Ok((digest, image, properties)) => {
                        let keep = (images.samples.len() + 1) * bytes <= budget;
                        images.samples.push(sample.clone());
                        images.files.push(digest);
                        images.decoded.push(keep.then_some(image));
                        images.properties.push(properties);
                    }
                    Err(error) => images.unreadable.push(Unreadable::new(sample.path.clone(), &error)),
                }
            }
            meter.advance(chunk.len(), observer);
        }
        let counts = |samples: &[Sample]| {
            let mut counts = vec![0_usize; dataset.classes().len()];
            for sample in samples {
                counts[sample.class] += 1;
            }
            counts
        };
        let (before, after) = (counts(samples), counts(&images.samples));
        if let Some(class) = (0..before.len()).find(|&class| before[class] > 0 && after[class] == 0) {
            return Err(TrainError::EmptyClass {
                class: dataset.classes()[class].clone(),
                path: root.to_owned(),
                unreadable: before[class],
                reasons: (images.unreadable.iter())
                    .find(|file| {
                        samples
                            .iter()
                            .any(|sample| sample.class == class && sample.path == file.path)
                    })
                    .map_or_else(String::new, |first| format!(": {first}")),
            });
        }
        Ok(images)
    }

    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Returns whether the split has no images.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Returns the images' paths and classes, in index order.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Returns the preprocessing of the images.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Returns the files that could not be decoded.
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// Returns the properties of each image that the checks compare.
    pub fn properties(&self) -> &[ImageProperties] {
        &self.properties
    }

    /// Returns the classes, in index order.
    pub fn labels(&self) -> Vec<u32> {
        self.samples.iter().map(|sample| sample.class as u32).collect()
    }

    /// Returns the SHA-256 of the paths and the contents of all images.
    pub fn digest(&self) -> Digest {
        let mut bytes = Vec::new();
        for (sample, file) in self.samples.iter().zip(&self.files) {
            // With the host's path separators, the digest would depend on the host.
            let path: Vec<_> = sample
                .path
                .components()
                .map(|part| part.as_os_str().to_string_lossy())
                .collect();
            bytes.extend_from_slice(path.join("/").as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(&file.0);
        }
        Digest::of(&bytes)
    }

    /// Returns image `index` at input size.
    pub fn image(&self, index: usize) -> Result<Cow<'_, RgbImage>> {
        if let Some(image) = &self.decoded[index] {
            return Ok(Cow::Borrowed(image));
        }
        let sample = &self.samples[index];
        let (_, image) = read(&self.root, sample, &self.preprocessing).map_err(|error| TrainError::Read {
            path: self.root.join(&sample.path),
            source: std::io::Error::other(error.to_string()),
        })?;
        Ok(Cow::Owned(self.preprocessing.fit(&image)))
    }

    /// Returns image `index` at the file's size.
    pub fn original(&self, index: usize) -> Result<RgbImage> {
        let path = self.root.join(&self.samples[index].path);
        clr_onnx::decode_image(&path).map_err(|error| TrainError::Read {
            path,
            source: std::io::Error::other(error.to_string()),
        })
    }
}

fn read(root: &Path, sample: &Sample, preprocessing: &Preprocessing) -> Result<(Vec<u8>, ReducedImage), ImageError> {
    let path = root.join(&sample.path);
    let bytes = read_image_file(&path)?;
    let image = decode_image_bytes_for(&bytes, &path.display().to_string(), &[preprocessing])?;
    Ok((bytes, image))
}
