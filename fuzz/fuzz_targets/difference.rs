//! Fuzz target of deltas between files: `clr_adapters::delta`.
//!
//! The bytes are applied as a delta unchanged, and with a repaired prefix (magic, version, the base's digest). In
//! addition, a delta between the two halves of the bytes is computed and applied.
#![no_main]

use clr_adapters::{
    Digest,
    delta::{apply, diff},
};
use libfuzzer_sys::fuzz_target;

/// A base for each layout: files of any kind, and adapters of format version 3.
const BASES: [&[u8]; 2] = [
    include_bytes!("../../adapters/format/tests/golden/v2-int8.clr"),
    include_bytes!("../../adapters/format/tests/golden/v3-compact.clr"),
];
const CAP: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    for (layout, base) in (1_u8..).zip(BASES) {
        let _ = apply(base, data, CAP);
        if data.len() >= 4 {
            let mut repaired = b"CLRD".to_vec();
            repaired.push(layout);
            repaired.extend(Digest::of(base).0);
            repaired.extend([0; 32]);
            repaired.extend([data[0], data[1], data[2] & 0x0f, 0]);
            repaired.extend(&data[3..]);
            assert!(apply(base, &repaired, CAP).is_err(), "a file with an all-zero digest was produced");
        }
    }
    let (one, two) = data.split_at(data.len() / 2);
    for (base, target) in [(one, two), (BASES[0], data), (BASES[1], data)] {
        if let Some(delta) = diff(base, target) {
            assert!(delta.len() < target.len());
            assert_eq!(apply(base, &delta, target.len()).as_deref(), Ok(target));
        }
    }
});
