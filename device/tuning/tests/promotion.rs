//! Promotion: an adapter replaces its parent only if it is better on held-out images, and the reason is reported.

use clr_adapters::{Encoding, encode};
use clr_learning::{PerGroup, argmax};
use clr_tuning::{Example, InMemory, Parent, TuneError, split_examples, teach, tune};

use super::common::{LABELS, backbone, images, logits, options, parent, png, publisher, recognised};

#[test]
fn every_class_of_two_or_more_has_an_image_held_out_and_the_split_does_not_depend_on_the_order() {
    let example = |label: &str, index: u8| Example {
        id: clr_adapters::Digest::of(&[index]),
        label: Some(label.to_owned()),
    };
    let mut list: Vec<Example> = (0..20).map(|index| example("many", index)).collect();
    list.extend([example("two", 30), example("two", 31), example("one", 40)]);
    let split = split_examples(list.clone());
    let held = |label: &str| {
        split
            .held_out
            .iter()
            .filter(|example| example.label.as_deref() == Some(label))
            .count()
    };
    assert_eq!((held("many"), held("two"), held("one")), (4, 1, 0));
    assert_eq!(split.without_holdout, ["one"]);
    assert_eq!(split.training.len() + split.held_out.len(), list.len());
    list.reverse();
    assert_eq!(split_examples(list), split);
}

fn taught(examples: &InMemory) -> (clr_onnx::Backbone, Parent, Parent) {
    let backbone = backbone();
    let publisher = publisher(&backbone);
    let taught = teach(&backbone, &publisher, examples).unwrap().revision;
    let parent = parent(&taught.file, Some(&publisher));
    (backbone, publisher, parent)
}

#[test]
fn tuning_recognises_more_and_is_promoted_with_its_reason() {
    let mut examples = images(&[2], 20);
    for index in 200..260 {
        examples.add(None, png(index as usize % 2, index));
    }
    let (backbone, publisher, parent) = taught(&examples);
    let options = options()
        .with_steps(150)
        .with_replay_fraction(0.75)
        // Low learning rates. Otherwise old images near the decision boundary of this small network would be lost, and
        // the adapter refused.
        .with_rates(PerGroup {
            head: 5e-3,
            norm: 3e-5,
            kernel: 3e-5,
        });
    let tuned = tune(&backbone, &parent, &examples, &(), &options, &mut ()).unwrap();
    assert!(tuned.verdict.promoted, "{}", tuned.verdict);
    let header = &tuned.promoted().unwrap().adapter.header;
    assert_eq!((header.revision, header.parent), (2, Some(parent.digest)));
    assert_eq!(header.labels, LABELS);
    assert!(header.metrics.as_ref().unwrap().quantised_accuracy > 0.0);
    // The publisher's class weights are bit-identical.
    let (old, new) = (&publisher.adapter.head, &tuned.candidate.adapter.head);
    assert_eq!(new.weight[..old.weight.len()], old.weight);
    assert_eq!(new.bias[..2], old.bias);
    assert_ne!(tuned.candidate.adapter.sites, parent.adapter.sites);
}

#[test]
fn an_adapter_with_only_the_last_site_stays_one_when_it_is_taught_and_tuned() {
    let backbone = backbone();
    let mut adapter = publisher(&backbone).adapter;
    adapter.sites.drain(..adapter.sites.len() - 1);
    let late = parent(&encode(&adapter, Encoding::Int8).unwrap(), None);
    let examples = images(&[2], 20);
    let taught = teach(&backbone, &late, &examples).unwrap().revision;
    assert_eq!(taught.adapter.sites, late.adapter.sites);
    let taught = parent(&taught.file, Some(&late));
    let tuned = tune(&backbone, &taught, &examples, &(), &options(), &mut ()).unwrap();
    let sites = &tuned.candidate.adapter.sites;
    assert_eq!((sites.len(), &sites[0].name), (1, &late.adapter.sites[0].name));
    assert_ne!(*sites, late.adapter.sites, "the site is trained");
}

#[test]
fn an_unchanged_adapter_is_not_promoted() {
    let examples = images(&[2], 10);
    let (backbone, _, parent) = taught(&examples);
    let options = options().with_rates(PerGroup::all(0.0)).with_steps(2);
    let tuned = tune(&backbone, &parent, &examples, &(), &options, &mut ()).unwrap();
    assert!(tuned.promoted().is_none());
    assert!(tuned.verdict.reason.contains("not better"), "{}", tuned.verdict);
    // Nothing was trained, so head and sites are unchanged.
    assert_eq!(tuned.candidate.adapter.head, parent.adapter.head);
    assert_eq!(tuned.candidate.adapter.sites, parent.adapter.sites);
}

