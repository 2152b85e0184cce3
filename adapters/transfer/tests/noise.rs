//! Bit errors on the line: no wrong byte is accepted, and the transfer completes.

use clr_transfer::Kind;

use crate::{
    door::Spoken,
    line::{Faults, Random, with_client_that},
    memory_device::MemoryDevice,
};

/// Pushes `bytes` bytes over a line with one error in 10,000 bits. Returns a summary of the cost.
fn push_over_noise(speaks: Spoken, bytes: usize, seed: u64) -> String {
    let file = Random(seed).bytes(bytes);
    let device = MemoryDevice::default();
    let faults = |connection| Faults {
        noise: Some((1e-4, Random(seed ^ 0xface ^ u64::from(connection)))),
        ..Faults::default()
    };
    let (pushed, passed, flips) = with_client_that(speaks, &device, 4096, faults, |client| {
        client.push(&file, Kind::Adapter).unwrap()
    });
    let kept = device.0.lock().unwrap();
    assert_eq!(kept.files.len(), 1, "a wrong file was accepted");
    assert_eq!(kept.files[&pushed.digest], file);
    format!(
        "{bytes} bytes: {passed} over the line ({:.2} times as many), {flips} bits flipped, {} chunks, {} bytes sent twice, {} connections",
        passed as f64 / bytes as f64,
        pushed.chunks,
        pushed.repeated,
        pushed.connections
    )
}

#[test]
fn a_megabyte_survives_a_line_with_one_error_in_10_000_bits() {
    // A megabyte takes an interpreter hours.
    for speaks in Spoken::ALL {
        println!(
            "{speaks:?}: {}",
            push_over_noise(speaks, if cfg!(miri) { 3_000 } else { 1 << 20 }, 1)
        );
    }
}

/// `cargo test --release -p clr-transfer --test main ten_megabytes -- --ignored --nocapture`
#[test]
#[ignore = "takes a while"]
fn ten_megabytes_survive_a_line_with_one_error_in_10_000_bits() {
    for speaks in Spoken::ALL {
        println!("{speaks:?}: {}", push_over_noise(speaks, 10_000_000, 2));
    }
}

#[test]
fn a_pull_survives_noise() {
    let file = Random(9).bytes(if cfg!(miri) { 3_000 } else { 200_000 });
    for speaks in Spoken::ALL {
        let device = MemoryDevice::with_task("birds", &file);
        let faults = |connection| Faults {
            noise: Some((1e-4, Random(77 + u64::from(connection)))),
            ..Faults::default()
        };
        let (pulled, ..) = with_client_that(speaks, &device, 4096, faults, |client| client.pull("birds").unwrap());
        assert_eq!(pulled.bytes, file);
    }
}

#[test]
fn every_single_flipped_bit_of_a_transfer_is_survived() {
    for speaks in Spoken::ALL {
        every_single_flipped_bit(speaks);
    }
}

fn every_single_flipped_bit(speaks: Spoken) {
    let file = Random(5).bytes(150);
    let push = |device: &MemoryDevice, faults: &dyn Fn(u32) -> Faults| {
        with_client_that(speaks, device, 64, faults, |client| {
            client.push(&file, Kind::Adapter).unwrap()
        })
    };
    let whole = push(&MemoryDevice::default(), &|_| Faults::default()).1;
    // Handshakes take more time than chunks, so encrypted sessions test one bit in eleven. Miri tests fewer.
    let step = match speaks {
        _ if cfg!(miri) => 2003,
        Spoken::Plain => 1,
        _ => 11,
    };
    for flip in (0..8 * whole).step_by(step) {
        let device = MemoryDevice::default();
        let (pushed, _, flips) = push(&device, &|connection| Faults {
            flip: (connection == 0).then_some(flip),
            ..Faults::default()
        });
        assert_eq!(flips, 1);
        assert!(device.holds(&file), "{speaks:?}: bit {flip}");
        // A flip that turns a byte into a zero splits a frame into two damaged ones, and each is requested again.
        assert!(pushed.repeated <= 2 * 64, "{speaks:?}: bit {flip}: {pushed:?}");
        let kept = device.0.lock().unwrap();
        assert_eq!((kept.files.len(), kept.commits), (1, 1), "{speaks:?}: bit {flip}");
    }
}
