//! Teaching and tuning of compact files, which carry class features.

use clr_adapters::{Encoding, decode, delta};
use clr_onnx::check_adapter;
use clr_tuning::{create_task, teach, tune};

use super::common::{
    LABELS, backbone, check_old_logits, compact_publisher, images, options, parent, png, preprocessing, recognised,
};

#[test]
fn a_class_is_taught_without_an_old_image_and_old_logits_stay_bit_for_bit() {
    let backbone = backbone();
    let publisher = compact_publisher(&backbone);
    let taught = teach(&backbone, &publisher, &images(&[2], 12)).unwrap();
    assert!(taught.classes[0].recognised >= 6, "{:?}", taught.classes[0]);
    let taught = taught.revision;
    let decoded = decode(&taught.file).unwrap();
    assert_eq!(
        (decoded.encoding, decoded.adapter.header.labels.len()),
        (Encoding::Compact, 3)
    );
    check_adapter(&backbone, &decoded.adapter).unwrap();
    check_old_logits(&backbone, &publisher.adapter, &taught.adapter);
    let recognised = recognised(&backbone, &taught.adapter);
    assert!(recognised > 15, "{recognised} of 30");
    // The mean feature of the class is known to the next teaching.
    let known = taught.adapter.header.class_features.unwrap();
    assert_eq!(known.class_means().count(), 3);
}

#[test]
fn the_noise_canary_states_what_the_extended_adapter_answers() {
    let backbone = backbone();
    let publisher = compact_publisher(&backbone);
    let taught = teach(&backbone, &publisher, &images(&[2], 12)).unwrap().revision;
    let (before, after) = (
        &publisher.adapter.header.canaries[0],
        &taught.adapter.header.canaries[0],
    );
    assert_eq!((before.seed, &before.pixels), (after.seed, &after.pixels));
    assert!((after.class as usize) < 3 && after.probability > 0.0);
}

#[test]
fn two_classes_are_taught_at_once_and_one_after_the_other() {
    let backbone = backbone();
    let publisher = compact_publisher(&backbone);
    let mut both = images(&[2], 10);
    for index in 0..10 {
        // The third class, mirrored in its label only: it looks like the one before it.
        both.add(Some("zigzag"), png(2, 100 + index));
    }
    // Two labels for the same images: the second one finds the first one in its place.
    let at_once = teach(&backbone, &publisher, &both);
    match at_once {
        Ok(taught) => assert_eq!(taught.revision.adapter.header.labels.len(), 4),
        Err(error) => assert!(error.to_string().contains(LABELS[2]), "{error}"),
    }
    let first = teach(&backbone, &publisher, &images(&[2], 10)).unwrap().revision;
    let again = parent(&first.file, Some(&publisher));
    assert_eq!(
        again
            .adapter
            .header
            .class_features
            .as_ref()
            .unwrap()
            .class_means()
            .count(),
        3
    );
}

#[test]
fn a_taught_and_tuned_adapter_stays_compact_and_travels_as_a_small_delta() {
    let backbone = backbone();
    let publisher = compact_publisher(&backbone);
    let examples = images(&[0, 1, 2], 12);
    let taught = teach(&backbone, &publisher, &images(&[2], 12)).unwrap().revision;
    let own = parent(&taught.file, Some(&publisher));
    let tuned = tune(&backbone, &own, &examples, &(), &options(), &mut ()).unwrap();
    let file = &tuned.candidate.file;
    assert_eq!(decode(file).unwrap().encoding, Encoding::Compact);
    let delta = delta::diff(&taught.file, file).unwrap();
    assert_eq!(delta::apply(&taught.file, &delta, file.len()).as_deref(), Ok(&file[..]));
    assert!(delta.len() < file.len() / 2, "{} of {}", delta.len(), file.len());
}

#[test]
fn a_task_born_on_the_device_knows_its_classes() {
    let backbone = backbone();
    let header = clr_adapters::Header::new(
        "born",
        vec![],
        backbone.digest(),
        preprocessing(),
        clr_adapters::Provenance::DeviceTuned,
    );
    let born = create_task(&backbone, header, clr_adapters::Recipe::Clr, &images(&[0, 1], 12)).unwrap();
    assert_eq!(decode(&born.file).unwrap().format_version, 3);
    let known = born.adapter.header.class_features.as_ref().unwrap();
    assert_eq!(known.class_means().count(), 2);
    let taught = teach(&backbone, &parent(&born.file, None), &images(&[2], 12)).unwrap();
    assert_eq!(taught.revision.adapter.header.labels.len(), 3);
}
