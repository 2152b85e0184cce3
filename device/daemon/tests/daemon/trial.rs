//! Trials of new adapters: confirmation, revert, and their persistence.

use std::time::{Duration, Instant};

use clr_adapters::{Canary, Trial};
use clr_transfer::TaskState;
use rustix::process::{Resource, Rlimit, prlimit};

use super::device::{Device, TIMEOUT, adapter, image, never_confident, signed};

fn settled(device: &Device) -> TaskState {
    device.list()[0].state
}

#[test]
fn a_trial_is_confirmed_after_its_own_number_of_frames() {
    let mut device = Device::with_birds("");
    let mut second = adapter("birds", 2);
    second.header.trial = Some(Trial {
        frames: 4,
        max_latency_ms: None,
        low_confidence: 0.0,
        max_low_confidence_fraction: 1.0,
    });
    device.push(&signed(&second)).unwrap();
    for left in (1..=4).rev() {
        assert_eq!(settled(&device), TaskState::OnTrial { frames_left: left });
        assert_eq!(device.ask(&image(left.into()))["trial"], true);
    }
    let started = Instant::now();
    while settled(&device) != TaskState::Confirmed {
        assert!(started.elapsed() < TIMEOUT);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(device.ask(&image(9))["trial"], false);
    // Only after this is the highest version 2.
    assert!(device.push(&signed(&adapter("birds", 2))).is_err());
}

#[test]
fn a_low_confidence_adapter_is_reverted_and_the_reason_is_kept() {
    let mut device = Device::with_birds("");
    let before = device.ask(&image(1));
    device.push(&signed(&never_confident("birds"))).unwrap();
    for seed in 0..3 {
        assert_eq!(device.ask(&image(seed))["version"], 2);
    }
    let after = device.ask(&image(1));
    assert_eq!((&after["version"], &after["top"]), (&1.into(), &before["top"]));
    let reverts = device.status().reverts;
    assert!(
        reverts[0].reason.contains("confidence") && reverts[0].version == 2,
        "{reverts:?}"
    );
    // The failed version was never confirmed, so the highest version is 1 again and a corrected version 2 is accepted.
    device.push(&signed(&adapter("birds", 2))).unwrap();
}

#[test]
fn an_adapter_that_fails_its_canaries_never_serves_a_frame() {
    let mut device = Device::with_birds("");
    let before = device.ask(&image(1));
    let refused = device.push(&signed(&with_wrong_canary(2))).unwrap_err().to_string();
    assert!(refused.contains("canary 0"), "{refused}");
    let after = device.ask(&image(1));
    assert_eq!((&after["version"], &after["top"]), (&1.into(), &before["top"]));
}

/// The next adapter replaces one on trial. If the new one fails its canaries, the replaced one must not keep serving in
/// memory, because its trial can never be confirmed.
#[test]
fn an_adapter_replaced_by_a_bad_one_does_not_keep_serving() {
    let mut device = Device::with_birds("");
    let before = device.ask(&image(1));
    device.push(&signed(&adapter("birds", 2))).unwrap();
    assert_eq!(device.ask(&image(1))["version"], 2);
    device.push(&signed(&with_wrong_canary(3))).unwrap_err();
    let after = device.ask(&image(1));
    assert_eq!((&after["version"], &after["top"]), (&1.into(), &before["top"]));
    assert_eq!(settled(&device), TaskState::Confirmed);
}

#[test]
fn the_first_adapter_of_a_task_leaves_nothing_when_it_is_reverted() {
    let mut device = Device::new("");
    device.start();
    device.push(&signed(&adapter("birds", 1))).unwrap();
    device.switch("birds");
    device.host(|client| client.mark_bad("birds")).unwrap();
    assert_eq!(device.ask(&image(1))["error"], "no task is active");
    assert_eq!(settled(&device), TaskState::Empty);
    device.push(&signed(&adapter("birds", 1))).unwrap();
}

#[test]
fn an_adapter_with_non_finite_results_is_reverted_within_the_frame() {
    let mut device = Device::with_birds("");
    let before = device.ask(&image(1));
    let mut infinite = adapter("birds", 2);
    // The weights are finite, as the format requires, but their products are not.
    infinite.head.weight.fill(f32::MAX);
    device.push(&signed(&infinite)).unwrap();
    let answer = device.ask(&image(1));
    assert_eq!(
        (&answer["version"], &answer["top"]),
        (&1.into(), &before["top"]),
        "{answer}"
    );
    let reason = &device.status().reverts[0].reason;
    assert!(reason.contains("logit") || reason.contains("finite"), "{reason}");
}

#[test]
fn an_adapter_that_crashes_the_device_is_reverted_after_three_unclean_ends() {
    let mut device = Device::with_birds("");
    device.push(&signed(&adapter("birds", 2))).unwrap();
    for _ in 0..3 {
        device.kill();
        device.start();
        assert_eq!(device.ask(&image(1))["version"], 2);
        device.wait_for_deletion();
    }
    device.kill();
    device.start();
    assert_eq!(device.ask(&image(1))["version"], 1, "{}", device.log());
    let reason = &device.status().reverts[0].reason;
    assert!(reason.contains("uncleanly 3 times"), "{reason}");
}

/// Ordinary restarts neither revert a good update nor reset its count of frames.
#[test]
fn clean_restarts_do_not_affect_a_trial() {
    let mut device = Device::with_birds("[trial]\nframes = 12\nlow_confidence = 0.0\n");
    device.push(&signed(&adapter("birds", 2))).unwrap();
    // This adapter never receives a frame, so its trial continues indefinitely.
    device.push(&signed(&adapter("fish", 1))).unwrap();
    for restart in 0..5_u32 {
        for seed in 0..2 {
            assert_eq!(device.ask(&image(seed))["version"], 2);
        }
        device.stop();
        device.start();
        let left = 12 - 2 * (restart + 1);
        assert_eq!(settled(&device), TaskState::OnTrial { frames_left: left });
        // Pushing the adapter again neither shortens nor prolongs its trial.
        device.push(&signed(&adapter("birds", 2))).unwrap();
        assert_eq!(settled(&device), TaskState::OnTrial { frames_left: left });
    }
    device.kill();
    device.start();
    let fish = device.list().into_iter().find(|task| task.task == "fish").unwrap();
    assert!(matches!(fish.state, TaskState::OnTrial { .. }), "{fish:?}");
}

#[test]
fn an_older_file_does_not_replace_a_newer_one_on_trial() {
    let mut device = Device::with_birds("");
    device.push(&signed(&adapter("birds", 9))).unwrap();
    let refused = device.push(&signed(&adapter("birds", 5))).unwrap_err().to_string();
    assert!(refused.contains('9') && refused.contains('5'), "{refused}");
    assert_eq!(device.ask(&image(1))["version"], 9);
}

#[test]
fn a_version_marked_bad_by_hand_is_accepted_again() {
    let mut device = Device::with_birds("");
    let second = signed(&adapter("birds", 2));
    device.push(&second).unwrap();
    device.host(|client| client.mark_good("birds")).unwrap();
    device.host(|client| client.mark_bad("birds")).unwrap();
    assert_eq!(device.ask(&image(1))["version"], 1);
    device.push(&second).unwrap();
    assert_eq!(device.ask(&image(1))["version"], 2);
}

/// Simulates a full disk with a limit on file sizes.
fn disk(device: &Device, full: bool) {
    let limit = Rlimit {
        current: full.then_some(0),
        maximum: None,
    };
    prlimit(Some(device.pid()), Resource::Fsize, limit).unwrap();
}

#[test]
fn a_failure_on_a_full_disk_takes_effect_at_once_and_is_written_later() {
    let mut device = Device::with_birds("");
    let unsure = signed(&never_confident("birds"));
    device.push(&unsure).unwrap();
    assert_eq!(device.ask(&image(0))["version"], 2);
    disk(&device, true);
    for seed in 1..3 {
        assert_eq!(device.ask(&image(seed))["version"], 2);
    }
    assert_eq!(device.ask(&image(1))["version"], 1);
    // Sending it again does not reinstate it.
    device.push(&unsure).unwrap_err();
    assert_eq!(device.ask(&image(1))["version"], 1);
    disk(&device, false);
    let started = Instant::now();
    while device.status().reverts.is_empty() {
        assert!(started.elapsed() < TIMEOUT, "{}", device.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    device.kill();
    device.start();
    assert_eq!(device.ask(&image(1))["version"], 1);
    assert_eq!(settled(&device), TaskState::Confirmed);
}

/// If it crashed the device, no later start would know the reason.
#[test]
fn an_adapter_whose_use_cannot_be_recorded_waits() {
    let mut device = Device::with_birds("");
    device.push(&signed(&adapter("birds", 2))).unwrap();
    disk(&device, true);
    for seed in 0..3 {
        assert_eq!(device.ask(&image(seed))["version"], 1);
    }
    disk(&device, false);
    let started = Instant::now();
    while device.ask(&image(1))["version"] != 2 {
        assert!(started.elapsed() < TIMEOUT, "{}", device.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    // Without an adapter to fall back to, it serves nevertheless.
    device.push(&signed(&adapter("fish", 1))).unwrap();
    disk(&device, true);
    let _ = device.host(|client| client.switch("fish"));
    assert_eq!(device.ask(&image(1))["task"], "fish");
}

/// Returns a version of `birds` that fails its canary.
fn with_wrong_canary(version: u64) -> clr_adapters::Adapter {
    let mut wrong = adapter("birds", version);
    wrong.header.canaries = vec![Canary {
        size: [4, 4],
        pixels: vec![9; 48],
        class: 1,
        probability: 0.123,
        seed: None,
    }];
    wrong
}
