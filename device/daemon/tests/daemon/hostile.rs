//! Attacks by a host: each has a distinct refusal, and the active task's results stay bit-identical.

use clr_adapters::{Encoding, SecretKey, SignerClass, encode, sign};
use clr_transfer::{ClientError, FailureCode};

use super::device::{Device, adapter, image, signed};

fn code(pushed: Result<impl Sized, ClientError>) -> FailureCode {
    match pushed.err() {
        Some(ClientError::Refused(failure)) => failure.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn every_attack_has_its_refusal_and_the_active_task_is_unchanged() {
    let mut device = Device::new("[limits]\nadapter_bytes = 200000\n");
    device.start();
    device.push(&signed(&adapter("birds", 5))).unwrap();
    device.host(|client| client.mark_good("birds")).unwrap();
    device.switch("birds");
    let before = device.ask(&image(1));
    for _ in 0..3 {
        // Warms up, because memory for a frame and a request is allocated only once.
        device.ask(&image(1));
        device.list();
    }
    let memory = device.memory_from_here();

    let plain = |version| encode(&adapter("birds", version), Encoding::Int8).unwrap();
    let by = |key: u8, class, file: &[u8]| sign(file, class, &SecretKey::from_bytes(&[key; 32])).unwrap();
    let mut other_backbone = adapter("birds", 6);
    other_backbone.header.backbone = clr_adapters::Digest([7; 32]);
    let mut expired = adapter("birds", 6);
    expired.header.expires = Some(1_700_000_000);
    let mut altered = signed(&adapter("birds", 6));
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    let reseal = |mut file: Vec<u8>| {
        let end = file.len() - 4;
        let crc = crc32fast::hash(&file[..end]).to_le_bytes();
        file[end..].copy_from_slice(&crc);
        file
    };
    let forged = reseal(altered.clone());
    let mut other_signature = by(1, SignerClass::Publisher, &plain(6));
    other_signature[middle] ^= 1;
    let whole = signed(&adapter("birds", 6));
    let cut = &whole[..whole.len() - 1];
    for (what, file, refusal) in [
        ("too large", vec![0; 300_000], 0),
        ("wrong length", cut.to_vec(), 2),
        ("malformed", altered, 4),
        ("unsigned", plain(6), 5),
        ("unknown key", by(9, SignerClass::Publisher, &plain(6)), 6),
        ("another device's", by(1, SignerClass::Device, &plain(6)), 6),
        ("bad signature", reseal(other_signature), 7),
        ("other content than signed", forged, 14),
        ("wrong backbone", signed(&other_backbone), 10),
        ("expired", signed(&expired), 11),
        ("downgrade", signed(&adapter("birds", 4)), 12),
    ] {
        let expected = if refusal == 0 {
            FailureCode::TOO_LARGE
        } else {
            FailureCode::refusal(refusal)
        };
        assert_eq!(code(device.push(&file)), expected, "{what}");
        assert_eq!(device.ask(&image(1))["top"], before["top"], "{what}");
    }
    let rise = device.peak_memory().saturating_sub(memory);
    println!("peak of memory while being attacked: {rise} bytes more");
    // Under an emulator, the emulator's memory counts as the process's.
    let emulated = std::env::var_os("CLR_TEST_RUNNER").is_some();
    assert!(emulated || rise <= 1 << 20, "{rise} bytes more");
    // The confirmed file is sent again, which is neither an attack nor a change.
    device.push(&signed(&adapter("birds", 5))).unwrap();
    device.push(&whole).unwrap();
    device.host(|client| client.mark_good("birds")).unwrap();
    assert_eq!(
        code(device.push(&signed(&adapter("birds", 5)))),
        FailureCode::refusal(13),
        "replay"
    );
}

#[test]
fn garbage_on_the_socket_is_harmless() {
    use std::{io::Write as _, os::unix::net::UnixStream};
    let mut device = Device::new("");
    device.start();
    device.push(&signed(&adapter("birds", 1))).unwrap();
    device.switch("birds");
    let before = device.ask(&image(1));
    for seed in 0..4u8 {
        let mut stream = UnixStream::connect(device.path("state/control.sock")).unwrap();
        let garbage: Vec<u8> = (0..100_000u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed)
            .collect();
        // The device may disconnect meanwhile.
        let _ = stream.write_all(&garbage);
    }
    assert_eq!(device.ask(&image(1))["top"], before["top"]);
    device.status();
}
