//! Properties of the integer codes, and the derivation of their constants.

use alloc::{vec, vec::Vec};

use super::{
    CodeFault,
    bits::{Fields, pack, packed_bytes},
    decode_run, encode_run, run_bytes,
    steps::{HIGHEST, LOWEST, exponent, step},
};
use crate::SectionEncoding;

const INTEGER: [SectionEncoding; 4] = [
    SectionEncoding::Kernel,
    SectionEncoding::Linear8,
    SectionEncoding::Linear10,
    SectionEncoding::Square10,
];

#[test]
fn steps_are_a_quarter_of_an_octave_apart() {
    for e in LOWEST..HIGHEST {
        let ratio = step(e + 1) / step(e);
        assert!((ratio - 1.189_207).abs() < 3e-6, "{e}: {ratio}");
    }
    assert_eq!((step(0), step(-8), step(12)), (1.0, 0.25, 8.0));
}

#[test]
fn the_exponent_is_the_smallest_that_reaches() {
    for reach in [31.517, 127.2, 511.3, 2047.5, 261_576.0] {
        assert_eq!(exponent(0.0, reach), None);
        for value in [1e-30, 0.001, 0.999, 1.0, 7.3, 1e20] {
            let e = exponent(value, reach).unwrap();
            assert!(
                value < reach * step(e) && value >= reach * step(e - 1),
                "{value} {reach} {e}"
            );
        }
        assert_eq!(exponent(1e-45, reach), Some(LOWEST));
        assert!(exponent(f64::from(f32::MAX), reach).unwrap() <= HIGHEST);
    }
}

/// Derivation of the reaches: the largest value of a group with step `s` is in `[reach / ratio, reach) · s`. Rounded to
/// a code, it must remain in this range; otherwise encoding the decoded values would choose another step.
#[test]
fn rounding_the_largest_value_never_moves_it_to_another_step() {
    let ratios = (0..4).map(|e| step(e + 1) / step(e));
    for ratio in ratios {
        for (reach, largest) in [(31.517, 31.0), (127.2, 127.0), (511.3, 511.0), (2047.5, 2047.0)] {
            let lowest: f64 = reach / ratio;
            let rounded = f64::from((lowest + 0.5) as u32);
            assert!(rounded > lowest + 0.02 && largest < reach, "{reach} {ratio}: {lowest}");
        }
        let lowest = 261_576.0 / ratio;
        let below = (lowest as u64).isqrt();
        let up = lowest - (below * below) as f64 > below as f64 + 0.5;
        let rounded = below + u64::from(up);
        assert!((rounded * rounded) as f64 > lowest + 1.0 && 511.0 * 511.0 < 261_576.0);
    }
}

#[test]
fn packed_fields_survive_a_round_trip_and_padding_must_be_zero() {
    for width in [6, 8, 10, 12] {
        let values: Vec<u32> = (0..13).map(|i| (i * 77 + 5) % (1 << width)).collect();
        let mut bytes = Vec::new();
        pack(width, values.iter().copied(), &mut bytes);
        assert_eq!(bytes.len() as u64, packed_bytes(width, 13));
        let mut rest = bytes.as_slice();
        let mut fields = Fields::take(width, 13, &mut rest);
        assert!(values.iter().all(|&value| fields.next() == value) && rest.is_empty());
        assert_eq!(fields.finish(), Ok(()));
        if width != 8 {
            *bytes.last_mut().unwrap() |= 0x80;
            let mut fields = Fields::take(width, 13, &mut bytes.as_slice());
            for _ in &values {
                fields.next();
            }
            assert_eq!(fields.finish(), Err(CodeFault::Padding));
        }
    }
}

#[test]
fn a_run_of_zeros_decodes_to_zeros() {
    for encoding in INTEGER {
        let zeros = vec![0.0; 45];
        let (mut bytes, mut back) = (Vec::new(), Vec::new());
        encode_run(encoding, &zeros, &mut bytes);
        assert_eq!(bytes.len() as u64, run_bytes(encoding, 45));
        decode_run(encoding, &bytes, 45, &mut back).unwrap();
        assert_eq!(back, zeros);
    }
}

#[test]
fn large_values_in_one_group_do_not_reduce_the_precision_of_another() {
    let mut values = vec![1000.0; 32];
    values.extend(vec![0.1; 32]);
    for encoding in [
        SectionEncoding::Linear8,
        SectionEncoding::Linear10,
        SectionEncoding::Square10,
    ] {
        let (mut bytes, mut back) = (Vec::new(), Vec::new());
        encode_run(encoding, &values, &mut bytes);
        decode_run(encoding, &bytes, 64, &mut back).unwrap();
        assert!(
            values.iter().zip(&back).all(|(a, b)| (a - b).abs() <= 0.01 * a),
            "{encoding}"
        );
    }
}

#[test]
fn codes_that_no_encoder_writes_are_refused() {
    for (encoding, elements) in INTEGER.into_iter().zip([9, 1, 1, 1]) {
        let mut bytes = vec![0; run_bytes(encoding, elements) as usize];
        let decode = |bytes: &[u8]| decode_run(encoding, bytes, elements as usize, &mut Vec::new());
        bytes[..2].copy_from_slice(&512_i16.to_le_bytes());
        assert_eq!(decode(&bytes), Err(CodeFault::Exponent(512)));
        bytes.fill(0xff);
        bytes[..2].copy_from_slice(&0_i16.to_le_bytes());
        assert!(matches!(decode(&bytes), Err(CodeFault::Code(_))), "{encoding}");
    }
    let nan = f32::NAN.to_le_bytes();
    assert_eq!(
        decode_run(SectionEncoding::F32, &nan, 1, &mut Vec::new()),
        Err(CodeFault::NotFinite)
    );
}
