//! A task's images and their features.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use clr_adapters::Preprocessing;
use clr_learning::Network;
use clr_onnx::{Preprocess as _, RgbImage, decode_image};

/// Splits, and the most images of a class in each.
const MOST: [(&str, usize); 3] = [("train", 120), ("val", 60), ("test", 100)];

/// An image: its class, its file and its features.
pub(crate) struct Seen {
    pub(crate) class: usize,
    pub(crate) file: PathBuf,
    pub(crate) x: Vec<f32>,
}

pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) labels: Vec<String>,
    /// Training, validation and test images.
    pub(crate) parts: [Vec<Seen>; 3],
}

/// Features by a network.
pub(crate) struct Extractor {
    pub(crate) network: Network,
    pub(crate) preprocessing: Preprocessing,
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>, std::io::Error> {
    let mut files = std::fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    files.sort();
    Ok(files)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Extractor {
    pub(crate) fn features(&self, image: &RgbImage) -> Result<Vec<f32>, Box<dyn Error>> {
        let size = [self.preprocessing.height as usize, self.preprocessing.width as usize];
        let start = self.network.prefix(&self.preprocessing.preprocess(image), size)?;
        Ok(self.network.features_from_prefix(&start, size)?)
    }

    /// Reads the images of a task, only those that `wanted` selects by split and class.
    pub(crate) fn task(&self, folder: &Path, wanted: impl Fn(usize, usize) -> bool) -> Result<Task, Box<dyn Error>> {
        let labels: Vec<String> = sorted(&folder.join("train"))?.iter().map(|path| name(path)).collect();
        let mut parts = [Vec::new(), Vec::new(), Vec::new()];
        for (at, ((part, most), seen)) in MOST.iter().zip(&mut parts).enumerate() {
            for (class, label) in labels.iter().enumerate().filter(|&(class, _)| wanted(at, class)) {
                let files = sorted(&folder.join(part).join(label)).unwrap_or_default();
                // The selection is spread over the sorted names, because neighbouring names may belong together.
                let kept = (*most).min(files.len());
                for index in 0..kept {
                    let file = files[index * files.len() / kept].clone();
                    let x = self.features(&decode_image(&file)?)?;
                    seen.push(Seen { class, file, x });
                }
            }
        }
        let name = name(folder);
        Ok(Task { name, labels, parts })
    }
}
