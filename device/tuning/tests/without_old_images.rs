//! Tuning without an image of the old classes, against the class features of the adapter.

use std::io::Cursor;

use clr_adapters::{Header, Provenance, Recipe, decode};
use clr_learning::{Network, argmax};
use clr_onnx::{Backbone, Preprocess as _, check_adapter};
use clr_tuning::{InMemory, Observer, Parent, TuneError, Tuned, create_task, teach, tune};

use super::common::{
    Kept, LABELS, backbone, compact_publisher, image, images, logits, options, parent, png, preprocessing, recognised,
};

/// Returns the publisher's adapter with the class taught from `taught` images.
fn taught(backbone: &Backbone, taught: &InMemory) -> (Parent, Parent) {
    let publisher = compact_publisher(backbone);
    let file = teach(backbone, &publisher, taught).unwrap().revision.file;
    let own = parent(&file, Some(&publisher));
    (publisher, own)
}

fn tuned(backbone: &Backbone, parent: &Parent, examples: &InMemory) -> Tuned {
    tune(backbone, parent, examples, &(), &options(), &mut ()).unwrap()
}

#[test]
fn old_logits_stay_bit_for_bit_and_old_images_are_lost_as_predicted() {
    let backbone = backbone();
    let (publisher, parent) = taught(&backbone, &images(&[2], 12));
    let tuned = tuned(&backbone, &parent, &images(&[2], 12));
    let candidate = &tuned.candidate.adapter;
    assert_eq!((tuned.steps, &candidate.sites), (0, &parent.adapter.sites));
    check_adapter(&backbone, candidate).unwrap();
    let predicted = tuned.verdict.predicted.unwrap();
    assert!(
        predicted.tuned <= 0.0031 && tuned.verdict.expected_loss == predicted.tuned,
        "{predicted:?}"
    );
    let mut lost = 0;
    for (class, index) in (0..2).flat_map(|class| (100..150).map(move |index| (class, index))) {
        let before = logits(&backbone, &publisher.adapter, class, index);
        let after = logits(&backbone, candidate, class, index);
        assert_eq!(before[..], after[..2], "{class} {index}");
        lost += usize::from(argmax(&before) == class && argmax(&after) == 2);
    }
    assert!(lost <= 2, "{lost} of 100");
}

#[test]
fn more_images_than_at_first_are_promoted_and_the_verdict_says_what_was_gained_and_what_is_predicted() {
    let backbone = backbone();
    let (_, parent) = taught(&backbone, &images(&[2], 2));
    let tuned = tuned(&backbone, &parent, &images(&[2], 20));
    let verdict = &tuned.verdict;
    assert!(verdict.promoted && verdict.head_only, "{verdict}");
    let gained = format!("recognises {} of 20 images of `round`", verdict.learned.tuned);
    assert!(verdict.reason.contains(&gained), "{verdict}");
    assert!(
        verdict
            .reason
            .contains("predicted from the adapter's margins, not measured"),
        "{verdict}"
    );
    let (before, after) = (
        recognised(&backbone, &parent.adapter),
        recognised(&backbone, &tuned.promoted().unwrap().adapter),
    );
    assert!(after > before, "{after} of 30, {before} before");
}

#[test]
fn a_second_run_with_the_same_images_changes_nothing_and_is_not_promoted() {
    let backbone = backbone();
    let examples = images(&[2], 20);
    let (publisher, taught) = taught(&backbone, &images(&[2], 2));
    let first = tuned(&backbone, &taught, &examples);
    let again = tuned(&backbone, &parent(&first.candidate.file, Some(&publisher)), &examples);
    assert!(!again.verdict.promoted, "{}", again.verdict);
    assert_eq!(again.verdict.learned.parent, again.verdict.learned.tuned);
    assert_eq!(again.candidate.adapter.head.weight, first.candidate.adapter.head.weight);
}

/// Stops at the given number of questions whether to stop.
struct StopAt(usize);

impl Observer for StopAt {
    fn should_stop(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 == 0
    }
}

#[test]
fn a_stopped_run_gives_the_same_bytes_later_and_on_any_number_of_threads() {
    let backbone = backbone();
    let examples = images(&[2], 8);
    let (_, parent) = taught(&backbone, &images(&[2], 4));
    let complete = tuned(&backbone, &parent, &examples).candidate.file;
    let kept = Kept::default();
    let run = |threads, observer: &mut dyn Observer| {
        tune(
            &backbone,
            &parent,
            &examples,
            &kept,
            &options().with_threads(threads),
            observer,
        )
    };
    for at in [1, 9, 12] {
        assert!(
            matches!(run(1, &mut StopAt(at)), Err(TuneError::Stopped { .. })),
            "{at}"
        );
    }
    assert_eq!(run(2, &mut ()).unwrap().candidate.file, complete);
    assert!(kept.0.lock().unwrap().is_none());
}

