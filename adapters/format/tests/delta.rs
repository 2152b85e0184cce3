//! Deltas reproduce the new file exactly, are small for small changes, and allocate little memory when forged.

use clr_adapters::{
    Adapter, Digest, Encoding, SecretKey, SignerClass, SiteWeights, decode,
    delta::{DeltaError, apply, diff},
    encode, sign,
};
use miniz_oxide::deflate::compress_to_vec;
use proptest::prelude::*;

use crate::{
    allocation::peak,
    sample::{Random, linear, lite0, small},
};

const CAP: usize = 1 << 20;
/// Step between the tested positions in a delta: larger under Miri, which takes seconds for each. `PAIR_STEP` is the
/// same for pairs of files.
const STEP: usize = if cfg!(miri) { 509 } else { 1 };
const PAIR_STEP: usize = if cfg!(miri) { 42 } else { 1 };
/// Divisor of the sizes of random and of equal files under Miri.
const SMALLER: usize = if cfg!(miri) { 100 } else { 1 };

fn both_ways(one: &[u8], two: &[u8]) {
    for (base, target) in [(one, two), (two, one), (one, one)] {
        if let Some(delta) = diff(base, target) {
            assert!(delta.len() < target.len());
            assert_eq!(apply(base, &delta, target.len()).as_deref(), Ok(target));
        }
    }
}

/// Returns `parent` as tuning on a device changes it: the head, and the sites from `first` on, change by normal steps.
fn tuned(parent: &Adapter, first: usize, share: f32) -> Adapter {
    let mut random = Random(5);
    let mut adapter = parent.clone();
    adapter.header.version += 1;
    for site in &mut adapter.sites[first..] {
        match &mut site.weights {
            SiteWeights::Kernel(values) | SiteWeights::Scale(values) => {
                for value in values {
                    *value += share * random.normal();
                }
            }
        }
        for bias in &mut site.bias {
            *bias += share * random.normal();
        }
    }
    for weight in &mut adapter.head.weight {
        *weight += 0.005 * random.normal();
    }
    adapter
}

fn share(base: &[u8], target: &[u8]) -> f64 {
    let delta = diff(base, target).expect("smaller than the file");
    assert_eq!(apply(base, &delta, CAP).as_deref(), Ok(target));
    delta.len() as f64 / target.len() as f64
}

#[test]
fn a_delta_between_any_two_adapters_reproduces_the_target() {
    let mut more = small();
    more.header.labels.insert(1, "Wren".into());
    more.head.weight.extend([0.25; 18]);
    more.head.bias.push(1.0);
    let mut files = Vec::new();
    for adapter in [small(), linear(), more, tuned(&small(), 1, 0.01)] {
        // Under Miri, only the smallest encoding is tested.
        for encoding in Encoding::ALL.into_iter().skip(if cfg!(miri) { 2 } else { 0 }) {
            files.push(encode(&adapter, encoding).unwrap());
        }
    }
    let key = SecretKey::from_bytes(&[3; 32]);
    files.push(sign(&files[0], SignerClass::Publisher, &key).unwrap());
    files.push(b"no adapter at all".to_vec());
    files.push(Vec::new());
    let pairs = files.iter().flat_map(|one| files.iter().map(move |two| (one, two)));
    // Under Miri, only the pair of the tuned adapter and its parent is tested.
    for (one, two) in pairs.skip(PAIR_STEP / 2).step_by(PAIR_STEP) {
        both_ways(one, two);
    }
}

#[test]
#[cfg_attr(
    miri,
    ignore = "a share of the large adapter, which takes an interpreter minutes; any pair of files runs the same code"
)]
fn what_did_not_change_costs_nothing() {
    let parent = lite0();
    let base = encode(&parent, Encoding::Int8).unwrap();
    let base_parent = decode(&base).unwrap().adapter;
    let mut header_only = base_parent.clone();
    header_only.header.version += 1;
    assert!(share(&base, &encode(&header_only, Encoding::Int8).unwrap()) < 0.002);
    let mut another_class = base_parent;
    another_class.header.labels.push("one more".into());
    another_class.head.weight.extend(Random(1).normals(1280, 0.05));
    another_class.head.bias.push(0.0);
    assert!(share(&base, &encode(&another_class, Encoding::Int8).unwrap()) < 0.015);
}

#[test]
#[cfg_attr(
    miri,
    ignore = "a share of the large adapter, which takes an interpreter minutes; any pair of files runs the same code"
)]
fn a_tuned_adapter_travels_in_half_its_bytes() {
    let parent = lite0();
    let base = encode(&parent, Encoding::Int8).unwrap();
    let parent = decode(&base).unwrap().adapter;
    let late = parent.sites.len() * 2 / 3;
    let head_only = share(
        &base,
        &encode(&tuned(&parent, parent.sites.len(), 0.0), Encoding::Int8).unwrap(),
    );
    assert!(head_only < 0.1, "{head_only}");
    let late_sites = share(&base, &encode(&tuned(&parent, late, 0.01), Encoding::Int8).unwrap());
    assert!(late_sites < 0.5, "{late_sites}");
}

#[test]
#[cfg_attr(
    miri,
    ignore = "a share of the large adapter, which takes an interpreter minutes; any pair of files runs the same code"
)]
fn a_key_and_a_signature_change_nothing_else() {
    let key = SecretKey::from_bytes(&[3; 32]);
    let base = sign(&encode(&lite0(), Encoding::Int8).unwrap(), SignerClass::Publisher, &key).unwrap();
    let other = SecretKey::from_bytes(&[4; 32]);
    let target = sign(
        &encode(&lite0(), Encoding::Int8).unwrap(),
        SignerClass::Publisher,
        &other,
    )
    .unwrap();
    assert!(share(&base, &target) < 0.003);
}

