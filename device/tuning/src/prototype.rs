//! A class that answers at once: a row of the head from the mean of its pictures' features.
//!
//! The row is the mean feature, scaled to the mean length of the rows that are there. Its bias sets the level on which it competes: on
//! the class's own pictures the new logit is, on average, as high as the highest of the others. So it takes about those pictures of which the
//! old classes are no surer than they are of the new class's, and rarely one of their own. Pictures of old classes that the device has
//! lower the level further, until none of them is taken. No row and no bias that was there changes.

use clr_adapters::{Adapter, Encoding, Head, Header, Provenance, Recipe, quantised};
use clr_onnx::{Backbone, identity_adapter};
use clr_training::Network;

use crate::{
    Parent, Version,
    error::{Result, TuneError},
    examples::{Example, Examples},
    pictures::Picture,
    profile::profile,
};

/// Extends the head by every label of `examples` that the adapter does not have, in the labels' order. The parent's rows and biases, and so
/// its old classes' logits, stay as they are bit for bit.
pub fn teach(backbone: &Backbone, parent: &Parent, examples: &dyn Examples) -> Result<Version> {
    let header = &parent.adapter.header;
    let mut list = examples.list().map_err(TuneError::Examples)?;
    list.sort_by(|a, b| (&a.label, a.id).cmp(&(&b.label, b.id)));
    let network = Network::from_adapter(backbone, &parent.adapter, &candle_core::Device::Cpu)?;
    let known = |label: &Option<String>| label.as_ref().is_none_or(|label| header.labels.contains(label));
    if list.iter().all(|example| known(&example.label)) {
        return Err(TuneError::NoExamples {
            task: header.task.clone(),
        });
    }
    let features = |example: &Example| features(&network, &parent.adapter.header, examples, example);
    let (old, new): (Vec<Example>, Vec<Example>) = list.into_iter().partition(|example| known(&example.label));
    let old = old.iter().map(&features).collect::<Result<Vec<_>>>()?;
    let mut adapter = parent.adapter.clone();
    // Answers of the publisher's and of earlier classes to pictures of theirs.
    let mut others: Vec<Vec<f32>> = old;
    for class in new.chunk_by(|a, b| a.label == b.label) {
        let own = class.iter().map(&features).collect::<Result<Vec<_>>>()?;
        adapter.header.labels.extend(class[0].label.clone());
        extend(&mut adapter, parent.encoding, &own, &others)?;
        others.extend(own);
    }
    adapter.header.metrics = None;
    Version::new(adapter, Some(parent))
}

/// A task of its own, from pictures alone: the backbone as it is, and a head of prototypes. `header` says what the task is called and how
/// pictures are prepared; labels, backbone and provenance are set here. With a `recipe` other than [`Recipe::Linear`] the adapter has
/// sites at the identity, so that tuning may reprogram them. What its pictures look like is kept as its profile, if there are enough to tell, so
/// that the device may choose the task by itself.
pub fn birth(backbone: &Backbone, header: Header, recipe: Recipe, examples: &dyn Examples) -> Result<Version> {
    let mut list = examples.list().map_err(TuneError::Examples)?;
    list.retain(|example| example.label.is_some());
    list.sort_by(|a, b| (&a.label, a.id).cmp(&(&b.label, b.id)));
    let classes: Vec<&[Example]> = list.chunk_by(|a, b| a.label == b.label).collect();
    if classes.len() < 2 {
        return Err(TuneError::TooFewClasses { got: classes.len() });
    }
    let network = Network::new(backbone, Recipe::Linear, classes.len(), &candle_core::Device::Cpu, 0)?;
    let mut groups = Vec::with_capacity(classes.len());
    for class in &classes {
        let own = class
            .iter()
            .map(|example| features(&network, &header, examples, example));
        groups.push(own.collect::<Result<Vec<_>>>()?);
    }
    let labels = classes.iter().filter_map(|class| class[0].label.clone()).collect();
    let pictures: Vec<&[f32]> = groups.iter().flatten().map(Vec::as_slice).collect();
    let header = Header {
        labels,
        profile: profile(&pictures),
        provenance: Provenance::DeviceTuned,
        metrics: None,
        ..header
    };
    Version::new(identity_adapter(backbone, recipe, nearest_mean(&groups), header), None)
}

