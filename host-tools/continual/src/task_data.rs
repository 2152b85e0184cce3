//! Tasks of a sequence: folders of images, loaded into memory.

use std::path::Path;

use clr_adapters::{Digest, Preprocessing};
use clr_training::{Dataset, Split, SplitImages, SplitOptions};
use rand::seq::SliceRandom as _;

use crate::{
    error::{ContinualError, Result},
    images::Images,
    random::{Purpose, stream},
};

/// Maximum bytes of decoded images of a split while it is read.
const BUDGET: usize = 2 << 30;

/// Numbers of images of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageLimits {
    /// Maximum number of training images.
    pub train: usize,
    /// Maximum number of validation images, and of test images.
    pub held_out: usize,
}

/// The images of a task.
pub struct TaskData {
    /// Name of its folder.
    pub name: String,
    /// Names of its classes.
    pub classes: Vec<String>,
    /// Training images.
    pub train: Images,
    /// Validation images.
    pub validation: Images,
    /// Test images: the same for all methods and seeds.
    pub test: Images,
    /// SHA-256 over the digests of the three splits.
    pub digest: Digest,
}

impl TaskData {
    /// Loads a folder with `train/`, `val/` and `test/`. The seed selects the training images. Without `val/`, a fifth of
    /// the training images are validation images.
    ///
    /// # Errors
    /// [`ContinualError::Training`] if the folder or an image cannot be read, or if a split is missing.
    pub fn load(folder: &Path, preprocessing: &Preprocessing, limits: ImageLimits, seed: u64) -> Result<Self> {
        let options = SplitOptions::default().with_seed(seed).with_limit(limits.train);
        let dataset = Dataset::open(folder, &options)?;
        let mut digests = Vec::new();
        let mut load = |split, limit: Option<usize>| {
            let images = SplitImages::load(&dataset, split, preprocessing, BUDGET, &mut ())?;
            digests.extend(images.digest().0);
            let images = Images::of_split(&images)?;
            Ok::<_, ContinualError>(match limit {
                Some(limit) => some(&images, limit, 0),
                None => images,
            })
        };
        Ok(Self {
            name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            train: some(&load(Split::Train, None)?, limits.train, seed),
            validation: load(Split::Validation, Some(limits.held_out))?,
            test: load(Split::Test, Some(limits.held_out))?,
            classes: dataset.classes().to_vec(),
            digest: Digest::of(&digests),
        })
    }
}

/// Returns at most `limit` images, which depend on the seed alone.
fn some(images: &Images, limit: usize, seed: u64) -> Images {
    let mut order: Vec<usize> = (0..images.examples().len()).collect();
    if order.len() > limit {
        order.shuffle(&mut stream(seed, Purpose::HeldOut, 0, 0, 0));
        order.truncate(limit);
        order.sort_unstable();
    }
    let examples = order.into_iter().map(|index| images.examples()[index].clone());
    Images::new(images.preprocessing().clone(), examples.collect())
}
