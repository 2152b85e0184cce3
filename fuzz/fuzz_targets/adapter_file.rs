//! Fuzz target of the adapter file: `clr_adapters::decode`.
//!
//! Checksums would reject almost every mutation, so the bytes are decoded unchanged and a second time with magic,
//! version and checksums repaired.
#![no_main]

use clr_adapters::{Adapter, Encoding, Header, decode, encode};
use libfuzzer_sys::fuzz_target;

const PREFIX: &[u8; 12] = b"\x89CLR\r\n\x1a\n\x01\0\0\0";
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

/// Returns the bytes with every locatable checksum repaired. The payload is everything after the header.
fn repair(data: &[u8]) -> Option<Vec<u8>> {
    let mut file = data.to_vec();
    file.get_mut(..PREFIX.len())?.copy_from_slice(PREFIX);
    let rest = file.len().checked_sub(HEADER + 8)?;
    let header = u32_at(&file, 12)? % (rest + 1);
    let payload = rest - header;
    file[12..16].copy_from_slice(&u32::try_from(header).ok()?.to_le_bytes());
    file[16..20].copy_from_slice(&u32::try_from(payload).ok()?.to_le_bytes());
    let end = HEADER + header + payload;
    let mut section = HEADER + header;
    while let Some(bytes) = u32_at(&file[..end], section + 8) {
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

/// Returns the number of values in the profile, which do not count as parameters.
fn profile(adapter: &Adapter) -> usize {
    let profile = adapter.header.profile.as_ref();
    profile.map_or(0, |profile| {
        profile.mean.len() + profile.diagonal.len() + profile.factor.len()
    })
}

fn check(file: &[u8]) {
    let Ok(decoded) = decode(file) else { return };
    let adapter = &decoded.adapter;
    assert_eq!(adapter.validate(), Ok(()));
    assert_eq!(
        decoded.sections.iter().map(|section| section.elements).sum::<usize>(),
        adapter.parameters() + profile(adapter)
    );
    for encoding in Encoding::ALL {
        let again = encode(adapter, encoding).expect("a decoded adapter can be encoded");
        let back = decode(&again).expect("an encoded adapter can be decoded").adapter;
        if encoding == Encoding::F32 {
            assert_eq!(&back, adapter);
        } else {
            // In the header, only the profile is quantised.
            assert_eq!(profile(&back), profile(adapter));
            let header = Header {
                profile: adapter.header.profile.clone(),
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
    if let Some(file) = repair(data) {
        check(&file);
    }
});
