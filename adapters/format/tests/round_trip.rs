//! Round trips through the file format.

use clr_adapters::{
    Adapter, Canary, Digest, Encoding, Fit, Head, Header, OwnScores, Profile, Recipe, Site, SiteWeights, decode,
    encode, quantised,
};
use proptest::prelude::*;

use crate::sample;

#[test]
fn f32_is_exact_and_the_others_are_close() {
    // A large adapter would take Miri minutes.
    let large = (!cfg!(miri)).then(sample::lite0);
    for adapter in [sample::small(), sample::linear()].into_iter().chain(large) {
        let exact = decode(&encode(&adapter, Encoding::F32).unwrap()).unwrap();
        assert_eq!(exact.adapter, adapter);
        assert_eq!(exact.encoding, Encoding::F32);
        for encoding in [Encoding::F16, Encoding::Int8] {
            let bytes = encode(&adapter, encoding).unwrap();
            let back = decode(&bytes).unwrap();
            assert_eq!(back.encoding, encoding);
            assert_eq!(back.digest, Digest::of(&bytes));
            let profile = |adapter: &Adapter| adapter.header.profile.clone().unwrap();
            let (own, other) = (profile(&back.adapter), profile(&adapter));
            close(&own.mean, &other.mean);
            close(&own.diagonal, &other.diagonal);
            close(&own.factor, &other.factor);
            let mut header = back.adapter.header.clone();
            header.profile = Some(Profile {
                own_scores: own.own_scores,
                ..other
            });
            assert_eq!(header, adapter.header);
            assert_eq!(quantised(&adapter, encoding).unwrap(), back.adapter);
            for (own, other) in back.adapter.sites.iter().zip(&adapter.sites) {
                assert_eq!(own.name, other.name);
                close(own.weights.values(), other.weights.values());
                close(&own.bias, &other.bias);
            }
            close(&back.adapter.head.weight, &adapter.head.weight);
            close(&back.adapter.head.bias, &adapter.head.bias);
        }
    }
}

fn close(own: &[f32], other: &[f32]) {
    assert_eq!(own.len(), other.len());
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>().sqrt();
    let error = norm(&mut own.iter().zip(other).map(|(a, b)| a - b));
    let size = norm(&mut other.iter().copied());
    assert!(error <= 0.01 * size, "relative error {}", error / size);
}

#[test]
fn the_sections_cover_the_payload() {
    for encoding in [Encoding::F32, Encoding::F16, Encoding::Int8] {
        let file = encode(&sample::small(), encoding).unwrap();
        let decoded = decode(&file).unwrap();
        let mut next = 20 + decoded.header_bytes;
        for section in &decoded.sections {
            assert_eq!(section.offset, next + 16);
            assert_eq!(section.encoding, encoding.of_section(section.kind));
            next = section.offset + section.bytes;
        }
        assert_eq!(next + 8, decoded.file_bytes);
        let elements: usize = decoded.sections.iter().map(|section| section.elements).sum();
        let profile = 5 + 5 + 10;
        assert_eq!(elements, decoded.adapter.parameters() + profile);
        assert_eq!(decoded.adapter.decoded_bytes() + 4 * profile, 4 * elements);
    }
}

#[test]
fn values_beyond_f16_keep_their_section_in_f32() {
    let mut adapter = sample::small();
    adapter.sites[0].bias[2] = 70_000.0;
    let back = quantised(&adapter, Encoding::F16).unwrap();
    assert_eq!(back.sites[0].bias, adapter.sites[0].bias);
}

#[test]
fn extreme_values_stay_finite_under_every_encoding() {
    let values = [f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, 0.0, -0.0];
    // Each value takes Miri ten seconds: only the largest and the smallest are tested.
    for value in values.into_iter().step_by(if cfg!(miri) { 3 } else { 1 }) {
        let mut adapter = sample::small();
        let SiteWeights::Kernel(kernels) = &mut adapter.sites[0].weights else {
            unreachable!()
        };
        kernels.fill(value);
        let SiteWeights::Scale(scales) = &mut adapter.sites[2].weights else {
            unreachable!()
        };
        scales.fill(value);
        adapter.sites[0].bias.fill(value);
        adapter.head.weight.fill(value);
        for encoding in Encoding::ALL {
            let back = quantised(&adapter, encoding).unwrap();
            assert_eq!(quantised(&back, encoding).unwrap(), back);
        }
    }
}

