//! Size budget of an EfficientNet-Lite0 adapter.

use clr_adapters::{Encoding, encode};

use crate::sample;

#[test]
#[cfg_attr(miri, ignore = "the size of the large adapter, which takes an interpreter minutes")]
fn a_lite0_adapter_with_ten_classes_fits_147_kilobytes() {
    let adapter = sample::lite0();
    assert_eq!(adapter.parameters(), 80_928 + 8_992 + 2 * 12_016 + 12_810);
    let file = encode(&adapter, Encoding::Int8).unwrap();
    assert!(file.len() <= 147_000, "{} bytes", file.len());
}

#[test]
fn the_same_adapter_always_gives_the_same_bytes() {
    let one = sample::large();
    // Miri adds random errors to the sample's exponentials, so it compares the same adapter twice.
    let two = if cfg!(miri) { one.clone() } else { sample::large() };
    for encoding in Encoding::ALL {
        assert_eq!(encode(&one, encoding).unwrap(), encode(&two, encoding).unwrap());
    }
}
