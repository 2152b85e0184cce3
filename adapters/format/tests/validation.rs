//! Invalid adapters are neither written nor read, and the reason is reported.

use clr_adapters::{
    Adapter, EncodeError, Encoding, Fit, InvalidAdapter, Limits, Recipe, SiteWeights, decode_with, encode,
};

use crate::sample;

fn refused(change: impl FnOnce(&mut Adapter)) -> InvalidAdapter {
    let mut adapter = sample::small();
    assert_eq!(adapter.validate(), Ok(()));
    change(&mut adapter);
    let invalid = adapter.validate().unwrap_err();
    assert!(matches!(encode(&adapter, Encoding::F32), Err(EncodeError::Invalid(_))));
    invalid
}

macro_rules! assert_refused {
    ($change:expr, $pattern:pat) => {
        let invalid = refused($change);
        assert!(matches!(invalid, $pattern), "{invalid:?}");
    };
}

#[test]
fn inconsistent_counts_are_refused() {
    assert_refused!(
        |a| a.header.labels.truncate(2),
        InvalidAdapter::Labels { labels: 2, classes: 3 }
    );
    assert_refused!(
        |a| _ = a.head.weight.pop(),
        InvalidAdapter::HeadWeight { expected: 54, got: 53 }
    );
    assert_refused!(
        |a| a.head.features = 17,
        InvalidAdapter::HeadWeight { expected: 51, got: 54 }
    );
    assert_refused!(
        |a| _ = a.sites[1].bias.pop(),
        InvalidAdapter::SiteWeights {
            channels: 3,
            expected: 27,
            got: 36,
            ..
        }
    );
    assert_refused!(
        |a| a.sites[2].bias.push(0.0),
        InvalidAdapter::SiteWeights {
            expected: 19,
            got: 18,
            ..
        }
    );
    assert_refused!(
        |a| a.header.canaries[0].pixels.push(0),
        InvalidAdapter::CanaryPixels {
            expected: 48,
            got: 49,
            ..
        }
    );
    assert_refused!(
        |a| a.header.canaries[0].class = 3,
        InvalidAdapter::CanaryClass {
            class: 3,
            classes: 3,
            ..
        }
    );
}

#[test]
fn invalid_names_and_texts_are_refused() {
    assert_refused!(
        |a| a.sites[2].name = a.sites[0].name.clone(),
        InvalidAdapter::DuplicateSite { .. }
    );
    assert_refused!(
        |a| a.sites[0].name = Some(String::new()),
        InvalidAdapter::Empty { what: "site name" }
    );
    assert_refused!(
        |a| a.header.task = "auto".into(),
        InvalidAdapter::ReservedName { name: "auto" }
    );
    assert_refused!(
        |a| a.header.task = "a\u{1b}[31mb".into(),
        InvalidAdapter::ControlCharacter { what: "task", .. }
    );
    assert_refused!(
        |a| a.header.labels[1].push('\u{85}'),
        InvalidAdapter::ControlCharacter { what: "label", .. }
    );
    assert_refused!(
        |a| a.header.task = "x".repeat(129),
        InvalidAdapter::TooLarge {
            what: "task",
            cap: 128,
            got: 129
        }
    );
    assert_refused!(
        |a| a.header.labels[0] = "é".repeat(129),
        InvalidAdapter::TooLarge {
            what: "label",
            got: 258,
            ..
        }
    );
    assert_refused!(
        |a| a.sites[0].name = Some("s".repeat(257)),
        InvalidAdapter::TooLarge { what: "site name", .. }
    );
}

#[test]
fn recipes_and_sites_must_match() {
    assert_refused!(|a| a.header.recipe = Recipe::Linear, InvalidAdapter::Recipe { .. });
    assert_refused!(|a| a.header.recipe = Recipe::Bn, InvalidAdapter::Recipe { .. });
    assert_refused!(|a| a.header.recipe = Recipe::ClrFull, InvalidAdapter::Recipe { .. });
    assert_refused!(|a| a.sites.clear(), InvalidAdapter::Recipe { .. });
    assert_eq!(sample::linear().validate(), Ok(()));
}

#[test]
fn numbers() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_refused!(
            |a| a.head.weight[20] = bad,
            InvalidAdapter::NotFinite {
                site: None,
                index: 20,
                ..
            }
        );
        assert_refused!(
            |a| a.head.bias[1] = bad,
            InvalidAdapter::NotFinite {
                site: None,
                index: 1,
                ..
            }
        );
        assert_refused!(
            |a| a.sites[1].bias[3] = bad,
            InvalidAdapter::NotFinite {
                site: Some(_),
                index: 3,
                ..
            }
        );
        let kernel = |a: &mut Adapter| {
            let SiteWeights::Kernel(values) = &mut a.sites[0].weights else {
                unreachable!()
            };
            values[7] = bad;
        };
        assert_refused!(kernel, InvalidAdapter::NotFinite { index: 7, .. });
        assert_refused!(
            |a| a.header.preprocessing.mean[1] = bad,
            InvalidAdapter::OutOfRange { what: "mean", .. }
        );
        assert_refused!(
            |a| a.header.metrics.as_mut().unwrap().accuracy = bad,
            InvalidAdapter::OutOfRange { .. }
        );
    }
    for bad in [0.0, -1.0, f32::NAN] {
        assert_refused!(
            |a| a.header.preprocessing.std[0] = bad,
            InvalidAdapter::OutOfRange { what: "std", .. }
        );
        let crop = |a: &mut Adapter| a.header.preprocessing.fit = Fit::CenterCrop { fraction: bad };
        assert_refused!(
            crop,
            InvalidAdapter::OutOfRange {
                what: "crop fraction",
                ..
            }
        );
    }
    for bad in [-0.1, 1.1] {
        assert_refused!(
            |a| a.header.canaries[0].probability = bad,
            InvalidAdapter::OutOfRange { .. }
        );
    }
    assert_refused!(|a| a.header.version = 0, InvalidAdapter::Empty { what: "version" });
    assert_refused!(
        |a| a.header.preprocessing.width = 0,
        InvalidAdapter::Empty { what: "input width" }
    );
    assert_refused!(
        |a| a.header.canaries[0].size[0] = 0,
        InvalidAdapter::Empty { what: "canary side" }
    );
    let classless = |a: &mut Adapter| {
        a.header.labels.clear();
        a.head.weight.clear();
        a.head.bias.clear();
        a.header.canaries.clear();
    };
    assert_refused!(classless, InvalidAdapter::Empty { what: "head bias" });
}

#[test]
fn every_cap_can_be_lowered() {
    let file = encode(&sample::small(), Encoding::Int8).unwrap();
    assert!(decode_with(&file, &Limits::DEFAULT).is_ok());
    let caps: [fn(&mut Limits); 13] = [
        |limits| limits.file_bytes = 400,
        |limits| limits.header_bytes = 100,
        |limits| limits.task_bytes = 3,
        |limits| limits.label_bytes = 4,
        |limits| limits.classes = 2,
        |limits| limits.features = 17,
        |limits| limits.sites = 2,
        |limits| limits.site_name_bytes = 10,
        |limits| limits.channels = 17,
        |limits| limits.parameters = 100,
        |limits| limits.canaries = 0,
        |limits| limits.canary_side = 3,
        |limits| limits.input_side = 223,
    ];
    for (index, lower) in caps.into_iter().enumerate() {
        let mut limits = Limits::DEFAULT;
        lower(&mut limits);
        let error = decode_with(&file, &limits).unwrap_err().to_string();
        assert!(error.contains("at most"), "cap {index}: {error}");
    }
}
