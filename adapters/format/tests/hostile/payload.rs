//! Faults of the payload and of its values.

use clr_adapters::{
    BackgroundId, CodeFault, DecodeError, EncodeError, Encoding, HeadEnergy, InvalidAdapter, OwnScores, Profile,
    Ratios, SectionKind, TaughtPoints, encode,
};

use super::{refused, reseal_section};
use crate::sample;

#[test]
fn every_payload_error_names_the_section() {
    let refused = |change: fn(&mut Vec<u8>)| refused(Encoding::Int8, |_, payload| change(payload));
    let section = SectionKind::Kernels;
    let none = DecodeError::SectionKind {
        expected: section,
        got: None,
    };
    assert_eq!(refused(Vec::clear), none);
    let other = DecodeError::SectionKind {
        expected: section,
        got: Some(3),
    };
    assert_eq!(refused(|payload| payload[0] = 3), other);
    assert_eq!(
        refused(|payload| payload[1] = 9),
        DecodeError::SectionEncoding { section, got: 9 }
    );
    assert_eq!(
        refused(|payload| payload[2] = 9),
        DecodeError::Reserved { place: "kernels" }
    );
    let elements = DecodeError::SectionElements {
        section,
        expected: 81,
        got: 255,
    };
    assert_eq!(refused(|payload| payload[4] = 255), elements);
    let bytes = DecodeError::SectionBytes {
        section,
        expected: 79,
        got: 80,
    };
    assert_eq!(refused(|payload| payload[8] += 1), bytes);
    let as_f32 = refused(|payload| payload[1] = 0);
    assert_eq!(
        as_f32,
        DecodeError::SectionBytes {
            section,
            expected: 324,
            got: 79
        }
    );
    assert!(matches!(
        refused(|payload| payload[16] ^= 1),
        DecodeError::SectionChecksum { .. }
    ));
    let code = refused(|payload| {
        payload[18..30].fill(0xff);
        reseal_section(payload, 0);
    });
    let fault = DecodeError::SectionData {
        section,
        run: 0,
        fault: CodeFault::Code(4095),
    };
    assert_eq!(code, fault);
    assert_eq!(
        refused(|payload| payload.extend([1, 2])),
        DecodeError::PayloadRest { left: 2 }
    );
    let cut = refused(|payload| payload.truncate(payload.len() - 1));
    assert_eq!(
        cut,
        DecodeError::SectionTruncated {
            section: SectionKind::ProfileFactor,
            expected: 13,
            got: 12
        }
    );
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = refused(Encoding::F32, |_, payload| {
            payload[16..20].copy_from_slice(&bad.to_le_bytes());
            reseal_section(payload, 0);
        });
        let fault = CodeFault::NotFinite;
        assert_eq!(
            error,
            DecodeError::SectionData {
                section: SectionKind::Kernels,
                run: 0,
                fault
            }
        );
    }
}

#[test]
fn an_invalid_profile_is_refused() {
    let refused = |change: fn(&mut Profile)| {
        let mut adapter = sample::small();
        change(adapter.header.profile.as_mut().unwrap());
        let error = adapter.validate().unwrap_err();
        assert!(matches!(encode(&adapter, Encoding::F32), Err(EncodeError::Invalid(_))));
        error
    };
    let lengths = refused(|profile| _ = profile.factor.pop());
    let without = refused(|profile| profile.taught = taught(profile, 0, 1.0, 0.0));
    assert_eq!(without, InvalidAdapter::TaughtWithoutBackground);
    let section = SectionKind::ProfileFactor;
    assert_eq!(
        lengths,
        InvalidAdapter::Profile {
            section,
            expected: 10,
            got: 9
        }
    );
    for change in [
        (|profile| profile.diagonal[2] = 0.0) as fn(&mut Profile),
        |profile| profile.diagonal[2] = -1.0,
        |profile| profile.own_scores = distances(0.0, 1.0),
        |profile| profile.own_scores = distances(f32::NAN, 1.0),
        |profile| profile.own_scores = distances(1.0, 1.0),
        |profile| profile.own_scores = distances(1.0, f32::INFINITY),
        |profile| profile.own_scores = ratios([-1.0, 0.0, 0.0, 0.1, f32::NAN, 0.3, 0.4], None),
        |profile| profile.own_scores = ratios([-1.0, 0.0, 0.0, 0.1, 0.05, 0.3, 0.4], None),
        |profile| (profile.own_scores, profile.taught) = (ratios([0.0; 7], None), taught(profile, 99, 1.0, 0.0)),
        |profile| (profile.own_scores, profile.taught) = (ratios([0.0; 7], None), taught(profile, 0, 0.0, 0.0)),
        |profile| profile.own_scores = ratios([0.0; 7], Some([f32::INFINITY, 1.0])),
        |profile| profile.own_scores = ratios([0.0; 7], Some([1.0, -0.5])),
    ] {
        assert!(matches!(refused(change), InvalidAdapter::OutOfRange { .. }));
    }
    assert!(matches!(
        refused(|profile| profile.mean[0] = f32::NAN),
        InvalidAdapter::NotFinite {
            section: SectionKind::ProfileMean,
            ..
        }
    ));
    assert_eq!(
        refused(|profile| profile.mean.clear()),
        InvalidAdapter::Empty {
            what: "dimensions of the profile"
        }
    );
    // More dimensions than the backbone has features.
    assert!(matches!(
        refused(|profile| {
            profile.mean = vec![0.0; 19];
            profile.diagonal = vec![1.0; 19];
            profile.factor = vec![0.0; 19 * 9];
        }),
        InvalidAdapter::TooLarge { cap: 18, got: 19, .. }
    ));
}

fn taught(profile: &Profile, class: u32, variance: f32, shift: f32) -> Vec<TaughtPoints> {
    let mean = profile.mean.clone();
    vec![TaughtPoints {
        class,
        variance,
        shift,
        mean,
    }]
}

fn distances(typical: f32, limit: f32) -> OwnScores {
    OwnScores::Distances { typical, limit }
}

fn ratios(quantiles: [f32; 7], head: Option<[f32; 2]>) -> OwnScores {
    OwnScores::Ratios(Ratios {
        background: BackgroundId([7; 8]),
        quantiles,
        head: head.map(|[median, weight]| HeadEnergy { median, weight }),
    })
}