#[test]
fn without_images_of_old_classes_nothing_is_promoted() {
    let examples = images(&[2], 20);
    let (backbone, _, parent) = taught(&examples);
    let options = options().with_steps(60).with_logit_margin(-2.0);
    let tuned = tune(&backbone, &parent, &examples, &(), &options, &mut ()).unwrap();
    assert!(tuned.promoted().is_none());
    assert!(
        tuned.verdict.reason.contains("to judge the old classes"),
        "{}",
        tuned.verdict
    );
}

#[test]
fn a_loss_of_old_classes_is_not_promoted() {
    // Images of an old class with a new label: learning them loses the old class.
    let mut examples = images(&[0], 20);
    for index in 100..120 {
        examples.add(Some("stripes"), png(0, index));
    }
    let (backbone, _, parent) = taught(&examples);
    let options = options()
        .with_steps(60)
        .with_replay_fraction(0.0)
        .with_distillation_weight(0.0);
    let tuned = tune(&backbone, &parent, &examples, &(), &options, &mut ()).unwrap();
    assert!(tuned.promoted().is_none(), "{}", tuned.verdict);
}

#[test]
fn without_a_held_out_image_nothing_is_promoted_and_the_reason_is_reported() {
    let mut one = InMemory::default();
    one.add(Some("round"), png(2, 0));
    let (backbone, _, parent) = taught(&one);
    let options = options().with_steps(3);
    let tuned = tune(&backbone, &parent, &one, &(), &options, &mut ()).unwrap();
    assert!(tuned.promoted().is_none());
    assert_eq!(tuned.verdict.without_holdout, ["round"]);
    assert!(
        tuned.verdict.reason.contains("no image is held out"),
        "{}",
        tuned.verdict
    );
}

/// Adds unlabelled images of both old classes, as a camera would see them.
fn with_frames(mut examples: InMemory, count: u64) -> InMemory {
    for class in [0, 1] {
        for index in 200..200 + count {
            examples.add(None, png(class, index));
        }
    }
    examples
}

#[test]
fn a_learned_class_takes_no_frame_of_the_old_classes() {
    // The images of the new label show an old class. Weights fitted to them would claim half of the old class's frames.
    let mut examples = with_frames(InMemory::default(), 25);
    for index in 100..120 {
        examples.add(Some("stripes"), png(0, index));
    }
    let (backbone, publisher, parent) = taught(&examples);
    let options = options().with_logit_margin(-3.0);
    let tuned = tune(&backbone, &parent, &examples, &(), &options, &mut ()).unwrap();
    let taken = (200..225)
        .filter(|&index| argmax(&logits(&backbone, &tuned.candidate.adapter, 0, index)) == 2)
        .count();
    assert!(taken <= 1, "{taken} of 25");
    let (old, new) = (&publisher.adapter.head, &tuned.candidate.adapter.head);
    assert_eq!(new.weight[..old.weight.len()], old.weight);
    assert_eq!(new.bias[..2], old.bias);
}

#[test]
fn class_weights_refitted_to_the_sites_recognise_more() {
    let examples = with_frames(images(&[2], 20), 25);
    let (backbone, _, parent) = taught(&examples);
    // The steps change nothing, so the refitted class weights are the only change.
    let options = options().with_rates(PerGroup::all(0.0)).with_steps(1);
    let tuned = tune(&backbone, &parent, &examples, &(), &options, &mut ()).unwrap();
    assert_eq!(tuned.candidate.adapter.sites, parent.adapter.sites);
    let (before, after) = (
        recognised(&backbone, &parent.adapter),
        recognised(&backbone, &tuned.candidate.adapter),
    );
    assert!(after > before, "{after} of 30, {before} before");
}

#[test]
fn frames_that_the_parent_takes_for_the_new_class_do_not_count_against_it() {
    // The class was taught before there were frames, so its bias is high.
    let (backbone, _, parent) = taught(&images(&[2], 20));
    let mut examples = with_frames(images(&[2], 20), 25);
    let known = |adapter: &clr_adapters::Adapter, index| argmax(&logits(&backbone, adapter, 2, index)) == 2;
    let seen: Vec<u64> = (300..400)
        .filter(|&index| known(&parent.adapter, index))
        .take(10)
        .collect();
    for &index in &seen {
        examples.add(None, png(2, index));
    }
    let options = options().with_steps(1);
    let tuned = tune(&backbone, &parent, &examples, &(), &options, &mut ()).unwrap();
    let kept = seen
        .iter()
        .filter(|&&index| known(&tuned.candidate.adapter, index))
        .count();
    assert!(seen.len() > 4 && kept + 1 >= seen.len(), "{kept} of {}", seen.len());
    // Held-out frames are excluded too. As images of old classes, all of them would be lost.
    assert!(tuned.verdict.expected_loss < 0.02, "{}", tuned.verdict);
}

