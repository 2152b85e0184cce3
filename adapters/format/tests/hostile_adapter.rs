//! Damaged and hostile files are refused with distinct errors: no panic, no allocation beyond a cap.

use std::sync::LazyLock;

use clr_adapters::{
    BackgroundId, CodeFault, DecodeError, EncodeError, Encoding, HeadEnergy, HeaderFault, InvalidAdapter, Limits,
    OwnScores, Profile, Ratios, SectionKind, TaughtPoints, decode, decode_with, encode,
};
use proptest::prelude::*;

use crate::{allocation, sample};

const PREFIX: usize = 20;
const LENGTHS: [usize; 2] = [12, 16];
/// Step between the tested positions in a file: larger under Miri.
const STEP: usize = if cfg!(miri) { 211 } else { 1 };
/// Step between the tested bits: about one bit per tested byte, at changing bit positions.
const BIT_STEP: usize = 8 * STEP - 7;

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Recomputes the file's checksum.
fn reseal(mut file: Vec<u8>) -> Vec<u8> {
    let end = file.len() - 4;
    let crc = crc32fast::hash(&file[..end]).to_le_bytes();
    file[end..].copy_from_slice(&crc);
    file
}

/// Returns a sealed file with an arbitrary header and payload.
fn seal(header: &[u8], payload: &[u8]) -> Vec<u8> {
    seal_as(2, header, payload)
}

/// Returns a file of a format version with this header and payload.
fn seal_as(version: u8, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut file = b"\x89CLR\r\n\x1a\n".to_vec();
    file.extend([version, 0, 0, 0]);
    file.extend((header.len() as u32).to_le_bytes());
    file.extend((payload.len() as u32).to_le_bytes());
    file.extend(header);
    file.extend(payload);
    file.extend([0; 8]);
    reseal(file)
}

fn parts(file: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (header, payload) = (u32_at(file, LENGTHS[0]), u32_at(file, LENGTHS[1]));
    (
        file[PREFIX..PREFIX + header].to_vec(),
        file[PREFIX + header..][..payload].to_vec(),
    )
}

/// Returns the small adapter, with steps for the encoding that has them.
fn sample_for(encoding: Encoding) -> clr_adapters::Adapter {
    if encoding == Encoding::Compact {
        sample::compact(&sample::small())
    } else {
        sample::small()
    }
}

/// The small adapter in every encoding, created once.
static FILES: LazyLock<[Vec<u8>; 4]> =
    LazyLock::new(|| Encoding::ALL.map(|encoding| encode(&sample_for(encoding), encoding).unwrap()));

fn file(encoding: Encoding) -> Vec<u8> {
    let index = Encoding::ALL.iter().position(|&one| one == encoding).unwrap();
    FILES[index].clone()
}

/// Changes a file's header and payload, seals it again, and returns the error of decoding it.
fn refused(encoding: Encoding, change: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) -> DecodeError {
    let (mut header, mut payload) = parts(&file(encoding));
    change(&mut header, &mut payload);
    decode(&seal(&header, &payload)).unwrap_err()
}

/// Recomputes the checksum of the section that starts at `at`.
fn reseal_section(payload: &mut [u8], at: usize) {
    let bytes = u32_at(payload, at + 8);
    let crc = crc32fast::hash(&payload[at + 16..][..bytes]).to_le_bytes();
    payload[at + 12..at + 16].copy_from_slice(&crc);
}

#[test]
fn every_truncation_is_refused() {
    for encoding in Encoding::ALL {
        let file = file(encoding);
        for length in (0..file.len()).step_by(STEP) {
            let error = decode(&file[..length]).unwrap_err();
            assert!(
                matches!(error, DecodeError::Truncated { got, .. } if got == length as u64),
                "{length}: {error}"
            );
        }
    }
}