/// Exclusive maximum of the channels of a layer and of the features of the head. Also under Miri it allows more than
/// one block of codes.
const CHANNELS: usize = if cfg!(miri) { 20 } else { 70 };
const FEATURES: usize = if cfg!(miri) { 40 } else { 80 };

fn number() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -4.0_f32..4.0,
        1 => (-60_f32..60.0, any::<bool>()).prop_map(|(e, minus)| if minus { -e.exp2() } else { e.exp2() }),
        1 => Just(0.0_f32),
    ]
}

fn numbers(count: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(number(), count)
}

fn site(kernel: bool) -> impl Strategy<Value = Site> {
    ("[a-z/._]{1,20}", 1..CHANNELS).prop_flat_map(move |(name, channels)| {
        (numbers(channels * if kernel { 9 } else { 1 }), numbers(channels)).prop_map(move |(weights, bias)| {
            let weights = if kernel {
                SiteWeights::Kernel(weights)
            } else {
                SiteWeights::Scale(weights)
            };
            Site {
                name: Some(name.clone()),
                weights,
                bias,
                steps: None,
            }
        })
    })
}

/// Generates a profile with at most as many dimensions as there are features.
fn profile(features: usize) -> impl Strategy<Value = Option<Profile>> {
    let vectors = (1..=features.min(9)).prop_flat_map(|dimensions| {
        let above_zero = number().prop_map(|value| value.abs().max(1e-18));
        (
            numbers(dimensions),
            prop::collection::vec(above_zero, dimensions),
            numbers(dimensions * (dimensions - 1) / 2),
        )
    });
    prop::option::of(vectors.prop_map(|(mean, diagonal, factor)| Profile {
        mean,
        diagonal,
        factor,
        own_scores: OwnScores::Distances {
            typical: 0.9,
            limit: 1.4,
        },
        taught: Vec::new(),
    }))
}

fn adapter() -> impl Strategy<Value = Adapter> {
    let sites = prop::collection::vec(any::<bool>().prop_flat_map(site), 0..5);
    let head = (1_usize..6, 1..FEATURES).prop_flat_map(|(classes, features)| {
        let weight = numbers(classes * features);
        (Just(features), weight, numbers(classes), profile(features))
    });
    let canary = (1_u16..5, 1_u16..5, 0.0_f32..=1.0).prop_flat_map(|(width, height, probability)| {
        prop::collection::vec(any::<u8>(), usize::from(3 * width * height)).prop_map(move |pixels| Canary {
            size: [width, height],
            pixels,
            class: 0,
            probability,
            seed: None,
        })
    });
    let rest = (
        prop::collection::vec(canary, 0..3),
        "\\PC{1,12}",
        1_u64..,
        any::<Option<[u8; 32]>>(),
    );
    (sites, head, rest).prop_map(
        |(mut sites, (features, weight, bias, profile), (canaries, task, version, parent))| {
            sites.sort_by(|a, b| a.name.cmp(&b.name));
            sites.dedup_by(|a, b| a.name == b.name);
            let mut preprocessing = sample::preprocessing();
            preprocessing.fit = Fit::Stretch;
            let header = Header {
                labels: (0..bias.len()).map(|class| format!("{task}{class}")).collect(),
                recipe: if sites.is_empty() {
                    Recipe::Linear
                } else {
                    Recipe::ClrScale
                },
                preprocessing,
                version,
                parent: parent.map(Digest),
                canaries,
                task,
                profile,
                ..sample::small().header
            };
            Adapter {
                header,
                sites,
                head: Head { features, weight, bias },
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 200 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_valid_adapter_survives_a_round_trip(adapter in adapter()) {
        let file = encode(&adapter, Encoding::F32).unwrap();
        prop_assert_eq!(&decode(&file).unwrap().adapter, &adapter);
        prop_assert_eq!(encode(&adapter, Encoding::F32).unwrap(), file);
    }

    #[test]
    fn decoding_and_encoding_again_gives_the_same_bytes(adapter in adapter()) {
        for encoding in Encoding::ALL {
            let file = encode(&adapter, encoding).unwrap();
            let back = decode(&file).unwrap().adapter;
            prop_assert_eq!(encode(&back, encoding).unwrap(), file);
        }
    }
}
