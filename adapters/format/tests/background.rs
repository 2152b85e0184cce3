//! A background makes scores of different tasks comparable, and its file is refused if anything in it is wrong.

use clr_adapters::{Background, BackgroundError, Digest, Moments, OwnScores, Profile, StepSize};

use crate::sample::Random;

/// Number of block statistics and of coordinates.
const STATISTICS: usize = if cfg!(miri) { 6 } else { 30 };
const DIMENSIONS: usize = if cfg!(miri) { 3 } else { 8 };
const IMAGES: usize = if cfg!(miri) { 10 } else { 300 };

/// Returns a background whose coordinates are sums of the statistics with random signs.
fn background(seed: u64) -> Background {
    let mut random = Random(seed);
    let rows: Vec<Vec<f32>> = (0..DIMENSIONS).map(|_| random.normals(STATISTICS, 0.2)).collect();
    let diagonal = |row: usize| (0..=row).map(move |column| f32::from(u8::from(row == column)));
    let moments = |_: &dyn Fn(&[f32]) -> Vec<f32>| Moments {
        mean: vec![0.0; DIMENSIONS],
        variance: vec![4.0; DIMENSIONS],
        within: (0..DIMENSIONS).flat_map(diagonal).collect(),
    };
    Background::new(Digest::of(b"backbone"), &rows, moments).unwrap()
}

/// Block statistics of images of one task: noise around a centre that the task's number gives.
fn images(task: u64, spread: f32, seed: u64) -> Vec<Vec<f32>> {
    let centre = Random(100 + task).normals(STATISTICS, 1.0);
    let mut random = Random(seed);
    let image = |_| {
        let noise = random.normals(STATISTICS, spread);
        centre.iter().zip(noise).map(|(centre, noise)| centre + noise).collect()
    };
    (0..IMAGES).map(image).collect()
}

fn coordinates(background: &Background, images: &[Vec<f32>]) -> Vec<Vec<f32>> {
    images.iter().map(|image| background.coordinates(image)).collect()
}

fn profile(background: &Background, task: u64, spread: f32, logits: &[Vec<f32>]) -> Profile {
    let training = coordinates(background, &images(task, spread, 2));
    let validation = coordinates(background, &images(task, spread, 3));
    let profile = Profile::learn_against(background, &training).unwrap();
    let scores = validation.iter().map(|point| profile.score_against(background, point));
    let scores = scores.collect();
    profile.with_scores(scores, logits).unwrap()
}

fn score(background: &Background, profile: &Profile, image: &[f32]) -> f32 {
    let point = background.coordinates(image);
    profile.ratio(
        profile.distance(&point),
        profile.log_volume(),
        background.log_density(&point),
    )
}

#[test]
#[cfg_attr(miri, ignore = "a share of hundreds of images says nothing of few")]
fn the_own_task_scores_best_and_the_rate_of_false_alarms_is_the_one_asked_for() {
    let background = background(1);
    let tasks: Vec<Profile> = (0..4)
        .map(|task| profile(&background, task, 0.2 + 0.1 * task as f32, &[]))
        .collect();
    for (task, own) in tasks.iter().enumerate() {
        let OwnScores::Ratios(ratios) = &own.own_scores else {
            unreachable!("learned against a background")
        };
        assert_eq!(ratios.background, background.id());
        let scores =
            |image: &Vec<f32>| -> Vec<f32> { tasks.iter().map(|profile| score(&background, profile, image)).collect() };
        let all: Vec<Vec<f32>> = images(task as u64, 0.2 + 0.1 * task as f32, 9)
            .iter()
            .map(scores)
            .collect();
        let right = all
            .iter()
            .filter(|scores| scores.iter().all(|&score| score <= scores[task]));
        assert!(right.count() > IMAGES * 95 / 100, "task {task}");
        for rate in [0.01, 0.05, 0.2] {
            let alarms = all.iter().filter(|scores| ratios.ood_score(scores[task], rate) > 1.0);
            let got = alarms.count() as f32 / IMAGES as f32;
            assert!((got - rate).abs() < 0.02 + rate / 2.0, "{got} of {rate}");
        }
        // Images of no task.
        let strange = images(9, 1.0, 4);
        let noticed = strange
            .iter()
            .filter(|image| ratios.ood_score(score(&background, own, image), 0.05) > 1.0);
        assert!(noticed.count() > IMAGES * 9 / 10);
    }
}

#[test]
fn a_head_that_gives_little_to_all_classes_makes_an_image_less_usual() {
    let background = background(1);
    let mut random = Random(5);
    let logits: Vec<Vec<f32>> = (0..IMAGES).map(|_| vec![8.0 + random.uniform(), 0.0, -1.0]).collect();
    let profile = profile(&background, 1, 0.2, &logits);
    let OwnScores::Ratios(ratios) = &profile.own_scores else {
        unreachable!("learned against a background")
    };
    let head = ratios.head.unwrap();
    assert!((8.0..9.1).contains(&head.median) && head.weight > 0.0);
    assert_eq!(head.score(&[20.0, 0.0, 0.0]), 0.0, "a sure answer adds nothing");
    assert!(head.score(&[2.0, 1.0, 0.0]) < head.score(&[5.0, 1.0, 0.0]));
    assert!(head.score(&[5.0, 1.0, 0.0]) < 0.0);
}

