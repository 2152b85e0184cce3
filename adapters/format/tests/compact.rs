//! Files of format version 3.

use clr_adapters::{Adapter, DecodeError, EncodeError, Encoding, SiteWeights, StepSize, decode, encode};

use crate::sample::{Random, compact, large, linear, small};

fn adapters() -> [Adapter; 3] {
    [small(), linear(), large()].map(|adapter| compact(&adapter))
}

#[test]
fn values_on_their_steps_survive_a_round_trip_bit_for_bit() {
    for adapter in adapters() {
        let file = encode(&adapter, Encoding::Compact).unwrap();
        let decoded = decode(&file).unwrap();
        assert_eq!((decoded.format_version, decoded.encoding), (3, Encoding::Compact));
        assert_eq!(decoded.adapter, adapter);
        assert_eq!(encode(&decoded.adapter, Encoding::Compact).unwrap(), file);
    }
}

#[test]
fn adapters_without_steps_stay_exact() {
    for mut adapter in [small(), linear()] {
        let file = encode(&adapter, Encoding::Compact).unwrap();
        adapter.sites.iter_mut().for_each(|site| site.name = None);
        assert_eq!(decode(&file).unwrap().adapter, adapter);
    }
}

#[test]
fn sections_cover_the_payload_and_name_their_bytes() {
    let file = encode(&compact(&large()), Encoding::Compact).unwrap();
    let decoded = decode(&file).unwrap();
    let mut next = 20 + decoded.header_bytes;
    for section in &decoded.sections {
        assert_eq!((section.offset, section.crc), (next, None));
        next += section.bytes;
    }
    assert_eq!(next + 8, file.len());
}

#[test]
fn sites_and_channels_without_a_difference_cost_no_bytes() {
    let adapter = compact(&large());
    let mut partly = adapter.clone();
    let half = partly.sites.len() / 2;
    for site in &mut partly.sites[..half] {
        match &mut site.weights {
            SiteWeights::Kernel(values) | SiteWeights::Scale(values) => values.fill(0.0),
        }
        site.bias.fill(0.0);
    }
    let bytes = |adapter: &Adapter| encode(adapter, Encoding::Compact).unwrap().len();
    let values: usize = adapter.sites[..half]
        .iter()
        .map(|site| site.weights.values().len())
        .sum();
    let zero = {
        let mut zero = adapter.clone();
        zero.sites.drain(..half);
        bytes(&zero)
    };
    // Header rows stay: channels, kind and steps.
    assert!(
        bytes(&partly) < zero + 12 * half,
        "{} {zero} of {values} values",
        bytes(&partly)
    );
}

#[test]
fn differences_have_no_place_in_version_2() {
    let mut adapter = compact(&small());
    for encoding in [Encoding::F32, Encoding::F16, Encoding::Int8] {
        adapter.header.class_features = None;
        assert_eq!(encode(&adapter, encoding), Err(EncodeError::Relative { site: 0 }));
        adapter.header.class_features = compact(&small()).header.class_features;
        assert_eq!(encode(&adapter, encoding), Err(EncodeError::ClassFeatures));
    }
}

#[test]
fn a_value_beyond_its_step_is_refused() {
    let mut adapter = compact(&small());
    adapter.header.steps.as_mut().unwrap().head = StepSize(i8::MIN);
    let refused = encode(&adapter, Encoding::Compact).unwrap_err();
    assert!(matches!(refused, EncodeError::Step { .. }), "{refused}");
}

#[test]
fn other_bytes_for_the_same_values_are_refused() {
    let file = encode(&compact(&small()), Encoding::Compact).unwrap();
    let header = u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize;
    let (mut refused, mut other) = (0, 0);
    for at in 20 + header..file.len() - 8 {
        for bit in 0..8 {
            let mut changed = file.clone();
            changed[at] ^= 1 << bit;
            let end = changed.len() - 4;
            let crc = crc32fast::hash(&changed[..end]).to_le_bytes();
            changed[end..].copy_from_slice(&crc);
            match decode(&changed) {
                Ok(decoded) => {
                    other += 1;
                    assert_eq!(encode(&decoded.adapter, Encoding::Compact).unwrap(), changed);
                }
                Err(DecodeError::PayloadForm | DecodeError::PayloadRest { .. } | DecodeError::SectionData { .. }) => {
                    refused += 1;
                }
                Err(other) => panic!("{at}: {other}"),
            }
        }
    }
    assert!(refused > 100, "{refused} refused, {other} are other adapters");
}

#[test]
fn random_steps_give_the_bytes_of_the_values_on_them() {
    let mut random = Random(11);
    for _ in 0..20 {
        let mut adapter = compact(&small());
        let step = StepSize((random.next() % 60) as i8 - 30);
        adapter.header.steps.as_mut().unwrap().head = step;
        adapter.head.weight = random
            .normals(3 * 18, 20.0)
            .iter()
            .map(|&value| step.nearest(value))
            .collect();
        let back = decode(&encode(&adapter, Encoding::Compact).unwrap()).unwrap().adapter;
        assert_eq!(back, adapter);
    }
}
