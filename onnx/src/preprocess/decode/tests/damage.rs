//! Truncated files and files with missing bytes are reported as damaged.

use super::*;

#[track_caller]
fn expect_damage(name: &str, bytes: &[u8], what: &str) {
    for inputs in [&[][..], &[&input(8)]] {
        match decode_within(DecodeLimits::HOST, bytes, inputs) {
            Err(ImageError::Damaged { .. } | ImageError::UnknownFormat { .. }) => {}
            other => panic!("{name}, {what}: {:?}", other.map(|image| image.dimensions())),
        }
    }
}

#[test]
fn a_file_truncated_anywhere_is_damaged() {
    for (name, bytes) in sound() {
        // At the end, a file has a marker or a checksum that no pixel depends on.
        let tail = match name.as_str() {
            "Png" => 28,
            "Gif" => 6,
            "Bmp" | "WebP" | "lossy WebP" | "Pnm" => 1,
            _ => 4,
        };
        for hundredth in 1..100 {
            let cut = (bytes.len() - tail) * hundredth / 100;
            expect_damage(&name, &bytes[..cut], &format!("{cut} of {} bytes", bytes.len()));
        }
        expect_damage(&name, &bytes[..bytes.len() - tail], "cut at its end");
    }
}

#[test]
fn a_missing_end_marker_and_trailing_data_are_not_damage() {
    for (name, bytes) in JPEGS {
        let whole = decode_image_bytes(bytes, name).unwrap();
        let without_end = &bytes[..bytes.len() - 2];
        let padded = [without_end, &[0; 600]].concat();
        let followed = [bytes, &[0; 600], bytes].concat();
        let next = [without_end, bytes].concat();
        for (what, file) in [
            ("no end", without_end.to_vec()),
            ("padded", padded),
            ("followed", followed),
            ("next", next),
        ] {
            let got = decode_image_bytes(&file, name).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(got, whole, "{name}, {what}");
        }
    }
}

#[test]
fn the_error_of_a_truncated_jpeg_states_the_row() {
    let (_, bytes) = JPEGS[0];
    let error = decode_image_bytes(&bytes[..bytes.len() * 6 / 10], "photo.jpg")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("photo.jpg: damaged: ") && error.contains(" of 157"),
        "{error}"
    );
}

#[test]
fn sectors_of_zeros_to_the_end_are_damage() {
    for (name, bytes) in JPEGS {
        for tenth in 3..10 {
            let kept = bytes.len() * tenth / 10;
            let mut lost = bytes[..kept].to_vec();
            lost.resize(bytes.len(), 0);
            expect_damage(name, &lost, &format!("zeros from {kept} of {}", bytes.len()));
        }
    }
}

#[test]
fn a_sector_of_zeros_within_baseline_data_is_damage() {
    let bytes = jpeg(&scene(640, 480));
    for at in (2048..bytes.len() - 600).step_by(512) {
        let mut lost = bytes.clone();
        lost[at..at + 512].fill(0);
        expect_damage("baseline", &lost, &format!("zeros at {at} of {}", bytes.len()));
    }
}

#[test]
fn most_sectors_of_zeros_within_progressive_data_are_damage() {
    // Refinement bits are never invalid codes, so not every damage can be detected.
    let mut found = 0;
    let mut all = 0;
    for (_, bytes) in JPEGS.iter().filter(|(name, _)| name.starts_with("progressive")) {
        for at in (700..bytes.len() - 300).step_by(97) {
            let mut lost = bytes.to_vec();
            lost[at..at + 256].fill(0);
            all += 1;
            found += usize::from(decode_image_bytes(&lost, "file").is_err());
        }
    }
    assert!(found * 10 >= all * 9, "{found} of {all}");
}

#[test]
fn restart_markers_out_of_order_or_missing_are_damage() {
    for index in [8, 9] {
        let (name, bytes) = JPEGS[index];
        let markers: Vec<usize> = (0..bytes.len() - 1)
            .filter(|&at| bytes[at] == 0xff && (0xd0..=0xd7).contains(&bytes[at + 1]))
            .collect();
        assert!(markers.len() > 5, "{name}");
        let mut swapped = bytes.to_vec();
        swapped.swap(markers[2] + 1, markers[3] + 1);
        expect_damage(name, &swapped, "swapped");
        let without = [&bytes[..markers[3]], &bytes[markers[4]..]].concat();
        expect_damage(name, &without, "an interval is missing");
        let mut early = bytes.to_vec();
        early[markers[3] + 1] = 0xd9;
        expect_damage(name, &early, "an end marker too early");
    }
}

#[test]
fn changed_bytes_never_panic() {
    for (name, bytes) in sound() {
        let mut state = 1_u64;
        for _ in 0..150 {
            let mut changed = bytes.clone();
            for _ in 0..3 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let at = (state >> 33) as usize % changed.len();
                changed[at] = (state >> 20) as u8;
            }
            for inputs in [&[][..], &[&input(8)]] {
                if let Err(ImageError::Damaged { what, .. }) = decode_within(DecodeLimits::HOST, &changed, inputs) {
                    assert!(
                        what != PANICKED || !["baseline", "progressive"].iter().any(|kind| name.starts_with(kind)),
                        "{name}"
                    );
                }
            }
        }
    }
}
