//! Architectures: their tensors, their recognition, and the errors for tensors that do not match.

use clr_adapters::Digest;

use super::super::{Architecture, ImportError, ImportOptions, TensorProblem, import_bytes, seeded_backbone};
use super::states::{safetensors, state_dict};
use crate::Tensor;

#[test]
fn parameter_counts_are_those_of_the_published_networks() {
    // Published numbers of trainable parameters with a 1000-class classifier.
    let published = [
        4_652_008,
        5_416_680,
        6_092_072,
        11_689_512,
        21_797_672,
        25_557_032,
        3_504_872,
        44_549_160,
        60_192_808,
        25_028_904,
        88_791_336,
        83_455_272,
        68_883_240,
        126_886_696,
        3_504_872,
        4_652_008,
        5_416_680,
        6_092_072,
    ];
    for (architecture, published) in Architecture::ALL.into_iter().zip(published) {
        let spec = architecture.spec(architecture.spellings()[0]);
        let trainable = spec
            .parameters()
            .into_iter()
            .filter(|parameter| !parameter.name.contains(".running_"));
        let body: usize = trainable
            .map(|parameter| parameter.shape.iter().product::<usize>())
            .sum();
        assert_eq!(body + 1000 * (spec.features + 1), published, "{architecture}");
    }
}

#[test]
fn every_architecture_is_a_valid_backbone_with_its_sites_and_features() {
    let expected = [
        (49, 1280),
        (64, 1280),
        (64, 1280),
        (20, 512),
        (36, 512),
        (53, 2048),
        (52, 1280),
        (104, 2048),
        (155, 2048),
        (53, 2048),
    ];
    // The larger architectures differ from these only in width.
    for (architecture, (sites, features)) in Architecture::ALL.into_iter().zip(expected) {
        let backbone = seeded_backbone(architecture, 1, 10);
        assert_eq!(
            (backbone.sites().len(), backbone.feature_count()),
            (sites, features),
            "{architecture}"
        );
        assert!(
            backbone.sites().iter().all(|site| site.norm.is_some()),
            "{architecture}"
        );
        assert_eq!(Architecture::from_name(architecture.name()), Some(architecture));
    }
}

#[test]
fn site_names_are_short_and_stable() {
    let names = |architecture| {
        let backbone = seeded_backbone(architecture, 1, 0);
        backbone
            .sites()
            .iter()
            .map(|site| site.name.clone())
            .collect::<Vec<_>>()
    };
    let lite = names(Architecture::EfficientNetLite0);
    assert_eq!(lite[..5], ["stem", "b0.dw", "b0.project", "b1.expand", "b1.dw"]);
    assert_eq!(lite[lite.len() - 2..], ["b15.project", "top"]);
    let resnet = names(Architecture::ResNet18);
    assert_eq!(resnet[..3], ["conv1", "layer1.0.conv1", "layer1.0.conv2"]);
    assert!(resnet.contains(&"layer2.0.downsample".to_owned()));
    assert_eq!(
        names(Architecture::MobileNetV2)[..4],
        ["stem", "b1.dw", "b1.project", "b2.expand"]
    );
}

#[test]
fn a_seed_gives_the_pinned_weights_on_every_platform() {
    let backbone = seeded_backbone(Architecture::EfficientNetLite0, 7, 3);
    let state = state_dict(Architecture::EfficientNetLite0, &backbone);
    assert_eq!(Digest::of(&safetensors(&state)).short(), "0604108146f0");
    assert_ne!(
        seeded_backbone(Architecture::EfficientNetLite0, 8, 3).digest(),
        backbone.digest()
    );
}

#[test]
fn a_state_dict_is_recognised_and_gives_the_same_backbone() {
    for architecture in [
        Architecture::EfficientNetLite2,
        Architecture::ResNet18,
        Architecture::MobileNetV2,
    ] {
        for classes in [0, 7] {
            let backbone = seeded_backbone(architecture, 3, classes);
            let bytes = safetensors(&state_dict(architecture, &backbone));
            let options = ImportOptions {
                name: Some(backbone.name().to_owned()),
                ..ImportOptions::default()
            };
            assert_eq!(import_bytes(&bytes, "x", &options).expect("it is imported"), backbone);
        }
    }
}

