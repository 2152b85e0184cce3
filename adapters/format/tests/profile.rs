//! A profile distinguishes its own task's images from others, also after a round trip through a file.

use clr_adapters::{Encoding, OwnScores, Profile, decode, distance_ood_score, encode, sketch};

use crate::sample::{self, Random};

/// Random features of one task's images: rows of `[F]` that vary around the task's centre in a few directions.
struct Images {
    centre: Vec<f32>,
    directions: Vec<Vec<f32>>,
}

impl Images {
    /// Number of features: more than a profile's dimensions, or under Miri as many as the small adapter has.
    const FEATURES: usize = if cfg!(miri) { 18 } else { 300 };

    fn of_task(seed: u64) -> Self {
        let mut random = Random(seed);
        let positive = |random: &mut Random| {
            random
                .normals(Self::FEATURES, 1.0)
                .iter()
                .map(|value| value.abs())
                .collect()
        };
        Self {
            centre: positive(&mut random),
            directions: (0..8).map(|_| positive(&mut random)).collect(),
        }
    }

    fn take(&self, count: usize, seed: u64) -> Vec<Vec<f32>> {
        let mut random = Random(seed);
        (0..count)
            .map(|_| {
                let weights: Vec<f32> = self.directions.iter().map(|_| random.uniform()).collect();
                let value = |feature: usize| {
                    let own = self
                        .directions
                        .iter()
                        .zip(&weights)
                        .map(|(way, weight)| way[feature] * weight);
                    self.centre[feature] + own.sum::<f32>()
                };
                (0..Self::FEATURES)
                    .map(|feature| value(feature) * (0.8 + 0.4 * random.uniform()))
                    .collect()
            })
            .collect()
    }

    fn profile(&self) -> Profile {
        let (many, some) = if cfg!(miri) { (10, 5) } else { (200, 100) };
        let (training, validation) = (self.take(many, 11), self.take(some, 12));
        Profile::learn(training.iter().map(Vec::as_slice), validation.iter().map(Vec::as_slice)).unwrap()
    }
}

fn ood_score(profile: &Profile, distance: f32) -> f32 {
    let OwnScores::Distances { typical, limit } = profile.own_scores else {
        unreachable!("a profile of sketches")
    };
    distance_ood_score(distance, typical, limit)
}

fn distances(profile: &Profile, images: &[Vec<f32>]) -> Vec<f32> {
    let sketches = images.iter().map(|features| sketch(features, profile.dimensions()));
    sketches.map(|sketch| profile.distance(&sketch)).collect()
}

#[test]
#[cfg_attr(miri, ignore = "a share of hundreds of images says nothing of few")]
fn own_images_are_within_the_limit_and_foreign_ones_are_not() {
    let (own, foreign) = (Images::of_task(1), Images::of_task(2));
    let profile = own.profile();
    assert_eq!(profile.dimensions(), Profile::DIMENSIONS);
    let share = |images: &[Vec<f32>]| {
        let out = distances(&profile, images)
            .into_iter()
            .filter(|&distance| ood_score(&profile, distance) > 1.0);
        out.count() as f32 / images.len() as f32
    };
    let own = share(&own.take(300, 13));
    assert!(own < 0.15, "{own} of the task's own images are out of distribution");
    assert!(share(&foreign.take(300, 14)) > 0.99);
}

#[test]
#[cfg_attr(miri, ignore = "scores of profiles of few images say nothing")]
fn the_task_with_the_higher_score_is_the_right_one() {
    let tasks: Vec<Images> = (1..5).map(Images::of_task).collect();
    let profiles: Vec<Profile> = tasks.iter().map(Images::profile).collect();
    for (task, images) in tasks.iter().enumerate() {
        for features in images.take(50, 20) {
            let score = |profile: &Profile| profile.score(profile.distance(&sketch(&features, profile.dimensions())));
            let scores: Vec<f32> = profiles.iter().map(score).collect();
            assert!(scores.iter().all(|&score| score <= scores[task]), "{task}: {scores:?}");
        }
    }
}

#[test]
fn a_profile_survives_quantisation() {
    const FEW: usize = if cfg!(miri) { 3 } else { 50 };
    let (own, foreign) = (Images::of_task(1), Images::of_task(2));
    let mut adapter = sample::large();
    adapter.header.profile = Some(own.profile());
    let exact = adapter.header.profile.clone().unwrap();
    for (encoding, tolerance) in [(Encoding::F32, 0.0), (Encoding::F16, 5e-3), (Encoding::Int8, 0.02)] {
        let file = encode(&adapter, encoding).unwrap();
        let read = decode(&file).unwrap().adapter.header.profile.unwrap();
        for images in [own.take(FEW, 15), foreign.take(FEW, 16)] {
            for (exact, read) in distances(&exact, &images).into_iter().zip(distances(&read, &images)) {
                assert!(
                    (exact - read).abs() <= tolerance * exact,
                    "{encoding}: {exact} became {read}"
                );
            }
        }
        assert!((exact.log_volume() - read.log_volume()).abs() <= tolerance);
    }
}

#[test]
fn a_profile_costs_less_than_eight_kilobytes() {
    let mut adapter = sample::large();
    let with = encode(&adapter, Encoding::Int8).unwrap().len();
    adapter.header.profile = None;
    let without = encode(&adapter, Encoding::Int8).unwrap().len();
    assert!(with - without < 8_000, "{}", with - without);
}

#[test]
fn too_few_images_make_no_profile() {
    let images = Images::of_task(1).take(8, 1);
    let rows = || images.iter().map(Vec::as_slice);
    assert!(Profile::learn(rows().take(7), rows()).is_none());
    assert!(Profile::learn(rows(), rows().take(0)).is_none());
    assert!(Profile::learn(rows(), rows()).is_some());
}

#[test]
fn equal_or_black_images_still_give_a_profile() {
    const FEATURES: usize = if cfg!(miri) { 18 } else { 40 };
    for value in [0.0, 1.0] {
        let rows = vec![vec![value; FEATURES]; 10];
        let profile = Profile::learn(rows.iter().map(Vec::as_slice), rows.iter().map(Vec::as_slice)).unwrap();
        let distance = profile.distance(&sketch(&rows[0], FEATURES));
        assert!(ood_score(&profile, distance) <= 1.0);
        let mut adapter = sample::large();
        adapter.header.profile = Some(profile);
        assert!(encode(&adapter, Encoding::Int8).is_ok());
    }
}

/// The signs are part of the format: devices must compute the same sketch as the host.
#[test]
fn the_sketch_is_the_documented_one() {
    let signs: String = sketch(&[1.0; 32], 32)
        .iter()
        .map(|&sign| if sign > 0.0 { '+' } else { '-' })
        .collect();
    assert_eq!(signs, "+-+-+-+-+-+-+++++---++--++----++");
    // Expected: roots 1, 2, −3, 2 and 0 with the signs + − + − +, times √5 divided by the norm √18, added alternately
    // to two entries.
    let scale = 5.0_f32.sqrt() / 18.0_f32.sqrt();
    let got = sketch(&[1.0, 4.0, -9.0, 4.0, 0.0], 2);
    for (got, expected) in got.iter().zip([1.0 - 3.0, -2.0 - 2.0]) {
        assert!((got - expected * scale).abs() < 1e-6);
    }
    // A change of contrast has no effect.
    let brighter = sketch(&[2.0, 8.0, -18.0, 8.0, 0.0], 2);
    for (a, b) in got.iter().zip(brighter) {
        assert!((a - b).abs() < 1e-6);
    }
}
