//! Logits of image files from the training network, in batches, for evaluation on a GPU.

use std::path::PathBuf;

use candle_core::Device;
use clr_adapters::Adapter;
use clr_onnx::{Backbone, ImageError, Preprocess as _};
use clr_training::{Executor, Images, Network};
use rayon::prelude::*;

const BATCH: usize = 32;

/// Returns logits in the order of `files`, with an error for each unreadable file. `progress` receives the number of
/// files after each step.
pub(crate) fn logits(
    device: &Device,
    backbone: &Backbone,
    adapter: &Adapter,
    files: &[PathBuf],
    progress: impl Fn(usize),
) -> anyhow::Result<Vec<Result<Vec<f32>, ImageError>>> {
    let executor = Executor::new(backbone, device)?;
    let network = Network::from_adapter(backbone, adapter)?;
    let preprocessing = &adapter.header.preprocessing;
    let size = [preprocessing.height as usize, preprocessing.width as usize];
    let mut results = Vec::with_capacity(files.len());
    for batch in files.chunks(BATCH) {
        let inputs: Vec<Result<Vec<f32>, ImageError>> = batch
            .par_iter()
            .map(|file| Ok(preprocessing.preprocess(&clr_onnx::decode_image_for(file, &[preprocessing])?)))
            .collect();
        let read: Vec<&[f32]> = inputs.iter().flatten().map(Vec::as_slice).collect();
        let mut rows = if read.is_empty() {
            Vec::new()
        } else {
            let values = &read.concat();
            executor.logits(&network, Images { values, size })?
        }
        .into_iter();
        results.extend(
            inputs
                .into_iter()
                .map(|input| input.map(|_| rows.next().unwrap_or_default())),
        );
        progress(batch.len());
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use clr_adapters::Recipe;
    use clr_engine::{Engine, EngineOptions};
    use clr_onnx::{Architecture, RgbImage, seeded_backbone};

    use super::*;
    use crate::{
        bench::{at_size, some_adapter},
        learn::{TOLERANCE, relative_difference},
    };

    #[test]
    fn logits_equal_the_engines_and_unreadable_files_are_skipped() {
        let backbone = at_size(seeded_backbone(Architecture::EfficientNetLite0, 1, 10), 32).unwrap();
        let adapter = some_adapter(&backbone, Recipe::Clr, "task");
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = (0..3).map(|i| folder.path().join(format!("{i}.png"))).collect();
        for (i, file) in files.iter().enumerate() {
            RgbImage::from_fn(40, 32, |x, y| image::Rgb([x as u8 * 6, y as u8 * 8, 60 * i as u8]))
                .save(file)
                .unwrap();
        }
        std::fs::write(&files[1], "no image").unwrap();
        let done = std::cell::Cell::new(0);
        let progress = |count| done.set(done.get() + count);
        let results = logits(&Device::Cpu, &backbone, &adapter, &files, progress).unwrap();
        assert_eq!((results.len(), done.get()), (3, 3));
        assert!(results[1].is_err());
        let engine = Engine::new(backbone, EngineOptions::default()).unwrap();
        let resident = engine.prepare(&adapter).unwrap();
        for index in [0, 2] {
            let image = clr_onnx::decode_image(&files[index]).unwrap();
            let expected = engine.classify(&resident, &image).unwrap();
            let got = results[index].as_ref().unwrap();
            assert!(relative_difference(expected.logits(), got) < TOLERANCE);
        }
    }
}
