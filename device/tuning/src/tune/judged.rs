//! Both adapters' answers to what was held out.

use candle_core::{Device, Tensor};
use clr_adapters::{Digest, Metrics};
use clr_onnx::RgbImage;
use clr_training::{Network, Start, argmax, log_probability};

use super::{Watch, run_pictures::RunPictures, size};
use crate::{
    Parent, TuneOptions,
    error::{Result, TuneError},
    pictures::Picture,
    promote::Pair,
};

pub(super) fn logits(network: &Network, start: &Start, size: [usize; 2]) -> Result<Vec<f32>, clr_training::TrainError> {
    let features = network.features_from(start, size)?;
    let features = Tensor::from_slice(&features, (1, features.len()), &Device::Cpu)?;
    Ok(network.classify(&features, false)?.flatten_all()?.to_vec1()?)
}

/// Held-out pictures with both adapters' answers.
pub(super) struct Judged {
    pub(super) learned: Vec<Pair>,
    pub(super) old: Vec<Pair>,
    /// The tuned adapter's probability of each canary's class.
    pub(super) canaries: Vec<f32>,
    exact_hits: usize,
}

impl Judged {
    pub(super) fn new(
        parent: &Parent,
        reference: &Network,
        tuned: &Network,
        exact: &Network,
        pictures: &RunPictures,
        watch: &mut dyn Watch,
        options: &TuneOptions,
    ) -> Result<Self> {
        let header = &parent.adapter.header;
        let answer = |network: &Network, picture: &Picture| -> Result<Vec<f32>> {
            let input = picture.variant(0, 0, &header.preprocessing);
            Ok(logits(network, &network.start(&input, size(header))?, size(header))?)
        };
        let mut judged = Self {
            learned: Vec::new(),
            old: Vec::new(),
            canaries: Vec::new(),
            exact_hits: 0,
        };
        for picture in &pictures.held_learned {
            if watch.should_stop() {
                let steps = options.steps;
                return Err(TuneError::Stopped { step: steps, steps });
            }
            let class = picture.class.unwrap_or(0);
            judged.exact_hits += usize::from(argmax(&answer(exact, picture)?) == class);
            judged.learned.push(Pair {
                class,
                parent: answer(reference, picture)?,
                tuned: answer(tuned, picture)?,
            });
        }
        let old = if parent.protected == 0 {
            header.labels.len()
        } else {
            parent.protected
        };
        for picture in &pictures.held_old {
            let before = answer(reference, picture)?;
            judged.old.push(Pair {
                class: picture.class.unwrap_or_else(|| argmax(&before[..old])),
                parent: before,
                tuned: answer(tuned, picture)?,
            });
        }
        for canary in &header.canaries {
            let [width, height] = canary.size.map(u32::from);
            let Some(pixels) = RgbImage::from_raw(width, height, canary.pixels.clone()) else {
                continue;
            };
            let picture = Picture::new(&pixels, None, &header.preprocessing, 0);
            let (class, after) = (canary.class as usize, answer(tuned, &picture)?);
            let temperature = f64::from(header.temperature);
            judged
                .canaries
                .push(log_probability(&after, class, temperature).exp() as f32);
            judged.old.push(Pair {
                class,
                parent: answer(reference, &picture)?,
                tuned: after,
            });
        }
        Ok(judged)
    }

    /// On the held-out pictures of learned classes.
    pub(super) fn metrics(&self, pictures: &RunPictures, data: &Digest, options: &TuneOptions) -> Option<Metrics> {
        let held = self.learned.len();
        let hits = self
            .learned
            .iter()
            .filter(|pair| argmax(&pair.tuned) == pair.class)
            .count();
        (held > 0).then(|| Metrics {
            accuracy: self.exact_hits as f32 / held as f32,
            quantised_accuracy: hits as f32 / held as f32,
            validation_images: held as u32,
            training_images: (pictures.learned.len() + pictures.recalled.len()) as u32,
            data: *data,
            seed: options.seed,
            created: options.created,
        })
    }
}
