//! A taught class can be removed: nothing of it is left, and the other classes are bit for bit as before.

use clr_adapters::decode;
use clr_onnx::check_adapter;
use clr_tuning::{Parent, TuneError, create_task, remove_class, teach};

use super::common::{backbone, compact_publisher, images, logits, parent, publisher};

#[test]
fn without_the_only_taught_class_the_adapter_is_the_publishers_in_every_part() {
    let backbone = backbone();
    for publisher in [compact_publisher(&backbone), publisher(&backbone)] {
        let taught = teach(&backbone, &publisher, &images(&[2], 12)).unwrap().revision;
        let taught = parent(&taught.file, Some(&publisher));
        let removed = remove_class(&backbone, &taught, "round").unwrap();
        check_adapter(&backbone, &removed.adapter).unwrap();
        let (own, before) = (&removed.adapter, &publisher.adapter);
        assert_eq!((&own.head, &own.sites), (&before.head, &before.sites));
        assert_eq!(own.header.labels, before.header.labels);
        assert_eq!(own.header.class_features, before.header.class_features);
        assert_eq!(own.header.profile, before.header.profile);
        assert_eq!(own.header.canaries.len(), before.header.canaries.len());
        for canary in &own.header.canaries {
            assert!((canary.class as usize) < own.header.labels.len());
        }
        assert_eq!((own.header.revision, own.header.parent), (2, Some(taught.digest)));
        for class in 0..3 {
            let [own, before] = [own, before].map(|adapter| logits(&backbone, adapter, class, 50));
            assert_eq!(own, before, "{class}");
        }
    }
}

#[test]
fn of_several_taught_classes_the_others_keep_their_rows_and_their_means() {
    let backbone = backbone();
    let publisher = compact_publisher(&backbone);
    let mut examples = images(&[2], 12);
    for index in 0..12 {
        let tiny = image::RgbImage::from_fn(32, 32, |x, y| {
            image::Rgb([if (x + y + index) % 2 == 0 { 250 } else { 10 }; 3])
        });
        let mut bytes = std::io::Cursor::new(Vec::new());
        tiny.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        examples.add(Some("tiny"), bytes.into_inner());
    }
    let both = teach(&backbone, &publisher, &examples).unwrap().revision;
    assert_eq!(both.adapter.header.labels[2..], ["round", "tiny"]);
    let both = parent(&both.file, Some(&publisher));
    let left = remove_class(&backbone, &both, "round").unwrap().adapter;
    assert_eq!(left.header.labels[2..], ["tiny"]);
    let features = left.head.features;
    assert_eq!(
        left.head.weight[2 * features..],
        both.adapter.head.weight[3 * features..]
    );
    let means = |adapter: &clr_adapters::Adapter| {
        let known = adapter.header.class_features.clone().unwrap();
        known.class_means().collect::<Vec<_>>()
    };
    assert_eq!(means(&left)[2], means(&both.adapter)[3]);
}

#[test]
fn a_class_of_the_publisher_an_unknown_one_and_the_last_but_one_cannot_be_removed() {
    let backbone = backbone();
    let publisher = compact_publisher(&backbone);
    let refused = |parent: &Parent, label| remove_class(&backbone, parent, label).unwrap_err();
    let error = refused(&publisher, "down");
    assert!(matches!(error, TuneError::PublishersClass { .. }), "{error}");
    let error = refused(&publisher, "square");
    assert!(error.to_string().contains("only across, down\nhint: "), "{error}");

    let created = create_task(
        &backbone,
        publisher.adapter.header.clone(),
        clr_adapters::Recipe::Linear,
        &images(&[0, 2], 12),
    );
    let created = Parent::new(decode(&created.unwrap().file).unwrap(), None);
    let error = refused(&created, "round");
    assert!(matches!(error, TuneError::LastClasses { .. }), "{error}");
}
