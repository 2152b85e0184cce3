//! Fuzz target of the adapter file: `clr_adapters::decode`.
//!
//! Checksums would reject almost every mutation, so the bytes are decoded unchanged, and with magic, version (1 and 3)
//! and checksums repaired.
#![no_main]

use clr_adapters::{Adapter, EncodeError, Encoding, Header, decode, encode};
use libfuzzer_sys::fuzz_target;

const MAGIC: &[u8; 8] = b"\x89CLR\r\n\x1a\n";
const HEADER: usize = 20;
const SECTION_HEAD: usize = 16;

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(field)).ok()
}

fn set_crc(bytes: &mut [u8], at: usize, crc: u32) {
    if let Some(field) = bytes.get_mut(at..at + 4) {
        field.copy_from_slice(&crc.to_le_bytes());
    }
}

/// Returns the bytes as a file of `version` with every locatable checksum repaired. The payload is everything after the
/// header.
fn repair(data: &[u8], version: u8) -> Option<Vec<u8>> {
    let mut file = data.to_vec();
    file.get_mut(..8)?.copy_from_slice(MAGIC);
    file.get_mut(8..12)?.copy_from_slice(&[version, 0, 0, 0]);
    let rest = file.len().checked_sub(HEADER + 8)?;
    let header = u32_at(&file, 12)? % (rest + 1);
    let payload = rest - header;
    file[12..16].copy_from_slice(&u32::try_from(header).ok()?.to_le_bytes());
    file[16..20].copy_from_slice(&u32::try_from(payload).ok()?.to_le_bytes());
    let end = HEADER + header + payload;
    let mut section = HEADER + header;
    while let Some(bytes) = u32_at(&file[..end], section + 8).filter(|_| version < 3) {
        let data = section + SECTION_HEAD;
        let Some(content) = data.checked_add(bytes).and_then(|stop| file[..end].get(data..stop)) else {
            break;
        };
        let crc = crc32fast::hash(content);
        set_crc(&mut file, section + 12, crc);
        section = data + bytes;
    }
    file[end..end + 4].fill(0);
    let crc = crc32fast::hash(&file[..end + 4]);
    set_crc(&mut file, end + 4, crc);
    Some(file)
}

/// Returns the number of values in the profile and the class features, which do not count as parameters.
fn known(adapter: &Adapter) -> usize {
    let profile = adapter.header.profile.as_ref();
    let profile = profile.map_or(0, |profile| {
        profile.mean.len() + profile.diagonal.len() + profile.factor.len()
    });
    let classes = adapter.header.class_features.as_ref();
    profile
        + classes.map_or(0, |known| {
            known.mean.len() + known.deviations.len() + known.directions.len()
        })
}

fn check(file: &[u8]) {
    let Ok(decoded) = decode(file) else { return };
    let adapter = &decoded.adapter;
    assert_eq!(adapter.validate(), Ok(()));
    assert_eq!(
        decoded.sections.iter().map(|section| section.elements).sum::<usize>(),
        adapter.parameters() + known(adapter)
    );
    for encoding in Encoding::ALL {
        let again = match encode(adapter, encoding) {
            // Version 2 has no place for what version 3 contains.
            Err(EncodeError::Relative { .. } | EncodeError::ClassFeatures)
                if decoded.format_version == 3 && encoding != Encoding::Compact =>
            {
                continue;
            }
            again => again.expect("a decoded adapter can be encoded"),
        };
        if decoded.format_version == 3 && encoding == Encoding::Compact && decoded.signature.is_none() {
            assert_eq!(again, file, "two files of version 3 for the same adapter");
        }
        let back = decode(&again).expect("an encoded adapter can be decoded").adapter;
        if encoding == Encoding::F32 || encoding == Encoding::Compact {
            // Version 3 has no names of sites, version 2 no steps and no seeds.
            let mut expected = adapter.clone();
            if encoding == Encoding::Compact {
                expected.sites.iter_mut().for_each(|site| site.name = None);
            } else {
                expected.header.steps = None;
                expected.header.canaries.iter_mut().for_each(|canary| canary.seed = None);
            }
            assert_eq!(back, expected);
        } else {
            // In the header, only the profile is quantised.
            assert_eq!(known(&back), known(adapter));
            let header = Header {
                profile: adapter.header.profile.clone(),
                steps: adapter.header.steps,
                canaries: adapter.header.canaries.clone(),
                ..back.header.clone()
            };
            assert_eq!(header, adapter.header);
            assert_eq!(
                encode(&back, encoding).as_deref(),
                Ok(again.as_slice()),
                "encoding again changed the bytes"
            );
        }
    }
}

fuzz_target!(|data: &[u8]| {
    check(data);
    for version in [1, 3] {
        if let Some(file) = repair(data, version) {
            check(&file);
        }
    }
});