#[test]
fn if_tuned_sites_lose_old_classes_only_class_weights_are_promoted() {
    let examples = with_frames(images(&[2], 20), 30);
    let (backbone, publisher, parent) = taught(&examples);
    // The steps optimise only the new class.
    let options = options()
        .with_rates(PerGroup {
            head: 1e-3,
            norm: 0.05,
            kernel: 0.05,
        })
        .with_replay_fraction(0.0)
        .with_distillation_weight(0.0)
        .with_interpolation(1.0)
        .with_steps(40);
    let tuned = tune(&backbone, &parent, &examples, &(), &options, &mut ()).unwrap();
    let verdict = &tuned.verdict;
    assert!(verdict.promoted && verdict.head_only, "{verdict}");
    // Every image tests the candidate, with cross-validated class weights.
    assert_eq!((verdict.learned.images, verdict.old.images), (20, 61), "{verdict}");
    let candidate = &tuned.candidate.adapter;
    assert_eq!(candidate.sites, parent.adapter.sites);
    for index in 100..110 {
        let before = logits(&backbone, &publisher.adapter, 0, index);
        assert_eq!(logits(&backbone, candidate, 0, index)[..2], before[..]);
    }
    assert!(recognised(&backbone, candidate) > recognised(&backbone, &parent.adapter));
}

#[test]
fn unlabelled_frames_of_the_new_class_do_not_suppress_it() {
    let seen = |shown: std::ops::Range<u64>| {
        let mut examples = with_frames(images(&[2], 20), 30);
        shown.for_each(|index| _ = examples.add(None, png(2, index)));
        examples
    };
    let tuned = |examples: &InMemory| {
        let (backbone, _, parent) = taught(examples);
        let options = options().with_rates(PerGroup::all(0.0)).with_steps(1);
        let tuned = tune(&backbone, &parent, examples, &(), &options, &mut ()).unwrap();
        recognised(&backbone, &tuned.candidate.adapter)
    };
    let (without, with) = (tuned(&seen(0..0)), tuned(&seen(300..305)));
    assert!(2 * with > without, "{with} of 30, {without} without them");
}

#[test]
fn site_weights_are_interpolated_as_configured() {
    let examples = with_frames(images(&[2], 10), 5);
    let (backbone, _, parent) = taught(&examples);
    let sites = |interpolation: f32| {
        let options = options().with_interpolation(interpolation);
        let tuned = tune(&backbone, &parent, &examples, &(), &options, &mut ()).unwrap();
        tuned.candidate.adapter.sites
    };
    let (still, half, whole) = (sites(0.0), sites(0.5), sites(1.0));
    assert_eq!(still, parent.adapter.sites);
    let biases =
        |sites: &[clr_adapters::Site]| -> Vec<f32> { sites.iter().flat_map(|site| site.bias.clone()).collect() };
    let distance = |a: &[clr_adapters::Site], b: &[clr_adapters::Site]| -> f32 {
        let pairs = biases(a).into_iter().zip(biases(b));
        pairs.map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt()
    };
    let share = distance(&half, &still) / distance(&whole, &still);
    assert!((share - 0.5).abs() < 0.1, "{share}");
}

#[test]
fn a_label_that_was_not_taught_is_refused_with_a_hint() {
    let backbone = backbone();
    let publisher = publisher(&backbone);
    let error = tune(&backbone, &publisher, &images(&[2], 4), &(), &options(), &mut ()).unwrap_err();
    assert!(matches!(error, TuneError::UnknownLabel { .. }));
    assert!(error.to_string().contains("hint: "));
    let error = tune(&backbone, &publisher, &InMemory::default(), &(), &options(), &mut ()).unwrap_err();
    assert!(matches!(error, TuneError::NoExamples { .. }));
}

/// Such an image was added by a version with another decoder, or was damaged on the disk afterwards.
#[test]
fn images_that_do_not_decode_any_more_are_left_out_of_tuning() {
    let good = images(&[2], 10);
    let (backbone, _, parent) = taught(&good);
    let options = options().with_steps(2);
    let tuned = |examples: &InMemory| tune(&backbone, &parent, examples, &(), &options, &mut ()).unwrap();
    let mut damaged = good.clone();
    for (label, index) in [(Some(LABELS[2]), 50), (Some(LABELS[0]), 51), (None, 52)] {
        let whole = png(2, index);
        damaged.add(label, whole[..whole.len() / 2].to_vec());
    }
    let (expected, got) = (tuned(&good).verdict, tuned(&damaged).verdict);
    assert_eq!((got.learned, got.old), (expected.learned, expected.old));
    let mut none = InMemory::default();
    none.add(Some(LABELS[2]), b"not an image".to_vec());
    let error = tune(&backbone, &parent, &none, &(), &options, &mut ()).unwrap_err();
    assert!(matches!(error, TuneError::NoExamples { .. }), "{error}");
}
