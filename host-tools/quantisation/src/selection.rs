//! Selection of calibration images from folders: training images, drawn evenly.

use std::path::{Path, PathBuf};

use clr_learning::{Purpose, stream};
use clr_training::{Dataset, LayoutOptions, Scan, Split, SplitOptions, TrainError};
use rand::RngExt as _;

use crate::QuantisationError;

/// One in so many images is held out.
const HELD_OUT: usize = 5;
/// Minimum number of images, a fifth of them held out.
pub(crate) const LEAST_IMAGES: usize = 10;

/// Image files for calibration, and held-out files for the measurement of the error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Files for ranges and bias correction.
    pub calibration: Vec<PathBuf>,
    /// Files for the measurement of the error.
    pub held_out: Vec<PathBuf>,
    /// The folders.
    pub folders: Vec<PathBuf>,
}

impl Selection {
    /// Draws `images` calibration images from `folders`, and a quarter as many held-out ones, in equal parts from each
    /// folder, as far as they suffice. If the folders have fewer images, a fifth of them is held out.
    ///
    /// A folder with a training split contributes only images of this split. Without class folders, any image below it
    /// counts that is not in a folder named like a test split. Equal arguments draw the same images.
    ///
    /// # Errors
    /// [`QuantisationError`] if a folder cannot be read, if it has no training images, or if there are too few images.
    pub fn draw(
        folders: &[PathBuf],
        images: usize,
        seed: u64,
        layout: &LayoutOptions,
    ) -> Result<Self, QuantisationError> {
        let found = folders
            .iter()
            .map(|folder| training_images(folder, layout))
            .collect::<Result<Vec<_>, _>>()?;
        let counts: Vec<usize> = found.iter().map(Vec::len).collect();
        let mut selection = Self {
            folders: folders.to_vec(),
            ..Self::default()
        };
        for (index, (files, take)) in found
            .iter()
            .zip(shares(&counts, images + images / (HELD_OUT - 1)))
            .enumerate()
        {
            let mut random = stream(seed, Purpose::Calibrate, index as u64, 0);
            for at in 0..take {
                // One of each interval: as even as fixed distances, but different for each seed.
                let interval = at * files.len() / take..(at + 1) * files.len() / take;
                let file = files[random.random_range(interval)].clone();
                let drawn = selection.calibration.len() + selection.held_out.len();
                if drawn % HELD_OUT == HELD_OUT - 1 {
                    selection.held_out.push(file);
                } else {
                    selection.calibration.push(file);
                }
            }
        }
        selection.ensure(selection.calibration.len() + selection.held_out.len())?;
        Ok(selection)
    }

    /// Checks the number of images.
    pub(crate) fn ensure(&self, got: usize) -> Result<(), QuantisationError> {
        if got >= LEAST_IMAGES {
            return Ok(());
        }
        Err(QuantisationError::FewImages {
            folders: self.folders.clone(),
            expected: LEAST_IMAGES,
            got,
        })
    }
}

/// Distributes `total` in equal parts, none larger than its count.
fn shares(counts: &[usize], total: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|&index| counts[index]);
    let mut shares = vec![0; counts.len()];
    let mut left = total;
    for (place, index) in order.into_iter().enumerate() {
        shares[index] = counts[index].min(left / (counts.len() - place));
        left -= shares[index];
    }
    shares
}

/// Returns the images of a folder that may be used, sorted.
fn training_images(folder: &Path, layout: &LayoutOptions) -> Result<Vec<PathBuf>, QuantisationError> {
    let none = || QuantisationError::NoTraining {
        folder: folder.to_owned(),
    };
    let options = SplitOptions::default().with_layout(layout.clone());
    match Dataset::open(folder, &options) {
        Ok(dataset) => {
            let samples = dataset.samples(Split::Train).map_err(|_| none())?;
            return Ok(samples.iter().map(|sample| dataset.root().join(&sample.path)).collect());
        }
        Err(error @ TrainError::Read { .. }) => return Err(error.into()),
        Err(error) if *layout != LayoutOptions::default() => return Err(error.into()),
        // Calibration needs no classes.
        Err(error) => tracing::debug!("{error}; classes are ignored"),
    }
    let images = Scan::of(folder)?.images();
    let split = |path: &PathBuf| {
        let inside = path.strip_prefix(folder).unwrap_or(path);
        let mut folders = inside.parent().into_iter().flat_map(Path::iter);
        folders.find_map(|name| Split::from_name(name.to_str()?))
    };
    let (train, rest): (Vec<_>, Vec<_>) = images
        .iter()
        .cloned()
        .partition(|path| split(path) == Some(Split::Train));
    if !train.is_empty() {
        return Ok(train);
    }
    let unnamed: Vec<PathBuf> = rest.into_iter().filter(|path| split(path).is_none()).collect();
    if unnamed.is_empty() && !images.is_empty() {
        return Err(none());
    }
    Ok(unnamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_equal_as_far_as_the_counts_allow() {
        assert_eq!(shares(&[100, 100], 50), [25, 25]);
        assert_eq!(shares(&[100, 10, 100], 90), [40, 10, 40]);
        assert_eq!(shares(&[3, 0], 90), [3, 0]);
        assert_eq!(shares(&[], 90), Vec::<usize>::new());
    }
}