#[test]
fn a_file_that_has_nothing_in_common_travels_whole() {
    let (one, two) = (Random(1).next().to_le_bytes(), Random(2).next().to_le_bytes());
    assert_eq!(diff(&one.repeat(2), &two), None);
    let mut random = Random(9);
    let mut bytes = || (0..5000 / SMALLER).map(|_| random.next() as u8).collect::<Vec<u8>>();
    assert_eq!(diff(&bytes(), &bytes()), None);
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    let base = encode(&small(), Encoding::Int8).unwrap();
    let target = encode(&tuned(&decode(&base).unwrap().adapter, 1, 0.01), Encoding::Int8).unwrap();
    let delta = diff(&base, &target).unwrap();
    for length in (0..delta.len()).step_by(STEP) {
        assert!(apply(&base, &delta[..length], CAP).is_err(), "{length} bytes");
    }
    let mut refused = 0;
    for bit in (0..8 * delta.len()).step_by(STEP) {
        let mut flipped = delta.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match apply(&base, &flipped, CAP) {
            // A flipped padding bit in the last byte of a compressed stream changes nothing.
            Ok(file) => assert_eq!(file, target, "bit {bit}"),
            Err(_) => refused += 1,
        }
    }
    assert!(
        refused > 8 * delta.len() / STEP - 64 / STEP - 1,
        "{refused} of {}",
        8 * delta.len()
    );
    let mut longer = delta.clone();
    longer.push(0);
    assert_eq!(apply(&base, &longer, CAP), Err(DeltaError::TrailingBytes));
    assert!(matches!(apply(&target, &delta, CAP), Err(DeltaError::WrongBase { .. })));
    let got = target.len() as u64;
    let refused = apply(&base, &delta, target.len() - 1);
    assert!(
        matches!(refused, Err(DeltaError::TooLarge { got: size, .. }) if size == got),
        "{refused:?}"
    );
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Returns a delta with arbitrary streams.
fn forged(base: &[u8], length: u32, streams: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut out = b"CLRD\x01".to_vec();
    out.extend(Digest::of(base).0);
    out.extend([0; 32]);
    out.extend(length.to_le_bytes());
    for index in 0..2 {
        let (raw, packed) = streams.get(index).map_or((0, 0), |(raw, packed)| (*raw, packed.len()));
        varint(raw, &mut out);
        varint(packed as u64, &mut out);
    }
    out.extend(streams.iter().flat_map(|(_, packed)| packed));
    out
}

#[test]
fn a_forged_delta_makes_the_reader_allocate_no_more_than_a_mebibyte() {
    const BASE: u32 = (100_000 / SMALLER) as u32;
    const TARGET: u32 = 2 * BASE;
    // Under Miri the bomb is smaller, but still exceeds the maximum for the smaller file.
    const BOMB: usize = if cfg!(miri) { 16 << 10 } else { 64 << 20 };
    let base = vec![7; BASE as usize];
    let zeros = compress_to_vec(&vec![0; BOMB], 6);
    let mut copy = vec![0];
    varint(BASE.into(), &mut copy);
    let twice = [&copy[..], &[0]].concat();
    // Copies the complete base, then moves the cursor back to the start.
    let mut again = [&copy[..], &[1]].concat();
    varint(u64::from(TARGET) - 1, &mut again);
    let cases = [
        ("a file of 4 GiB", forged(&base, u32::MAX, &[])),
        (
            "a bomb that says how large it is",
            forged(&base, TARGET, &[(BOMB as u64, zeros.clone())]),
        ),
        (
            "a bomb that says it is small",
            forged(&base, TARGET, &[(u64::from(TARGET), zeros.clone())]),
        ),
        (
            "streams that say they are 4 GiB",
            forged(&base, TARGET, &[(u64::from(u32::MAX), vec![1; 10]), (5, vec![2; 5])]),
        ),
        (
            "a stream that is more than DEFLATE can hold",
            forged(&base, TARGET, &[(u64::from(TARGET + BASE), vec![1; 10])]),
        ),
        (
            "copies beyond the length",
            forged(&base, TARGET, &[(twice.len() as u64, twice)]),
        ),
        (
            "the base again and again",
            forged(&base, 5 * BASE, &[(100 * again.len() as u64, again.repeat(100))]),
        ),
        (
            "codes beyond the base",
            forged(&base, TARGET, &[(6, vec![3, 8, 0xff, 0xff, 0xff, 0x0f])]),
        ),
        ("codes of no width", forged(&base, TARGET, &[(3, vec![3, 0, 9])])),
    ];
    for (what, delta) in cases {
        let rise = peak(|| assert!(apply(&base, &delta, CAP).is_err(), "{what}"));
        assert!(rise <= 1 << 20, "{what}: {rise} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 200 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_delta_between_any_two_files_reproduces_the_target(base in prop::collection::vec(0_u8..4, 0..400), cut in 0_usize..400, middle in prop::collection::vec(any::<u8>(), 0..40), tail in 0_usize..400) {
        let mut target = base[..cut.min(base.len())].to_vec();
        target.extend(middle);
        target.extend(&base[tail.min(base.len())..]);
        both_ways(&base, &target);
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_produce_a_file(bytes in prop::collection::vec(any::<u8>(), 0..300), base in prop::collection::vec(any::<u8>(), 0..50)) {
        let mut delta = forged(&base, 100, &[]);
        delta.truncate(73);
        delta.extend(&bytes);
        prop_assert!(apply(&base, &delta, CAP).is_err());
        prop_assert!(apply(&base, &bytes, CAP).is_err());
    }
}
