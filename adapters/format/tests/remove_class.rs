//! Removal of a class from every part of an adapter.

use clr_adapters::{Adapter, ClassFeatures, StepSize, TaughtPoints};

use super::sample::small;

/// Returns an adapter of three classes, with something of each class in every part that has it.
fn adapter() -> Adapter {
    let mut adapter = small();
    let features = adapter.head.features;
    let header = &mut adapter.header;
    header.class_features = Some(ClassFeatures {
        mean: vec![0.5; features],
        deviations: (0..3).flat_map(|class| vec![class as f32; features]).collect(),
        directions: vec![0.25; features],
        rest: 1.0,
        margins: Vec::new(),
        mean_step: StepSize(0),
        deviation_step: StepSize(0),
        direction_step: StepSize(0),
    });
    header.profile.as_mut().unwrap().taught = (0..3)
        .map(|class| TaughtPoints {
            class,
            variance: 1.0 + class as f32,
            shift: 0.0,
            mean: vec![class as f32; 5],
        })
        .collect();
    let (shown, mut noise) = (header.canaries[0].clone(), header.canaries[0].clone());
    noise.seed = Some(9);
    header.canaries = (0..3)
        .flat_map(|class| [&shown, &noise].map(|canary| (class, canary.clone())))
        .map(|(class, canary)| clr_adapters::Canary { class, ..canary })
        .collect();
    adapter
}

#[test]
fn each_class_leaves_every_part_and_the_others_keep_theirs() {
    let before = adapter();
    let features = before.head.features;
    for removed in 0..3_usize {
        let mut after = before.clone();
        after.remove_class(removed);
        let kept: Vec<usize> = (0..3).filter(|class| *class != removed).collect();
        for (at, &class) in kept.iter().enumerate() {
            let row = |adapter: &Adapter, class: usize| {
                adapter.head.weight[class * features..(class + 1) * features].to_vec()
            };
            assert_eq!(row(&after, at), row(&before, class));
            assert_eq!(after.head.bias[at], before.head.bias[class]);
            assert_eq!(after.header.labels[at], before.header.labels[class]);
            let mut means = after.header.class_features.as_ref().unwrap().class_means();
            assert_eq!(means.nth(at).unwrap()[0], 0.5 + class as f32);
            let taught = &after.header.profile.as_ref().unwrap().taught[at];
            assert_eq!((taught.class as usize, taught.mean[0]), (at, class as f32));
        }
        assert_eq!((after.header.labels.len(), after.head.bias.len()), (2, 2));
        assert_eq!(after.header.profile.as_ref().unwrap().taught.len(), 2);
        assert_eq!(after.sites, before.sites);
        // All noise canaries, and the others' images.
        let canaries = &after.header.canaries;
        assert_eq!(canaries.len(), 5);
        assert!(canaries.iter().all(|canary| canary.class < 2));
        let shown: Vec<u32> = (canaries.iter().filter(|canary| canary.seed.is_none()))
            .map(|canary| canary.class)
            .collect();
        assert_eq!(shown, [0, 1]);
    }
}

#[test]
fn a_class_that_does_not_exist_changes_nothing() {
    let before = adapter();
    let mut after = before.clone();
    after.remove_class(3);
    assert_eq!(after, before);
}
