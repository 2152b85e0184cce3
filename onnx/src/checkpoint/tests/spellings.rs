//! Naming schemes: the same tensors under another library's names give the same backbone. A different network is never
//! taken for a similar one.

use super::super::spelling::Spelling;
use super::super::{Architecture, ImportError, ImportOptions, TensorProblem, import_bytes, seeded_backbone};
use super::states::{imported, safetensors, spelled, state_dict};
use super::torch_save::{dict, state, text, zip};
use crate::Tensor;

#[test]
fn every_spelling_gives_the_same_backbone() {
    for architecture in [
        Architecture::ResNet18,
        Architecture::ResNeXt50,
        Architecture::MobileNetV2,
        Architecture::TfMobileNetV2,
        Architecture::EfficientNetLite0,
        Architecture::TimmEfficientNetLite0,
    ] {
        let backbone = seeded_backbone(architecture, 5, 3);
        for &spelling in architecture.spellings() {
            let options = ImportOptions {
                architecture: Some(architecture),
                ..ImportOptions::default()
            };
            let bytes = safetensors(&spelled(architecture, spelling, &backbone));
            let got = import_bytes(&bytes, "x", &options).expect("it is imported");
            assert_eq!(got.digest(), backbone.digest(), "{architecture} {spelling:?}");
            assert_eq!(got.classifier(), backbone.classifier(), "{architecture} {spelling:?}");
        }
    }
}

#[test]
fn names_identify_the_architecture_unless_two_networks_share_them() {
    for architecture in [
        Architecture::ResNet18,
        Architecture::MobileNetV2,
        Architecture::TfMobileNetV2,
    ] {
        let backbone = seeded_backbone(architecture, 5, 3);
        for &spelling in architecture.spellings() {
            let got = imported(&safetensors(&spelled(architecture, spelling, &backbone))).expect("it is imported");
            assert_eq!(
                (got.digest(), got.name()),
                (backbone.digest(), architecture.name()),
                "{spelling:?}"
            );
        }
    }
}

#[test]
fn networks_with_equal_tensors_need_a_stated_architecture() {
    let google = Architecture::EfficientNetLite0;
    let own = Architecture::TimmEfficientNetLite0;
    let tensors = spelled(google, Spelling::Timm, &seeded_backbone(google, 5, 3));
    let error = imported(&safetensors(&tensors)).expect_err("it is ambiguous");
    assert!(
        matches!(&error, ImportError::Ambiguous { architectures, .. } if architectures[..] == [google, own]),
        "{error}"
    );
    let message = error.to_string();
    for architecture in [google, own] {
        // The hint works.
        assert!(
            message.contains(&format!("--architecture {architecture}:")),
            "{message}"
        );
        let options = ImportOptions {
            architecture: Some(architecture),
            ..ImportOptions::default()
        };
        let bytes = safetensors(&tensors);
        let backbone = import_bytes(&bytes, "x", &options).expect("it is imported");
        assert_eq!(backbone.digest(), seeded_backbone(architecture, 5, 3).digest());
        assert!(
            backbone.notes()[0].starts_with("read as timm's"),
            "{:?}",
            backbone.notes()
        );
    }
    for (stated, architecture) in [("tf_efficientnet_lite0.in1k", google), ("efficientnet_lite0", own)] {
        let file = zip(&dict([("arch", text(stated)), ("state_dict", state("", &tensors))]));
        assert_eq!(
            imported(&file).expect("the file states the architecture").name(),
            architecture.name()
        );
    }
}

#[test]
fn a_network_with_other_parts_is_never_read_as_the_one_it_resembles() {
    let architecture = Architecture::ResNet18;
    let tensors = state_dict(architecture, &seeded_backbone(architecture, 5, 3));
    let change = |change: &dyn Fn(&mut std::collections::BTreeMap<String, Tensor>)| {
        let mut tensors = tensors.clone();
        change(&mut tensors);
        imported(&safetensors(&tensors))
            .expect_err("it is another network")
            .to_string()
    };
    let one = || Tensor::new([1], vec![0.5]);
    // An attention block, a convolution with a bias, and a blur kernel, all inside the body.
    for name in ["layer2.0.se.fc.weight", "conv1.bias", "layer3.0.conv1.filt"] {
        let message = change(&|tensors| {
            tensors.insert(name.into(), one());
        });
        assert!(
            message.contains(&format!("`{name}`: expected nothing, got [1]")),
            "{message}"
        );
        assert!(message.contains("hint: export ONNX"), "{message}");
    }
    // Another stem.
    let message = change(&|tensors| {
        tensors.insert("conv1.weight".into(), Tensor::new([64, 3, 3, 3], vec![0.0; 1728]));
    });
    assert!(
        message.contains("`conv1.weight`: expected [64, 3, 7, 7], got [64, 3, 3, 3]"),
        "{message}"
    );
    // No tensor shows the pooling; only the name stated in the file does.
    let file = zip(&dict([
        ("arch", text("resnetblur18")),
        ("state_dict", state("", &tensors)),
    ]));
    let message = imported(&file).expect_err("its pooling differs").to_string();
    assert!(
        message.contains("`resnetblur18`") && message.contains("--architecture resnet18"),
        "{message}"
    );
}

#[test]
fn a_mismatch_names_the_architecture_that_would_fit() {
    let architecture = Architecture::ResNet18;
    let bytes = safetensors(&state_dict(architecture, &seeded_backbone(architecture, 5, 0)));
    let options = ImportOptions {
        architecture: Some(Architecture::ResNet34),
        ..ImportOptions::default()
    };
    let error = import_bytes(&bytes, "x", &options).expect_err("it is another network");
    let ImportError::Mismatch { problems, hint, .. } = &error else {
        panic!("{error}")
    };
    assert!(hint.ends_with("--architecture resnet18"), "{hint}");
    assert!(matches!(&problems[0], TensorProblem::Missing { name, .. } if name.starts_with("layer1.2")));
    // The message lists the maximum number of problems and counts the rest.
    assert!(
        error.to_string().contains(&format!("and {} more", problems.len() - 12)),
        "{error}"
    );
}

#[test]
fn command_line_names_of_other_libraries_are_understood() {
    for (name, architecture) in [
        ("wide_resnet50_2", Architecture::WideResNet50),
        ("resnext101_64x4d", Architecture::ResNeXt101Groups64),
        ("mobilenetv2_100", Architecture::MobileNetV2),
        ("tf_efficientnet_lite1", Architecture::EfficientNetLite1),
        ("ResNet18", Architecture::ResNet18),
    ] {
        assert_eq!(Architecture::from_name(name), Some(architecture));
    }
    assert_eq!(Architecture::from_name("resnet"), None);
}
