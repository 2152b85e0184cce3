//! Memory of decoding: proportional to a valid file's values, and bounded by the caps for hostile files.

use clr_adapters::{Adapter, DecodeError, Encoding, Limits, decode, decode_with, encode};

use super::{STEP, file, parts, reseal, seal, seal_as};
use crate::{allocation, sample};

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

/// Bytes of the values in a decoded adapter.
fn value_bytes(adapter: &Adapter) -> usize {
    let profile = adapter.header.profile.as_ref();
    let known = adapter.header.class_features.as_ref();
    let profile = profile.map_or(0, |one| one.mean.len() + one.diagonal.len() + one.factor.len());
    let known = known.map_or(0, |one| one.mean.len() + one.deviations.len() + one.directions.len());
    4 * (adapter.parameters() + profile + known)
}

#[test]
#[cfg_attr(miri, ignore = "the large adapter, which takes an interpreter minutes")]
fn decoding_a_compact_file_takes_little_more_memory_than_its_values() {
    let adapter = sample::compact(&sample::large());
    let file = encode(&adapter, Encoding::Compact).unwrap();
    let mut decoded = None;
    let peak = allocation::peak(|| decoded = decode(&file).ok());
    let values = value_bytes(&decoded.unwrap().adapter);
    assert!(
        peak < values + values / 8 + 32_768,
        "{peak} bytes for {values} bytes of values"
    );
}

/// The largest number of values that a header can claim, all zero but the last: a payload of some hundred bytes.
fn many_zeros() -> Vec<u8> {
    let mut adapter = sample::compact(&sample::linear());
    (adapter.header.profile, adapter.header.class_features) = (None, None);
    let (classes, features) = (511, 32_768);
    adapter.header.labels = (0..classes).map(|class| format!("{class}")).collect();
    adapter.head.features = features;
    adapter.head.weight = vec![0.0; classes * features];
    *adapter.head.weight.last_mut().unwrap() = adapter.header.steps.unwrap().head.value(1);
    adapter.head.bias = vec![0.0; classes];
    encode(&adapter, Encoding::Compact).unwrap()
}

#[test]
#[cfg_attr(miri, ignore = "16 million values, which take an interpreter hours")]
fn a_small_compact_file_of_millions_of_zeros_takes_at_most_five_quarters_of_the_cap() {
    let file = many_zeros();
    assert!(file.len() < 16_384, "{}", file.len());
    let cap = 4 * Limits::DEFAULT.parameters;
    let mut is_valid = false;
    let peak = allocation::peak(|| is_valid = decode(&file).is_ok());
    assert!(
        is_valid && peak > cap / 2 && peak < cap + cap / 4 + (1 << 20),
        "{peak} bytes"
    );
}

#[test]
#[cfg(feature = "delta")]
#[cfg_attr(miri, ignore = "16 million values, which take an interpreter hours")]
fn a_delta_of_millions_of_zeros_takes_at_most_five_quarters_of_the_cap() {
    use clr_adapters::delta::{apply, diff};
    let (base, target) = (super::file(Encoding::Compact), many_zeros());
    let delta = diff(&base, &target).expect("smaller than the file");
    let cap = 4 * Limits::DEFAULT.parameters;
    let mut again = None;
    let peak = allocation::peak(|| again = apply(&base, &delta, target.len()).ok());
    assert_eq!(again, Some(target));
    assert!(peak < cap + cap / 4 + (1 << 20), "{peak} bytes");
}
