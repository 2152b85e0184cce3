//! `clr device teach` with realistic files: large photographs, unsupported formats, damaged files.

use std::{net::TcpListener, path::Path};

use clr_transfer::{Digest, ExampleSummary, Link, ServeLimits, SystemClock, serve};
use image::RgbImage;
use serde_json::Value;

use crate::{fixtures::clr, push_and_pull::memory_device::MemoryDevice};

/// Runs `clr device teach` with an in-memory device. Returns the exit code, the document and stderr.
fn teach(device: &MemoryDevice, paths: &[&str], folder: &Path) -> (Option<i32>, Value, String) {
    let arguments = [&["teach", "--task", "birds", "--label", "robin"], paths].concat();
    on_device(device, &arguments, folder)
}

/// Runs `clr device` with an in-memory device.
fn on_device(device: &MemoryDevice, arguments: &[&str], folder: &Path) -> (Option<i32>, Value, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("tcp:{}", listener.local_addr().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut link = Link::tcp(listener.accept().unwrap().0).unwrap();
            serve(&mut link, device, &SystemClock::new(), &ServeLimits::default()).unwrap();
        });
        let output = clr()
            .args(["device", "--at", &place, "--json"])
            .args(arguments)
            .current_dir(folder)
            .output()
            .unwrap();
        let document = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), document, stderr)
    })
}

fn noise(width: u32, height: u32) -> RgbImage {
    let mut state = 3_u32;
    RgbImage::from_fn(width, height, |_, _| {
        image::Rgb([0; 3].map(|_: u8| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        }))
    })
}

#[test]
fn a_large_photograph_is_scaled_and_unreadable_files_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::create_dir(here.join("photos")).unwrap();
    noise(1_600, 1_200).save(here.join("photos/large.png")).unwrap();
    assert!(std::fs::metadata(here.join("photos/large.png")).unwrap().len() > 4 << 20);
    noise(64, 48).save(here.join("photos/small.png")).unwrap();
    std::fs::write(here.join("photos/broken.jpg"), b"not an image").unwrap();
    std::fs::write(here.join("photos/phone.HEIC"), b"\0\0\0\x18ftypheic\0\0\0\0").unwrap();
    std::fs::write(here.join("photos/notes.txt"), b"text").unwrap();
    let device = MemoryDevice::default();
    let (code, document, stderr) = teach(&device, &["photos"], here);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(
        (&document["added"], &document["scaled"]),
        (&2.into(), &1.into()),
        "{document}"
    );
    crate::promises::check_document("device-teach", &document);
    let left_out = document["left_out"].as_array().unwrap();
    assert_eq!(left_out.len(), 2, "{document}");
    assert!(
        left_out
            .iter()
            .any(|left| left["reason"].as_str().unwrap().contains("HEIC"))
    );
    assert!(
        stderr.contains("broken.jpg") && stderr.contains("phone.HEIC"),
        "{stderr}"
    );
    let kept = device.0.lock().unwrap();
    assert!(
        kept.files
            .values()
            .all(|file| file.len() <= 4 << 20 && image::load_from_memory(file).is_ok())
    );
    assert!(
        kept.files
            .values()
            .any(|file| *file == std::fs::read(here.join("photos/small.png")).unwrap())
    );
}

#[test]
fn no_readable_file_is_a_reported_failure() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("broken.jpg"), b"not an image").unwrap();
    let (code, _, stderr) = teach(&MemoryDevice::default(), &["broken.jpg"], folder.path());
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains("none of the 1 images") && stderr.contains("hint: "),
        "{stderr}"
    );
}

#[test]
fn a_removed_class_is_reported_with_its_images_and_a_refusal_with_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let device = MemoryDevice::default();
    device.0.lock().unwrap().examples.push(ExampleSummary {
        id: Digest([7; 32]),
        label: Some("robin".to_owned()),
        added: None,
        bytes: 3,
    });
    let remove = |label| on_device(&device, &["remove-class", "birds", label], folder.path());
    let (code, document, stderr) = remove("robin");
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(
        (&document["action"], &document["label"], &document["images"]),
        (&"remove-class".into(), &"robin".into(), &1.into()),
        "{document}"
    );
    let (code, _, stderr) = remove("robin");
    assert_eq!(code, Some(6), "{stderr}");
    assert!(stderr.contains("no class `robin`"), "{stderr}");
}
