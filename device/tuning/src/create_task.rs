//! A new task from labelled images: the unmodified backbone with a nearest-class-mean head.

use clr_adapters::{Head, Header, Provenance, Recipe, SiteSteps, StepSize};
use clr_learning::{CLASS_FEATURES_STEP, LabelledFeatures, Network, learn_class_features};
use clr_onnx::{Backbone, compacted, identity_adapter};

use crate::{
    AdapterRevision,
    error::{Result, TuneError},
    examples::{Example, Examples},
    features::{images, mean, unmodified},
    profile::{profile_against, profile_of_sketches},
};

/// Creates a task from labelled images: the unmodified backbone with a head of prototypes.
///
/// `header` gives the task's name and the preprocessing; labels, profile and provenance are set here. With a `recipe`
/// other than [`Recipe::Linear`], the adapter has identity sites that can be tuned later. With ten images or more it
/// has a feature profile, so that the device can select the task automatically. Images that cannot be decoded are
/// skipped.
///
/// # Errors
/// [`TuneError::TooFewClasses`] for fewer than two classes with decodable images; [`TuneError::Examples`] if the images
/// cannot be listed or read; [`TuneError::Learning`] if the network fails; [`TuneError::Encode`] or
/// [`TuneError::Decode`] if the adapter cannot be written to a file.
pub fn create_task(
    backbone: &Backbone,
    header: Header,
    recipe: Recipe,
    examples: &dyn Examples,
) -> Result<AdapterRevision> {
    let mut list = examples.list().map_err(TuneError::Examples)?;
    list.retain(|example| example.label.is_some());
    list.sort_by(|a, b| (&a.label, a.id).cmp(&(&b.label, b.id)));
    let classes: Vec<&[Example]> = list.chunk_by(|a, b| a.label == b.label).collect();
    if classes.len() < 2 {
        return Err(TuneError::TooFewClasses { got: classes.len() });
    }
    let network = Network::new(backbone, Recipe::Linear, classes.len(), 0)?;
    let (mut groups, mut labels) = (Vec::with_capacity(classes.len()), Vec::with_capacity(classes.len()));
    let mut statistics = Vec::new();
    for class in &classes {
        let mut own = Vec::with_capacity(class.len());
        for image in images(&header.preprocessing, examples, class)? {
            // The network has no sites, so its features are those of the unmodified backbone.
            let pass = unmodified(&network, &header.preprocessing, &image)?;
            own.push(pass.features);
            statistics.push(pass.block_statistics);
        }
        if !own.is_empty() {
            labels.extend(class[0].label.clone());
            groups.push(own);
        }
    }
    if groups.len() < 2 {
        return Err(TuneError::TooFewClasses { got: groups.len() });
    }
    let profile = if let Some(background) = backbone.background() {
        profile_against(background, &statistics)
    } else {
        let images: Vec<&[f32]> = groups.iter().flatten().map(Vec::as_slice).collect();
        profile_of_sketches(&images)
    };
    let header = Header {
        labels,
        profile,
        provenance: Provenance::DeviceTuned,
        metrics: None,
        ..header
    };
    let adapter = identity_adapter(backbone, recipe, nearest_mean(&groups), header);
    let mut adapter = compacted(backbone, &adapter, SITES, HEAD);
    let labels = (0..)
        .zip(&groups)
        .flat_map(|(class, group)| group.iter().map(move |_| class));
    let images = LabelledFeatures {
        labels: labels.collect(),
        features: groups.concat(),
    };
    // There are no other images for the margins. Means and directions of few images hardly fit to each of them.
    adapter.header.class_features = learn_class_features(&images, &images, &adapter.head, CLASS_FEATURES_STEP, 0)?;
    AdapterRevision::new(adapter, None)
}

/// Steps of the sites of a new task, which are not trained yet.
const SITES: SiteSteps = SiteSteps {
    weights: StepSize(-17),
    bias: StepSize(-6),
};
/// Step of the head of a new task, in units of its root mean square.
const HEAD: f64 = 0.3;

/// Returns a head that predicts the class with the nearest mean feature. The logits are scaled so that the correct
/// class leads by 4 nats on average.
fn nearest_mean(groups: &[Vec<Vec<f32>>]) -> Head {
    let means: Vec<Vec<f64>> = groups.iter().map(|group| mean(group)).collect();
    let features = means.first().map_or(0, Vec::len);
    let centre: Vec<f64> = (0..features)
        .map(|at| means.iter().map(|mean| mean[at]).sum::<f64>() / means.len().max(1) as f64)
        .collect();
    let rows: Vec<Vec<f64>> = (means.iter())
        .map(|mean| mean.iter().zip(&centre).map(|(value, centre)| value - centre).collect())
        .collect();
    // Derived from |x − mean|² / 2 without the terms that all classes share: row · x − row · (mean + centre) / 2.
    let biases: Vec<f64> = (rows.iter().zip(&means))
        .map(|(row, mean)| {
            -row.iter()
                .zip(mean.iter().zip(&centre))
                .map(|(r, (m, c))| r * (m + c) / 2.0)
                .sum::<f64>()
        })
        .collect();
    let dot = |row: &[f64], x: &[f32]| row.iter().zip(x).map(|(w, &x)| w * f64::from(x)).sum::<f64>();
    let logit = |class: usize, x: &[f32]| dot(&rows[class], x) + biases[class];
    let mut leads = Vec::new();
    for (class, group) in groups.iter().enumerate() {
        for x in group {
            let others = (0..groups.len())
                .filter(|other| *other != class)
                .map(|other| logit(other, x));
            leads.push(logit(class, x) - others.fold(f64::NEG_INFINITY, f64::max));
        }
    }
    let lead = leads.iter().sum::<f64>() / leads.len().max(1) as f64;
    let scale = 4.0 / lead.max(1e-6);
    Head {
        features,
        weight: rows.iter().flatten().map(|value| (value * scale) as f32).collect(),
        bias: biases.iter().map(|value| (value * scale) as f32).collect(),
    }
}
