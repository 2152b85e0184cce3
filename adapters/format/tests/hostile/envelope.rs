//! Damage anywhere in a file: truncation, flipped bits, trailing data, garbage, and faults of the envelope.

use clr_adapters::{DecodeError, Encoding, HeaderFault, decode, encode};
use proptest::prelude::*;

use super::{BIT_STEP, PREFIX, STEP, file, parts, reseal, seal_as};
use crate::allocation;

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
