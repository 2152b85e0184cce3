//! Splits without leakage: no duplicates, no divided groups; train, validation and test are 6 : 1 : 2 in each class.

use std::collections::{BTreeMap, HashMap};

use clr_adapters::Digest;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::images::Image;
use clr_training::inspect::near_pairs;

/// An image with its class and group.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Its name in the package, for the file name.
    pub(crate) name: String,
    /// Index into the task's labels.
    pub(crate) class: usize,
    /// A group is never divided between splits.
    pub(crate) group: String,
    /// Whether the sample belongs to the data set's own test split.
    pub(crate) held_out: bool,
    pub(crate) image: Image,
}

/// A split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Train,
    Val,
    Test,
}

impl Part {
    pub(crate) const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

/// Counts of removed images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Number of copies of images that were kept.
    pub(crate) duplicates: usize,
    /// Number of images with two labels, none of which was kept.
    pub(crate) contradictory: usize,
}

/// Keeps one image of each set of equal images, and none if their labels differ.
pub(crate) fn remove_duplicates(samples: Vec<Sample>) -> (Vec<Sample>, Removed) {
    let mut classes: HashMap<Digest, (usize, bool)> = HashMap::new();
    for sample in &samples {
        let entry = classes.entry(sample.image.pixels).or_insert((sample.class, true));
        entry.1 &= entry.0 == sample.class;
    }
    let mut removed = Removed::default();
    // Test images take precedence over training images, so that the data set's own test split stays complete.
    let (test, pool): (Vec<Sample>, Vec<Sample>) = samples.into_iter().partition(|sample| sample.held_out);
    let mut seen = std::collections::HashSet::new();
    let mut kept = Vec::new();
    for sample in test.into_iter().chain(pool) {
        if !classes[&sample.image.pixels].1 {
            removed.contradictory += 1;
        } else if seen.insert(sample.image.pixels) {
            kept.push(sample);
        } else {
            removed.duplicates += 1;
        }
    }
    (kept, removed)
}

/// Keeps at most `limit` samples per class, selected with the seed. If the data set has its own test split, two ninths
/// of the limit are taken from it.
pub(crate) fn limit_per_class(samples: Vec<Sample>, limit: usize, seed: u64) -> Vec<Sample> {
    let fixed = samples.iter().any(|sample| sample.held_out);
    let test_limit = if fixed { limit * 2 / 9 } else { 0 };
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x11A1);
    let mut by_class: BTreeMap<(usize, bool), Vec<usize>> = BTreeMap::new();
    for (index, sample) in samples.iter().enumerate() {
        by_class.entry((sample.class, sample.held_out)).or_default().push(index);
    }
    let mut keep = vec![false; samples.len()];
    for ((_, held_out), mut indices) in by_class {
        indices.shuffle(&mut random);
        indices.truncate(if held_out {
            test_limit.max(1)
        } else {
            (limit - test_limit).max(1)
        });
        for index in indices {
            keep[index] = true;
        }
    }
    samples
        .into_iter()
        .zip(keep)
        .filter_map(|(sample, keep)| keep.then_some(sample))
        .collect()
}

/// Returns groups as lists of indices. A group contains samples with the same group name and, optionally,
/// near-duplicates.
pub(crate) fn groups(samples: &[Sample], near_duplicates: bool) -> Vec<Vec<usize>> {
    let mut parent: Vec<usize> = (0..samples.len()).collect();
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (index, sample) in samples.iter().enumerate() {
        let &mut other = first.entry(&sample.group).or_insert(index);
        join(&mut parent, index, other);
    }
    if near_duplicates {
        let prints: Vec<_> = samples.iter().map(|sample| sample.image.fingerprint).collect();
        for (a, b) in near_pairs(&prints) {
            join(&mut parent, a, b);
        }
    }
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for index in 0..samples.len() {
        members.entry(root(&mut parent, index)).or_default().push(index);
    }
    members.into_values().collect()
}

fn root(parent: &mut [usize], mut index: usize) -> usize {
    while parent[index] != index {
        parent[index] = parent[parent[index]];
        index = parent[index];
    }
    index
}

fn join(parent: &mut [usize], a: usize, b: usize) {
    let (a, b) = (root(parent, a), root(parent, b));
    parent[a.max(b)] = a.min(b);
}