#[test]
#[cfg_attr(miri, ignore = "a share of hundreds of images says nothing of few")]
fn images_of_a_taught_class_are_no_longer_unusual_and_other_scores_stay() {
    let background = background(1);
    let before = profile(&background, 1, 0.2, &[]);
    let OwnScores::Ratios(ratios) = before.own_scores.clone() else {
        unreachable!("learned against a background")
    };
    let unusual = |profile: &Profile, images: &[Vec<f32>]| {
        let usual = |image: &Vec<f32>| {
            let point = background.coordinates(image);
            let scores = profile.ratio_at(&point, profile.log_volume(), background.log_density(&point));
            ratios.ood_score(scores.usual, 0.05)
        };
        images.iter().filter(|image| usual(image) > 1.0).count()
    };
    let (own, class, strange) = (images(1, 0.2, 9), images(5, 0.4, 7), images(9, 1.0, 4));
    let taught = coordinates(&background, &class[..20]);
    let step = StepSize(-12);
    let mut after = before.clone();
    assert!(after.teach(3, &background, &taught, step));
    assert_eq!((after.taught.len(), after.taught[0].class), (1, 3));
    assert!(unusual(&before, &class) > IMAGES * 9 / 10);
    assert!(unusual(&after, &class) < IMAGES / 4, "{}", unusual(&after, &class));
    assert!(unusual(&after, &strange) > IMAGES * 9 / 10);
    assert!(
        own.iter()
            .all(|image| score(&background, &after, image) >= score(&background, &before, image))
    );
    assert!(unusual(&after, &own) <= unusual(&before, &own));
    // Taught again, it is described again; a class whose images are ordinary needs nothing.
    assert!(after.teach(3, &background, &taught[..10], step));
    assert_eq!(after.taught.len(), 1);
    assert!(after.teach(3, &background, &coordinates(&background, &own[..20]), step));
    assert!(after.taught.is_empty());
    assert!(!after.teach(4, &background, &coordinates(&background, &own[..20]), step));
    assert_eq!(after, before);
    assert!(!after.teach(4, &background, &[], step));
}

#[test]
fn a_background_survives_its_file() {
    let background = background(2);
    let bytes = background.encode();
    let back = Background::decode(&bytes).unwrap();
    assert_eq!(back, background);
    assert_eq!(back.id().0, Digest::of(&bytes).0[..8]);
    assert_ne!(background.id(), self::background(3).id());
    let image = Random(4).normals(STATISTICS, 1.0);
    assert_eq!(back.coordinates(&image), background.coordinates(&image));
}

#[test]
fn every_damaged_byte_and_every_length_of_a_background_is_refused() {
    let bytes = background(2).encode();
    for at in 0..bytes.len() {
        assert!(Background::decode(&bytes[..at]).is_err(), "{at} bytes");
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(Background::decode(&damaged).is_err(), "byte {at}");
        // Also with a checksum that fits.
        let end = damaged.len() - 4;
        if at >= 10 && at < end {
            let crc = crc32fast::hash(&damaged[..end]);
            damaged[end..].copy_from_slice(&crc.to_le_bytes());
            if let Ok(other) = Background::decode(&damaged) {
                assert_eq!(other.encode(), damaged, "what is read is in canonical form");
            }
        }
    }
    assert_eq!(Background::decode(b"\x89CLR\r\n\x1a\n"), Err(BackgroundError::Magic));
}

#[test]
fn contradictory_backgrounds_are_refused_with_what_is_wrong() {
    let of = |rows: &[Vec<f32>], variance: f32, mean: usize| {
        let moments = |_: &dyn Fn(&[f32]) -> Vec<f32>| Moments {
            mean: vec![0.0; mean],
            variance: vec![variance; 2],
            within: vec![1.0, 0.0, 1.0],
        };
        Background::new(Digest([1; 32]), rows, moments).map_err(|error| error.to_string())
    };
    let rows = vec![vec![1.0, 2.0, 3.0], vec![0.5, -1.0, 0.0]];
    assert!(of(&rows, 1.0, 2).is_ok());
    for (result, part) in [
        (of(&rows, 0.0, 2), "a variance is 0, expected above 0"),
        (of(&rows, f32::NAN, 2), "a moment is NaN"),
        (of(&rows, 1.0, 3), "mean of 3 values, expected 2"),
        (of(&[], 1.0, 2), "0 coordinates, expected 1 to 512"),
        (of(&[vec![], vec![]], 1.0, 2), "0 block statistics"),
        (
            of(&vec![vec![1.0; 60_000]; 80], 1.0, 2),
            "a projection of 4800000 codes, at most 4194304",
        ),
    ] {
        let error = result.unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}