#[test]
fn every_tensor_that_does_not_fit_is_listed() {
    let architecture = Architecture::MobileNetV2;
    let mut state = state_dict(architecture, &seeded_backbone(architecture, 3, 5));
    state.remove("features.0.1.weight");
    state.insert("features.3.conv.0.0.weight".into(), Tensor::new([2, 2], vec![0.0; 4]));
    state.insert("features.2.se.weight".into(), Tensor::new([1], vec![0.0]));
    state.insert("features.0.1.num_batches_tracked".into(), Tensor::new([], vec![0.0]));
    let error = import_bytes(&safetensors(&state), "net.pth", &ImportOptions::default()).expect_err("it does not fit");
    let ImportError::Mismatch {
        architecture: guessed,
        problems,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(*guessed, architecture);
    let expected = [
        TensorProblem::Missing {
            name: "features.0.1.weight".into(),
            expected: vec![32],
        },
        TensorProblem::Shape {
            name: "features.3.conv.0.0.weight".into(),
            expected: vec![144, 24, 1, 1],
            got: vec![2, 2],
        },
        TensorProblem::Unexpected {
            name: "features.2.se.weight".into(),
            got: vec![1],
        },
    ];
    assert_eq!(problems[..], expected);
    assert!(
        error
            .to_string()
            .starts_with("net.pth: 3 tensor(s) do not fit mobilenet-v2:\n  `features.0.1.weight`: expected [32]")
    );
}

#[test]
fn a_nan_weight_is_reported() {
    let architecture = Architecture::MobileNetV2;
    let mut state = state_dict(architecture, &seeded_backbone(architecture, 3, 2));
    let mut values = vec![1.0; 32];
    values[7] = f32::NAN;
    state.insert("features.0.1.weight".into(), Tensor::new([32], values));
    let message = import_bytes(&safetensors(&state), "net.pth", &ImportOptions::default())
        .expect_err("it has diverged")
        .to_string();
    let expected = "net.pth: tensor `features.0.1.weight`: element 7: expected a finite number, got NaN\nhint:";
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn a_given_architecture_is_used_without_guessing() {
    let state = state_dict(Architecture::ResNet18, &seeded_backbone(Architecture::ResNet18, 3, 0));
    let options = ImportOptions {
        architecture: Some(Architecture::ResNet34),
        ..ImportOptions::default()
    };
    let error = import_bytes(&safetensors(&state), "x", &options).expect_err("it is another network");
    assert!(
        matches!(
            error,
            ImportError::Mismatch {
                architecture: Architecture::ResNet34,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn options_replace_labels_preprocessing_and_name() {
    let architecture = Architecture::MobileNetV2;
    let bytes = safetensors(&state_dict(architecture, &seeded_backbone(architecture, 3, 2)));
    let mut preprocessing = architecture.preprocessing();
    let stated = crate::StatedPreprocessing::preset(crate::Preset::Caffe);
    stated.apply(&mut preprocessing);
    let options = ImportOptions {
        labels: Some(vec!["cat".into(), "dog".into()]),
        preprocessing: stated,
        name: Some("pets".into()),
        ..ImportOptions::default()
    };
    let backbone = import_bytes(&bytes, "x", &options).expect("it is imported");
    assert_eq!(backbone.labels(), options.labels.as_deref());
    assert_eq!((backbone.preprocessing(), backbone.name()), (&preprocessing, "pets"));
    let origins = backbone.preprocessing_origins();
    assert_eq!(
        (origins.normalisation, origins.crop),
        (crate::Origin::Option, crate::Origin::Architecture)
    );
    let options = ImportOptions {
        labels: Some(vec!["one".into()]),
        ..ImportOptions::default()
    };
    assert!(import_bytes(&bytes, "x", &options).is_err());
}
