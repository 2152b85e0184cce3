//! The files that a publisher would write for a task without one of its classes.

use std::error::Error;

use clr_adapters::{
    Adapter, Canary, Encoding, Head, Header, Profile, Provenance, Recipe, SiteSteps, StepSize, decode, encode,
};
use clr_learning::{CLASS_FEATURES_STEP, LabelledFeatures, argmax, learn_class_features, log_probability};
use clr_onnx::{Backbone, compacted, decode_image, identity_adapter};
use clr_tuning::Parent;

use crate::{
    head::{fit, logits},
    task::{Extractor, Seen, Task},
};

pub(crate) struct Publisher<'a> {
    pub(crate) backbone: &'a Backbone,
    pub(crate) extractor: &'a Extractor,
}

impl Publisher<'_> {
    /// Returns the publisher's adapter of a task without one of its classes: without class features, and with them.
    pub(crate) fn files(&self, task: &Task, left_out: Option<usize>) -> Result<[Parent; 2], Box<dyn Error>> {
        let kept: Vec<usize> = (0..task.labels.len())
            .filter(|&class| Some(class) != left_out)
            .collect();
        let place = |class: usize| kept.iter().position(|&kept| kept == class);
        let of = |part: usize| -> Vec<(usize, &Seen)> {
            let all = task.parts[part].iter();
            all.filter_map(|seen| Some((place(seen.class)?, seen))).collect()
        };
        let (train, validation) = (of(0), of(1));
        let head = fit(&train, kept.len());
        let mut header = Header::new(
            "study",
            kept.iter().map(|&class| task.labels[class].clone()).collect(),
            self.backbone.digest(),
            self.extractor.preprocessing.clone(),
            Provenance::HostTrained,
        );
        let slices = |part: &[(usize, &Seen)]| part.iter().map(|(_, seen)| seen.x.clone()).collect::<Vec<_>>();
        let (training, own) = (slices(&train), slices(&validation));
        header.profile = Profile::learn(training.iter().map(Vec::as_slice), own.iter().map(Vec::as_slice));
        header.canaries = self.canaries(&head, &validation)?;
        let adapter = identity_adapter(self.backbone, Recipe::Linear, head, header);
        let steps = SiteSteps {
            weights: StepSize(-16),
            bias: StepSize(-6),
        };
        let mut compact = compacted(self.backbone, &adapter, steps, 0.3);
        let labelled = |part: &[(usize, &Seen)]| LabelledFeatures {
            features: slices(part),
            labels: part.iter().map(|(class, _)| *class as u32).collect(),
        };
        let (train, validation) = (labelled(&train), labelled(&validation));
        compact.header.class_features =
            learn_class_features(&train, &validation, &compact.head, CLASS_FEATURES_STEP, 0)?;
        compact.header.canaries.clear();
        let parent = |adapter: &Adapter, encoding| -> Result<Parent, Box<dyn Error>> {
            let file = decode(&encode(adapter, encoding)?)?;
            let own = file.adapter.clone();
            Ok(Parent::new(file, Some(&own)))
        };
        Ok([parent(&adapter, Encoding::Int8)?, parent(&compact, Encoding::Compact)?])
    }

    /// Selects canaries as in training: the most confident validation images of two classes, in small size.
    fn canaries(&self, head: &Head, validation: &[(usize, &Seen)]) -> Result<Vec<Canary>, Box<dyn Error>> {
        let mut order: Vec<&(usize, &Seen)> = validation.iter().collect();
        let sure = |(class, seen): &(usize, &Seen)| -log_probability(&logits(head, &seen.x), *class, 1.0);
        order.sort_by(|a, b| sure(a).total_cmp(&sure(b)));
        let mut chosen: Vec<Canary> = Vec::new();
        for (class, seen) in order.into_iter().take(24) {
            let image = decode_image(&seen.file)?;
            let factor = (32.0 / f64::from(image.width().max(image.height()))).min(1.0);
            let side = |side: u32| ((f64::from(side) * factor).round() as u32).max(1);
            let (width, height) = (side(image.width()), side(image.height()));
            let small = image::imageops::resize(&image, width, height, image::imageops::FilterType::Triangle);
            let answer = logits(head, &self.extractor.features(&small)?);
            let new = chosen.iter().all(|canary| canary.class as usize != *class);
            if argmax(&answer) == *class && new && chosen.len() < 2 {
                chosen.push(Canary {
                    size: [width as u16, height as u16],
                    pixels: small.into_raw(),
                    class: *class as u32,
                    probability: log_probability(&answer, *class, 1.0).exp() as f32,
                    seed: None,
                });
            }
        }
        Ok(chosen)
    }
}