fn negative(index: u64) -> Vec<u8> {
    let mut negative = image(2, index);
    image::imageops::invert(&mut negative);
    let mut bytes = Cursor::new(Vec::new());
    negative.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[test]
fn two_classes_taught_one_after_the_other_are_tuned_together() {
    let backbone = backbone();
    let mut examples = images(&[2], 12);
    let (publisher, first) = taught(&backbone, &examples);
    for index in 0..12 {
        examples.add(Some("negative"), negative(index));
    }
    let both = teach(&backbone, &first, &examples).unwrap().revision;
    let both = parent(&both.file, Some(&publisher));
    let tuned = tuned(&backbone, &both, &examples);
    let candidate = &tuned.candidate.adapter;
    assert_eq!(candidate.header.labels, ["across", "down", "round", "negative"]);
    assert_eq!(tuned.verdict.learned.images, 24);
    assert!(
        tuned.verdict.reason.contains("`round` and `negative`"),
        "{}",
        tuned.verdict
    );
    assert!(tuned.verdict.expected_loss <= 0.01, "{}", tuned.verdict);
    for class in 0..2 {
        let before = logits(&backbone, &publisher.adapter, class, 70);
        assert_eq!(before[..], logits(&backbone, candidate, class, 70)[..2]);
    }
    let features = candidate.header.class_features.as_ref().unwrap();
    assert_eq!(features.class_means().count(), 4);
}

#[test]
fn an_image_whose_label_was_corrected_keeps_its_old_class() {
    let backbone = backbone();
    let (_, parent) = taught(&backbone, &images(&[2], 12));
    let mut examples = images(&[2], 12);
    for index in 12..17 {
        examples.add(Some(LABELS[0]), png(2, index));
    }
    let tuned = tuned(&backbone, &parent, &examples);
    let split = clr_tuning::split_examples(clr_tuning::Examples::list(&examples).unwrap());
    let training = |index| {
        split
            .training
            .iter()
            .any(|example| example.id == clr_adapters::Digest::of(&png(2, index)))
    };
    for index in (12..17).filter(|&index| training(index)) {
        assert_ne!(
            argmax(&logits(&backbone, &tuned.candidate.adapter, 2, index)),
            2,
            "{index}"
        );
    }
}

#[test]
fn one_image_cannot_test_itself() {
    let backbone = backbone();
    let one = images(&[2], 1);
    let (_, parent) = taught(&backbone, &one);
    let tuned = tuned(&backbone, &parent, &one);
    assert!(!tuned.verdict.promoted, "{}", tuned.verdict);
    assert!(
        tuned.verdict.reason.contains("no image is held out"),
        "{}",
        tuned.verdict
    );
}

fn born(backbone: &Backbone, examples: &InMemory) -> Parent {
    let digest = backbone.digest();
    let header = Header::new("born", vec![], digest, preprocessing(), Provenance::DeviceTuned);
    let born = create_task(backbone, header, Recipe::Clr, examples).unwrap();
    Parent::new(decode(&born.file).unwrap(), None)
}

#[test]
fn a_task_born_on_the_device_has_no_old_classes_and_is_tuned_in_steps() {
    let backbone = backbone();
    let examples = images(&[0, 1], 12);
    let parent = born(&backbone, &examples);
    assert_eq!(tuned(&backbone, &parent, &examples).steps, options().steps);
}

#[test]
fn class_means_move_with_the_sites() {
    let backbone = backbone();
    let examples = images(&[0, 1, 2], 12);
    let born = born(&backbone, &examples);
    let options = options().with_rates(clr_learning::PerGroup::all(0.02)).with_steps(60);
    let tuned = tune(&backbone, &born, &examples, &(), &options, &mut ()).unwrap();
    let candidate = &tuned.candidate.adapter;
    assert_ne!(candidate.sites, born.adapter.sites);
    let network = Network::from_adapter(&backbone, candidate).unwrap();
    let size = [preprocessing().height as usize, preprocessing().width as usize];
    let distances = |class: usize| {
        let mut real = vec![0.0; candidate.head.features];
        for index in 0..12 {
            let input = preprocessing().preprocess(&image(class, index));
            let start = network.prefix(&input, size).unwrap();
            let features = network.features_from_prefix(&start, size).unwrap();
            real.iter_mut().zip(features).for_each(|(sum, x)| *sum += x / 12.0);
        }
        [&born.adapter, candidate].map(|adapter| -> f32 {
            let known = adapter.header.class_features.as_ref().unwrap();
            let mean = known.class_means().nth(class).unwrap();
            mean.iter().zip(&real).map(|(a, b)| (a - b).powi(2)).sum()
        })
    };
    for class in 0..3 {
        let [before, after] = distances(class);
        assert!(after < 0.2 * before, "{class}: {after} {before}");
    }
}
