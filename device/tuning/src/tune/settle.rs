//! What is done once the steps are over: sites go part of the way, and new classes' rows are fitted to the features that there are then.
//!
//! Half way from the parent to where the steps led, fewer answers on old classes change than at the end, and the new class is recognised as
//! well once its row fits (Wortsman et al. 2022; docs/tuning.md, *What was measured*). The row's level is what the frames allow: each frame's
//! distance comes from a row that was fitted without it, and the new class is lowered until it takes none.

use clr_adapters::{Adapter, SiteWeights, quantised};
use clr_training::{Network, argmax};

use super::{
    Watch,
    judged::logits,
    row::{Row, Sample, fit},
    run_pictures::RunPictures,
    size,
};
use crate::{
    Parent, TuneOptions,
    error::{Result, TuneError},
    pictures::Picture,
};

/// Pictures of old classes without which rows stay as the steps left them.
const ENOUGH: usize = 20;
/// Pictures of old classes that are used at most, since a fit takes the cube of the number of pictures.
const MOST_RECALLED: usize = 256;
/// The same for pictures that are learned.
const MOST_LEARNED: usize = 512;
/// Parts that a row is fitted without, in turn.
const FOLDS: usize = 5;

/// A picture's features and class; none for one that recalls old classes.
type Seen = (Vec<f32>, Option<usize>);

pub(super) struct Settle<'a> {
    pub(super) parent: &'a Parent,
    pub(super) options: &'a TuneOptions,
    /// The parent's network.
    pub(super) reference: &'a Network,
    pub(super) pool: &'a rayon::ThreadPool,
    pub(super) pictures: &'a RunPictures,
}

impl Settle<'_> {
    /// Changes what the steps led to where new classes are learned beside the publisher's.
    pub(super) fn settle(&self, adapter: &mut Adapter, watch: &mut dyn Watch) -> Result<()> {
        let protected = self.parent.protected;
        let mut classes: Vec<usize> = (self.pictures.learned.iter())
            .filter_map(|picture| picture.class.filter(|&class| class >= protected))
            .collect();
        classes.sort_unstable();
        classes.dedup();
        if protected == 0 || classes.is_empty() {
            return Ok(());
        }
        go_part_of_the_way(&self.parent.adapter, adapter, self.options.stride);
        if self.pictures.recalled.len() < ENOUGH {
            return Ok(());
        }
        let seen = self.see(adapter, watch)?;
        for class in classes {
            self.refit(adapter, class, &seen)?;
        }
        Ok(())
    }

    /// Features of the pictures that are learned from, by the weights of a file.
    fn see(&self, adapter: &Adapter, watch: &mut dyn Watch) -> Result<Vec<Seen>> {
        let header = &self.parent.adapter.header;
        let network = (self.reference).sibling_from_adapter(&quantised(adapter, self.parent.encoding)?)?;
        let spread = |all: &[Picture], most: usize| all.len().div_ceil(most).max(1);
        let (recalled, learned) = (&self.pictures.recalled, &self.pictures.learned);
        let recalls = recalled.iter().step_by(spread(recalled, MOST_RECALLED));
        let learns = learned.iter().step_by(spread(learned, MOST_LEARNED));
        let all: Vec<(&Picture, Option<usize>)> = learns
            .map(|picture| (picture, picture.class))
            .chain(recalls.map(|picture| (picture, None)))
            .collect();
        let mut seen = Vec::with_capacity(all.len());
        for (picture, class) in all {
            if watch.should_stop() {
                let steps = self.options.steps;
                return Err(TuneError::Stopped { step: steps, steps });
            }
            let input = picture.variant(0, 0, &header.preprocessing);
            let size = size(header);
            // A frame may well show a new class: what the parent takes for one tells nothing of the old ones.
            let of_old = class.is_some() || picture.class.is_some() || {
                let answer = || logits(self.reference, &self.reference.start(&input, size)?, size);
                argmax(&self.pool.install(answer)?) < self.parent.protected
            };
            if of_old {
                let features = || network.features_from(&network.start(&input, size)?, size);
                seen.push((self.pool.install(features)?, class));
            }
        }
        Ok(seen)
    }

    /// Fits the class's row against what `adapter` answers, as its file will.
    fn refit(&self, adapter: &mut Adapter, class: usize, seen: &[Seen]) -> Result<()> {
        let file = quantised(adapter, self.parent.encoding)?.head;
        let rows: Vec<Row> = (file.weight.chunks_exact(file.features.max(1)).zip(&file.bias))
            .map(|(weight, &bias)| Row {
                weight: weight.iter().map(|&value| f64::from(value)).collect(),
                bias: f64::from(bias),
            })
            .collect();
        let others: Vec<Vec<f64>> = (seen.iter())
            .map(|(features, _)| {
                let rows = rows.iter().enumerate().filter(|(other, _)| *other != class);
                rows.map(|(_, row)| row.logit(features)).collect()
            })
            .collect();
        let samples: Vec<Sample<'_>> = (seen.iter().zip(&others))
            .map(|((features, shown), others)| Sample {
                features,
                others,
                own: *shown == Some(class),
            })
            .collect();
        let recalls = |index: usize| seen[index].1.is_none();
        // As likely as one of the publisher's classes, and the options' caution beside.
        let caution = (self.parent.protected as f64).ln() + f64::from(self.options.caution);
        let Some(row) = settled(&rows[class], &samples, recalls, caution) else {
            return Ok(());
        };
        let features = adapter.head.features;
        let own = &mut adapter.head.weight[class * features..(class + 1) * features];
        own.iter_mut()
            .zip(&row.weight)
            .for_each(|(own, &value)| *own = value as f32);
        adapter.head.bias[class] = row.bias as f32;
        Ok(())
    }
}

/// A row fitted to all samples, and so low that rows fitted in the same way without a sample that recalls old classes take none of these.
fn settled(start: &Row, samples: &[Sample<'_>], recalls: impl Fn(usize) -> bool, caution: f64) -> Option<Row> {
    let all: Vec<&Sample<'_>> = samples.iter().collect();
    let mut row = fit(start, &all, caution)?;
    let (old, rest): (Vec<usize>, Vec<usize>) = (0..samples.len()).partition(|&index| recalls(index));
    let mut lowest: f64 = 0.0;
    for fold in 0..FOLDS {
        let part = |inside: bool| {
            let indices = old.iter().enumerate();
            indices
                .filter(move |(place, _)| (place % FOLDS == fold) == inside)
                .map(|(_, &index)| &samples[index])
        };
        let kept: Vec<&Sample<'_>> = rest.iter().map(|&index| &samples[index]).chain(part(false)).collect();
        let without = fit(start, &kept, caution)?;
        lowest = part(true).map(|sample| sample.gap(&without)).fold(lowest, f64::min);
    }
    row.bias += lowest;
    Some(row)
}

fn go_part_of_the_way(parent: &Adapter, adapter: &mut Adapter, stride: f32) {
    let part = |from: &[f32], to: &mut [f32]| {
        (to.iter_mut().zip(from)).for_each(|(to, &from)| *to = from + stride * (*to - from));
    };
    for (from, to) in parent.sites.iter().zip(&mut adapter.sites) {
        part(&from.bias, &mut to.bias);
        match (&from.weights, &mut to.weights) {
            (SiteWeights::Scale(from), SiteWeights::Scale(to))
            | (SiteWeights::Kernel(from), SiteWeights::Kernel(to)) => {
                part(from, to);
            }
            _ => {}
        }
    }
}