/// Assigns every sample to a split. Groups are not divided; the largest ones are assigned first, each to the split with
/// the greatest need of its classes. If the data set has its own test split, a group with such a sample goes to the
/// test split, and the rest is divided 6 : 1.
pub(crate) fn assign(samples: &[Sample], groups: &[Vec<usize>], seed: u64) -> Vec<Part> {
    let fixed = samples.iter().any(|sample| sample.held_out);
    let shares: &[(Part, f64)] = if fixed {
        &[(Part::Train, 6.0 / 7.0), (Part::Val, 1.0 / 7.0)]
    } else {
        &[
            (Part::Train, 6.0 / 9.0),
            (Part::Val, 1.0 / 9.0),
            (Part::Test, 2.0 / 9.0),
        ]
    };
    let classes = samples.iter().map(|sample| sample.class + 1).max().unwrap_or(0);
    let mut totals = vec![0.0_f64; classes];
    for sample in samples.iter().filter(|sample| !sample.held_out) {
        totals[sample.class] += 1.0;
    }
    let mut order: Vec<&Vec<usize>> = groups.iter().collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    order.sort_by_key(|group| std::cmp::Reverse(group.len()));
    let mut filled = vec![[0.0_f64; 3]; classes];
    let mut parts = vec![Part::Train; samples.len()];
    for group in order {
        let part = if group.iter().any(|&index| samples[index].held_out) {
            Part::Test
        } else {
            // The need of a split for these classes is the number of images that it lacks, relative to its share.
            let need = |&(part, share): &(Part, f64)| {
                group
                    .iter()
                    .map(|&index| {
                        let class = samples[index].class;
                        let target = share * totals[class];
                        (target - filled[class][part as usize]) / target
                    })
                    .sum::<f64>()
            };
            let mut best = (shares[0].0, f64::NEG_INFINITY);
            for share in shares {
                let value = need(share);
                if value > best.1 + 1e-12 {
                    best = (share.0, value);
                }
            }
            best.0
        };
        for &index in group {
            parts[index] = part;
            filled[samples[index].class][part as usize] += 1.0;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma};

    use super::*;

    fn sample(value: u8, class: usize, group: &str, held_out: bool) -> Sample {
        let grey = GrayImage::from_fn(4, 4, |x, _| Luma([value.wrapping_add(x as u8)]));
        Sample {
            name: format!("{value}"),
            class,
            group: group.to_owned(),
            held_out,
            image: Image::from_grey(&grey, "test").unwrap(),
        }
    }

    fn many(count: usize, classes: usize, per_group: usize) -> Vec<Sample> {
        (0..count)
            .map(|index| {
                let mut one = sample(0, index % classes, &format!("{}", index / per_group), false);
                one.image.pixels = Digest::of(&(index as u64).to_le_bytes());
                one
            })
            .collect()
    }

    #[test]
    fn duplicates_leave_one_and_contradictions_none() {
        let samples = vec![
            sample(1, 0, "a", false),
            sample(1, 0, "b", true),
            sample(2, 0, "c", false),
            sample(2, 1, "d", false),
            sample(3, 1, "e", false),
        ];
        let (kept, removed) = remove_duplicates(samples);
        assert_eq!(
            removed,
            Removed {
                duplicates: 1,
                contradictory: 2
            }
        );
        assert_eq!(kept.len(), 2);
        assert!(kept[0].held_out, "the test image is the one that is kept");
    }

    #[test]
    fn a_group_is_never_divided_between_splits() {
        let samples = many(300, 4, 7);
        let groups = groups(&samples, false);
        let parts = assign(&samples, &groups, 3);
        for group in groups {
            assert!(group.iter().all(|&index| parts[index] == parts[group[0]]));
        }
    }

    #[test]
    fn single_samples_are_divided_six_to_one_to_two_in_every_class() {
        let samples = many(900, 3, 1);
        let parts = assign(&samples, &groups(&samples, false), 1);
        for class in 0..3 {
            let count = |part| {
                (0..900)
                    .filter(|&i| samples[i].class == class && parts[i] == part)
                    .count()
            };
            for (part, share) in [(Part::Train, 200), (Part::Val, 33), (Part::Test, 67)] {
                assert!(
                    count(part).abs_diff(share) <= 1,
                    "class {class}: {} in {part:?}",
                    count(part)
                );
            }
        }
    }

    #[test]
    fn the_data_sets_own_test_split_is_kept() {
        let mut samples = many(90, 2, 1);
        for one in &mut samples[..30] {
            one.held_out = true;
        }
        let parts = assign(&samples, &groups(&samples, false), 1);
        for (one, part) in samples.iter().zip(parts) {
            assert_eq!(one.held_out, part == Part::Test);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_split_and_another_seed_another() {
        let samples = many(200, 4, 2);
        let groups = groups(&samples, false);
        assert_eq!(assign(&samples, &groups, 5), assign(&samples, &groups, 5));
        assert_ne!(assign(&samples, &groups, 5), assign(&samples, &groups, 6));
    }

    #[test]
    fn a_limit_counts_per_class() {
        let limited = limit_per_class(many(300, 3, 1), 18, 0);
        assert_eq!(limited.len(), 54);
        assert!((0..3).all(|class| limited.iter().filter(|one| one.class == class).count() == 18));
    }
}
