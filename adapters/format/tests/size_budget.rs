//! The bytes of an EfficientNet-Lite0 adapter.

use clr_adapters::{Encoding, decode, encode};

use crate::sample;

#[test]
fn a_lite0_adapter_with_ten_classes_has_the_documented_numbers_and_fits_140_kilobytes() {
    let adapter = sample::lite0();
    assert_eq!(adapter.parameters(), 80_928 + 8_992 + 2 * 12_016 + 12_810);
    let file = encode(&adapter, Encoding::Int8).unwrap();
    for section in decode(&file).unwrap().sections {
        println!("{section:?}");
    }
    println!("{} {}", file.len(), decode(&file).unwrap().header_bytes);
    assert!(file.len() <= 140_000, "{} bytes", file.len());
}