/// Mean features as rows, so that the nearest mean wins; scaled so that right answers lead by 4 on average.
fn nearest_mean(groups: &[Vec<Vec<f32>>]) -> Head {
    let means: Vec<Vec<f64>> = groups.iter().map(|group| mean(group)).collect();
    let features = means.first().map_or(0, Vec::len);
    let centre: Vec<f64> = (0..features)
        .map(|at| means.iter().map(|mean| mean[at]).sum::<f64>() / means.len().max(1) as f64)
        .collect();
    let rows: Vec<Vec<f64>> = (means.iter())
        .map(|mean| mean.iter().zip(&centre).map(|(value, centre)| value - centre).collect())
        .collect();
    // |x − mean|² / 2 without what all classes share: row · x − row · (mean + centre) / 2.
    let biases: Vec<f64> = (rows.iter().zip(&means))
        .map(|(row, mean)| {
            -row.iter()
                .zip(mean.iter().zip(&centre))
                .map(|(r, (m, c))| r * (m + c) / 2.0)
                .sum::<f64>()
        })
        .collect();
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

/// Adds a row for the class with these features, below everything that `others` answer to their own.
fn extend(adapter: &mut Adapter, encoding: Encoding, own: &[Vec<f32>], others: &[Vec<f32>]) -> Result<()> {
    let features = adapter.head.features.max(1);
    let known = adapter.head.weight.len();
    let length = |row: &[f32]| row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    let rows = adapter.head.weight.chunks_exact(features);
    let wanted = rows.map(length).sum::<f64>() / adapter.head.classes().max(1) as f64;
    let mean = mean(own);
    let norm = mean.iter().map(|value| value * value).sum::<f64>().sqrt().max(1e-12);
    adapter
        .head
        .weight
        .extend(mean.iter().map(|value| (value / norm * wanted) as f32));
    adapter.head.bias.push(0.0);
    // The level is that of the row as the file will have it.
    let row = quantised(adapter, encoding)?.head.weight.split_off(known);
    adapter.head.weight.truncate(known);
    let logit = |row: &[f32], x: &[f32]| {
        row.iter()
            .zip(x)
            .map(|(&w, &x)| f64::from(w) * f64::from(x))
            .sum::<f64>()
    };
    let gap = |x: &Vec<f32>| {
        let old = adapter.head.weight.chunks_exact(features).zip(&adapter.head.bias);
        let highest = old
            .map(|(row, &bias)| logit(row, x) + f64::from(bias))
            .fold(f64::NEG_INFINITY, f64::max);
        highest - logit(&row, x)
    };
    let level = own.iter().map(gap).sum::<f64>() / own.len().max(1) as f64;
    let bias = others.iter().map(|x| gap(x) - 1e-3).fold(level, f64::min) as f32;
    adapter.head.weight.extend(row);
    if let Some(last) = adapter.head.bias.last_mut() {
        *last = bias;
    }
    Ok(())
}

fn mean(features: &[Vec<f32>]) -> Vec<f64> {
    let mut mean = vec![0.0; features.first().map_or(0, Vec::len)];
    for x in features {
        mean.iter_mut().zip(x).for_each(|(mean, &x)| *mean += f64::from(x));
    }
    for mean in &mut mean {
        *mean /= features.len().max(1) as f64;
    }
    mean
}

fn dot(row: &[f64], x: &[f32]) -> f64 {
    row.iter().zip(x).map(|(w, &x)| w * f64::from(x)).sum()
}

fn features(network: &Network, header: &Header, examples: &dyn Examples, example: &Example) -> Result<Vec<f32>> {
    let preprocessing = &header.preprocessing;
    let picture = Picture::load(examples, example, None, preprocessing)?;
    let size = [preprocessing.height as usize, preprocessing.width as usize];
    let start = network.start(&picture.variant(0, 0, preprocessing), size)?;
    Ok(network.features_from(&start, size)?)
}
