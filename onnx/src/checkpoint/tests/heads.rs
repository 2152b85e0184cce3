//! Heads: a single linear layer under any name is the classifier. Any other head is left out, with a note that states
//! the reason.

use std::collections::BTreeMap;

use super::super::{Architecture, seeded_backbone};
use super::states::{imported, safetensors, state_dict};
use crate::{Backbone, Tensor};

const FEATURES: usize = 1280;

/// Returns a body without a head.
fn body() -> (Backbone, BTreeMap<String, Tensor>) {
    let backbone = seeded_backbone(Architecture::MobileNetV2, 3, 0);
    let tensors = state_dict(Architecture::MobileNetV2, &backbone);
    (backbone, tensors)
}

fn ramp(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    Tensor::new(shape.to_vec(), (0..count).map(|value| value as f32).collect::<Vec<_>>())
}

/// Imports the body under `prefix`, with `head` next to it.
fn with_head(prefix: &str, head: &[(&str, &[usize])]) -> Backbone {
    let (backbone, tensors) = body();
    let mut all: BTreeMap<_, _> = tensors
        .into_iter()
        .map(|(name, tensor)| (format!("{prefix}{name}"), tensor))
        .collect();
    all.extend(head.iter().map(|(name, shape)| ((*name).to_owned(), ramp(shape))));
    let got = imported(&safetensors(&all)).expect("the body is imported");
    assert_eq!(
        (got.digest(), got.feature_count()),
        (backbone.digest(), FEATURES),
        "{head:?}"
    );
    got
}

#[test]
fn one_linear_layer_under_any_name_is_the_classifier() {
    for (prefix, layer) in [
        ("", "classifier.1"),
        ("", "classifier"),
        ("", "head"),
        ("", "fc.1"),
        ("", "last_linear"),
        ("backbone.", "head.fc"),
        ("backbone.", "cls_head"),
        ("model.encoder.", "model.decoder"),
        ("backbone.", "backbone.classifier.3"),
    ] {
        let (weight, bias) = (format!("{layer}.weight"), format!("{layer}.bias"));
        let backbone = with_head(prefix, &[(&weight, &[4, FEATURES]), (&bias, &[4])]);
        let head = backbone
            .classifier()
            .unwrap_or_else(|| panic!("{layer}: {:?}", backbone.notes()));
        assert_eq!(
            (head.classes(), head.weight[4097], head.bias[3]),
            (4, 4097.0, 3.0),
            "{layer}"
        );
        let own = prefix.is_empty() && layer == "classifier.1";
        assert_eq!(
            backbone.notes().iter().any(|note| note.contains(layer)),
            !own,
            "{:?}",
            backbone.notes()
        );
    }
}

#[test]
fn a_layer_without_bias_or_of_1x1_convolution_is_the_classifier() {
    let backbone = with_head("", &[("fc.weight", &[4, FEATURES])]);
    assert_eq!(backbone.classifier().expect("it has one").bias, [0.0; 4]);
    assert!(
        backbone.notes().iter().any(|note| note.contains("no bias")),
        "{:?}",
        backbone.notes()
    );
    let backbone = with_head("", &[("fc.weight", &[4, FEATURES, 1, 1]), ("fc.bias", &[4])]);
    assert_eq!(backbone.classifier().expect("it has one").weight[4097], 4097.0);
}

#[test]
fn any_other_head_is_left_out_and_noted() {
    let f = FEATURES;
    let heads: [&[(&str, &[usize])]; 7] = [
        // Two layers, in the same module and in two modules.
        &[
            ("classifier.0.weight", &[64, f]),
            ("classifier.0.bias", &[64]),
            ("classifier.2.weight", &[4, 64]),
        ],
        &[
            ("neck.weight", &[64, f]),
            ("neck.bias", &[64]),
            ("classifier.weight", &[4, 64]),
            ("classifier.bias", &[4]),
        ],
        &[("classifier.weight", &[f, f]), ("arc.weight", &[4, f])],
        // A norm before the layer, in the same module and in another.
        &[
            ("classifier.0.weight", &[f]),
            ("classifier.0.running_mean", &[f]),
            ("classifier.1.weight", &[4, f]),
        ],
        &[
            ("bottleneck.weight", &[f]),
            ("bottleneck.running_mean", &[f]),
            ("classifier.weight", &[4, f]),
        ],
        // Heads of several tasks.
        &[
            ("age.weight", &[3, f]),
            ("age.bias", &[3]),
            ("gender.weight", &[2, f]),
            ("gender.bias", &[2]),
        ],
        // A layer on something else.
        &[("fc.weight", &[4, 77]), ("fc.bias", &[4])],
    ];
    for head in heads {
        let backbone = with_head("", head);
        assert!(backbone.classifier().is_none(), "{head:?}");
        let notes = backbone.notes().join("\n");
        assert!(
            notes.contains("ends with its 1280 features, without a classifier"),
            "{notes}"
        );
        assert!(notes.contains(&format!("`{}`", head[0].0)), "{notes}");
    }
}

#[test]
fn extra_tensors_are_noted_and_counters_are_not() {
    let backbone = with_head(
        "",
        &[
            ("classifier.1.weight", &[4, FEATURES]),
            ("classifier.1.bias", &[4]),
            ("criterion.centres", &[4, 7]),
            ("total_ops", &[1]),
            ("features.0.1.num_batches_tracked", &[]),
        ],
    );
    assert!(backbone.classifier().is_some());
    assert_eq!(
        backbone.notes(),
        ["not read, since they are not part of the network: `criterion.centres`"]
    );
}

#[test]
fn a_bias_that_contradicts_its_weight_is_an_error() {
    let (_, mut tensors) = body();
    tensors.insert("classifier.1.weight".into(), ramp(&[5, FEATURES]));
    tensors.insert("classifier.1.bias".into(), ramp(&[6]));
    let message = imported(&safetensors(&tensors)).expect_err("it is damaged").to_string();
    assert!(
        message.contains("`classifier.1.bias`: expected [5], got [6]"),
        "{message}"
    );
}