#[test]
fn every_single_bit_flip_is_refused() {
    for encoding in Encoding::ALL {
        let mut file = file(encoding);
        for bit in (0..8 * file.len()).step_by(BIT_STEP) {
            file[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&file).is_err(), "{encoding}: bit {bit}");
            file[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(decode(&file).is_ok());
    }
}

#[test]
fn every_single_bit_flip_with_a_right_checksum_is_refused_or_another_valid_adapter() {
    for encoding in Encoding::ALL {
        let file = file(encoding);
        let mut accepted = 0;
        for bit in (0..8 * (file.len() - 4)).step_by(BIT_STEP) {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(decoded) = decode(&reseal(flipped)) {
                accepted += 1;
                assert_eq!(decoded.adapter.validate(), Ok(()));
                assert!(encode(&decoded.adapter, encoding).is_ok());
            }
        }
        // Changes in digests, pixels, seeds and letters remain valid adapters. Sections have checksums, so accepted
        // changes are all in the header.
        assert!(
            accepted > 500 / BIT_STEP && accepted < 8 * decode(&file).unwrap().header_bytes,
            "{accepted}"
        );
    }
}

#[test]
fn trailing_data_is_refused() {
    let mut file = file(Encoding::F16);
    let expected = file.len() as u64;
    for got in expected + 1..expected + 20 {
        file.push(0);
        assert_eq!(decode(&file), Err(DecodeError::TrailingBytes { expected, got }));
    }
}

#[test]
fn every_fault_of_the_envelope_has_its_error() {
    let with = |at: usize, byte: u8| {
        let mut file = file(Encoding::F32);
        file[at] = byte;
        decode(&reseal(file)).unwrap_err()
    };
    let (header, payload) = parts(&file(Encoding::F32));
    let trailer = PREFIX + header.len() + payload.len();
    assert_eq!(
        decode(b"GIF89a...................................."),
        Err(DecodeError::Magic)
    );
    assert_eq!(decode(b"\x89CLR\n\x1a\n"), Err(DecodeError::Magic));
    assert!(matches!(decode(b""), Err(DecodeError::Truncated { got: 0, .. })));
    assert_eq!(with(8, 4), DecodeError::Version { expected: 3, got: 4 });
    assert_eq!(with(8, 0), DecodeError::Version { expected: 3, got: 0 });
    assert_eq!(with(10, 1), DecodeError::Reserved { place: "prefix" });
    assert_eq!(with(trailer, 4), DecodeError::SignatureKind { kind: 4 });
    let without_statement = DecodeError::Release {
        field: "signature",
        fault: HeaderFault::Ends,
    };
    assert_eq!(with(trailer, 3), without_statement);
    assert_eq!(with(trailer, 1), DecodeError::SignatureLength { expected: 96, got: 0 });
    assert_eq!(with(trailer + 1, 1), DecodeError::Reserved { place: "trailer" });
    let mut long = file(Encoding::F32);
    long[trailer + 2] = 5;
    long.extend([0; 5]);
    assert_eq!(
        decode(&reseal(long)),
        Err(DecodeError::SignatureLength { expected: 0, got: 5 })
    );
    let mut damaged = file(Encoding::F32);
    damaged[trailer - 1] ^= 1;
    assert!(matches!(decode(&damaged), Err(DecodeError::FileChecksum { .. })));
}

#[test]
fn every_header_error_names_the_field() {
    let refused = |change: fn(&mut Vec<u8>)| refused(Encoding::F32, |header, _| change(header));
    let fault = |field, fault| DecodeError::Header { field, fault };
    // The small adapter's header starts with the task: a length of 6, then `v`, `ö` in two bytes, `gel`; then 3 labels.
    assert_eq!(refused(Vec::clear), fault("task", HeaderFault::Ends));
    assert_eq!(refused(|header| header[2] = 0xff), fault("task", HeaderFault::Utf8));
    assert_eq!(
        refused(|header| header.truncate(30)),
        fault("backbone", HeaderFault::Ends)
    );
    let huge = refused(|header| _ = header.splice(7..8, [0xff, 0xff, 0xff, 0xff, 0x0f]));
    assert_eq!(
        huge,
        DecodeError::TooLarge {
            what: "labels",
            cap: 32_768,
            got: 0xffff_ffff
        }
    );
    let overlong = refused(|header| _ = header.splice(7..8, [0xff; 12]));
    assert_eq!(overlong, fault("labels", HeaderFault::Number));
    let many = refused(|header| _ = header.splice(7..8, [0xff, 0x7f]));
    assert_eq!(many, fault("labels", HeaderFault::Ends));
    let padded = refused(|header| _ = header.splice(7..8, [0x83, 0x00]));
    assert_eq!(padded, DecodeError::HeaderForm { offset: 7 });
    assert_eq!(
        refused(|header| header.extend([0; 3])),
        DecodeError::HeaderRest { left: 3 }
    );
    let two = refused(|header| header[7] = 2);
    assert!(
        matches!(two, DecodeError::Header { .. } | DecodeError::TooLarge { .. }),
        "{two}"
    );
    let control = refused(|header| header[1] = 7);
    assert!(matches!(
        control,
        DecodeError::Invalid(InvalidAdapter::ControlCharacter { .. })
    ));
    // The recipe comes after the task (7 bytes), the labels (1 + 6 + 5 + 7) and the backbone (32).
    assert_eq!(refused(|header| header[58] = 9), fault("recipe", HeaderFault::Choice));
    // The site table is at the end of the header. Its third site is 6 bytes: "project" shares its prefix with
    // "block.0.depthwise".
    let shared = refused(|header| {
        let at = header.len() - 11;
        assert_eq!(header[at..at + 2], [8, 7]);
        header[at] = 18;
    });
    assert_eq!(shared, fault("site name", HeaderFault::Shared { got: 18, have: 17 }));
    let less = refused(|header| {
        let at = header.len() - 11;
        header.splice(at..at + 2, [7, 8, b'.']);
    });
    assert!(matches!(less, DecodeError::HeaderForm { .. }), "{less}");
    let kind = refused(|header| *header.last_mut().unwrap() = 2);
    assert_eq!(kind, fault("site kind", HeaderFault::Choice));
}

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

#[test]
fn a_profile_beyond_the_readers_cap_is_refused_before_it_is_read() {
    let tight = Limits {
        profile_dimensions: 4,
        ..Limits::DEFAULT
    };
    let expected = DecodeError::TooLarge {
        what: "dimensions of the profile",
        cap: 4,
        got: 5,
    };
    assert_eq!(decode_with(&file(Encoding::F32), &tight), Err(expected));
}

#[test]
fn huge_claims_cost_no_memory() {
    let (header, payload) = parts(&file(Encoding::F32));
    let claims = |bytes: &[u8]| {
        // Overwrites every position of the header and of the section heads with the largest numbers.
        let mut most = 0;
        for at in (0..bytes.len().min(header.len() + 200)).step_by(STEP) {
            for claim in [
                &[0xff, 0xff, 0xff, 0xff, 0x0f][..],
                &[0xff; 4],
                &[0xff, 0xff, 0x01],
                &[0xff, 0x7f],
            ] {
                let mut file = bytes.to_vec();
                let end = (at + claim.len()).min(file.len());
                file[at..end].copy_from_slice(&claim[..end - at]);
                let file = reseal(file);
                most = most.max(allocation::peak(|| drop(decode(&file))));
            }
        }
        most
    };
    let honest = allocation::peak(|| assert!(decode(&seal(&header, &payload)).is_ok()));
    let most = claims(&seal(&header, &payload));
    assert!(
        most <= 2 * honest + 4096,
        "{most} bytes for a hostile file, {honest} for the honest one"
    );
}

/// A 4-byte row of the site table can stand for a name of 256 bytes and thousands of channels; the caps bound the
/// memory.
#[test]
#[cfg_attr(miri, ignore = "a quarter of a megabyte takes an interpreter minutes")]
fn a_small_file_cannot_ask_for_more_than_the_caps() {
    let (mut header, _) = parts(&encode(&sample::linear(), Encoding::F32).unwrap());
    header.pop();
    let sites = 1_000_u16;
    header.extend([(sites & 0x7f) as u8 | 0x80, (sites >> 7) as u8]);
    header.extend([0, 0x80, 0x02]);
    header.extend([b'x'; 256]);
    header.extend([0x80, 0x80, 0x02, 1]);
    for row in 1..sites {
        header.extend([0xff, 0x01, 1, b'y' + (row % 2) as u8, 0x80, 0x80, 0x02, 1]);
    }
    let file = seal(&header, &[]);
    let mut error = None;
    let peak = allocation::peak(|| error = decode(&file).err());
    let claimed = 1_000 * 32_768 * 10 + 57;
    assert_eq!(
        error,
        Some(DecodeError::TooLarge {
            what: "parameters",
            cap: 16 << 20,
            got: claimed
        })
    );
    assert!(peak < 1 << 20, "{peak}");

    let tight = Limits {
        sites: 100,
        ..Limits::DEFAULT
    };
    let peak = allocation::peak(|| error = decode_with(&file, &tight).err());
    assert_eq!(
        error,
        Some(DecodeError::TooLarge {
            what: "sites",
            cap: 100,
            got: 1_000
        })
    );
    assert!(peak < 4096, "{peak}");
}

/// A short header can claim millions of values, and a payload of a few bytes does not contain them.
#[test]
fn a_compact_file_reserves_no_memory_for_values_that_it_does_not_contain() {
    let mut adapter = sample::compact(&sample::linear());
    adapter.header.profile = None;
    let (mut header, payload) = parts(&encode(&adapter, Encoding::Compact).unwrap());
    // The last fields are the features and the number of sites.
    assert_eq!(header.split_off(header.len() - 2), [18, 0]);
    header.extend([0x80, 0x80, 0x02, 0]);
    let file = seal_as(3, &header, &payload);
    let mut error = None;
    let peak = allocation::peak(|| error = decode(&file).err());
    assert!(matches!(error, Some(DecodeError::SectionData { .. })), "{error:?}");
    assert!(peak < 1 << 20, "{peak}");
}

/// Even without caps, the length of the file limits the reserved memory.
#[test]
fn without_caps_a_reader_neither_overflows_nor_reserves_more_than_the_file() {
    let most = usize::MAX;
    let lifted = Limits {
        file_bytes: most,
        header_bytes: most,
        task_bytes: most,
        label_bytes: most,
        classes: most,
        features: most,
        sites: most,
        site_name_bytes: most,
        channels: most,
        parameters: most,
        canaries: most,
        canary_side: most,
        input_side: most,
        profile_dimensions: most,
        class_directions: most,
        margins: most,
    };
    let file = file(Encoding::F32);
    assert!(decode_with(&file, &lifted).is_ok());
    for at in (0..file.len() - 8).step_by(STEP) {
        let mut hostile = file.clone();
        let end = (at + 5).min(file.len() - 8);
        hostile[at..end].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f][..end - at]);
        let hostile = reseal(hostile);
        let peak = allocation::peak(|| drop(decode_with(&hostile, &lifted)));
        assert!(peak < 1 << 20, "{at}: {peak}");
    }
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

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 2_000 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn sealed_garbage_is_refused(
        header in prop::collection::vec(any::<u8>(), 0..200),
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        for version in [2, 3] {
            prop_assert!(decode(&seal_as(version, &header, &payload)).is_err());
        }
    }

    #[test]
    fn a_sealed_file_with_some_bytes_changed_never_panics(
        encoding in prop::sample::select(Encoding::ALL.to_vec()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut file = file(encoding);
        let end = file.len() - 4;
        for (index, byte) in &changes {
            file[index.index(end)] = *byte;
        }
        let file = reseal(file);
        let mut decoded = None;
        let peak = allocation::peak(|| decoded = decode(&file).ok());
        prop_assert!(peak < 1 << 20);
        prop_assert!(decoded.is_none_or(|decoded| encode(&decoded.adapter, encoding).is_ok()));
    }
}
