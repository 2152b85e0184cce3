//! Fuzz target of checkpoints: `clr_onnx::import_bytes`.
//!
//! A changed byte usually breaks an archive's checksums or lengths. The bytes are therefore tried unchanged, as the
//! pickle of a `torch.save` archive, as a file of the older format, and as the header of a `.safetensors` file.
#![no_main]

#[path = "../../adapters/format/tests/allocation.rs"]
mod allocation;

use std::io::{Cursor, Write as _};

use clr_onnx::{Architecture, Backbone, ImportOptions, import_bytes};
use libfuzzer_sys::fuzz_target;
use zip::{ZipWriter, write::SimpleFileOptions};

/// Maximum bytes of memory per byte of the file, in addition to a fixed amount.
const PER_BYTE: usize = 1 << 10;
const BASE: usize = 64 << 20;
/// Bytes of every storage, and of a safetensors file after its header.
const STORAGE: usize = 1 << 10;

/// Reads the bytes, once with a recognised and once with a given architecture, and uses the result.
fn check(bytes: &[u8], origin: &str) {
    for architecture in [None, Architecture::from_name("resnet18")] {
        let options = ImportOptions::default().with_architecture(architecture);
        let mut read = None;
        let peak = allocation::peak(|| read = Some(import_bytes(bytes, origin, &options)));
        assert!(
            peak <= BASE + PER_BYTE * bytes.len(),
            "{peak} bytes for a file of {}",
            bytes.len()
        );
        match read.expect("it was read") {
            Ok(backbone) => {
                let again = Backbone::from_bytes(&backbone.to_bytes(), "again.onnx").expect("a written backbone can be read");
                assert_eq!(again.digest(), backbone.digest(), "writing and reading changed the network");
            }
            Err(error) => assert!(error.to_string().contains(origin), "{error}"),
        }
    }
}

/// Returns an archive in the format of `torch.save`, with four storages.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut entry = |name: &str, bytes: &[u8]| {
        zip.start_file(name, options).expect("writing to a buffer succeeds");
        zip.write_all(bytes).expect("writing to a buffer succeeds");
    };
    entry("archive/data.pkl", pickle);
    entry("archive/version", b"3\n");
    for storage in 0..4_u8 {
        entry(&format!("archive/data/{storage}"), &[storage; STORAGE]);
    }
    zip.finish().expect("writing to a buffer succeeds").into_inner()
}

/// The pickles before the state dict in the older format: magic number, protocol, and sizes of the machine's types.
const LEGACY: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00.";

fuzz_target!(|data: &[u8]| {
    check(data, "fuzzed.bin");
    check(&archive(data), "fuzzed.pth");
    check(&[LEGACY, data].concat(), "fuzzed.pt");
    let header = (data.len() as u64).to_le_bytes();
    check(&[&header, data, &[0; STORAGE]].concat(), "fuzzed.safetensors");
});
