//! Fuzz target of the background's file: `clr_adapters::Background::decode`.
//!
//! The checksum would reject almost every mutation, so the bytes are decoded unchanged, and with magic, version and
//! checksum repaired.
#![no_main]

use clr_adapters::Background;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let repaired = [b"\x89CLB\r\n\x1a\n\x01\x00", data].concat();
    let crc = crc32fast::hash(&repaired).to_le_bytes();
    let repaired = [&repaired[..], &crc].concat();
    for bytes in [data, &repaired] {
        if let Ok(background) = Background::decode(bytes) {
            assert_eq!(background.encode(), bytes, "a file has one form");
            let statistics = vec![1.0; background.statistics()];
            let coordinates = background.coordinates(&statistics);
            assert_eq!(coordinates.len(), background.dimensions());
            let _ = background.log_density(&coordinates);
        }
    }
});
