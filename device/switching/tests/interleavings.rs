//! All interleavings of a few threads, explored by loom. A deadlock is a failure too.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use clr_switching::Resident as _;
use loom::thread;

use crate::device::{Adapter, Device, Known};

/// Runs a model in all its interleavings and prints how many there are.
fn every_interleaving(name: &str, model: impl Fn(Arc<Device>) + Send + Sync + 'static) {
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    loom::model(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model(Arc::new(Device::new()));
    });
    let count = count.load(Ordering::Relaxed);
    println!("{name}: {count} interleavings");
    assert!(count > 1, "the threads of this model never ran concurrently");
}

/// Runs a part of the model in a separate thread.
fn spawn<T: 'static>(device: &Arc<Device>, part: impl FnOnce(&Device) -> T + 'static) -> thread::JoinHandle<T> {
    let device = Arc::clone(device);
    thread::spawn(move || part(&device))
}

/// Processes a frame like the inference loop: it counts towards the trial if its adapter is on trial.
fn serve(device: &Device) -> Option<Arc<Adapter>> {
    let adapter = device.frame()?;
    if device.serving.info_of(&adapter, |known| known.frames += 1).is_none() {
        let serves = device.serving.tasks().get(adapter.task());
        let same = serves.is_ok_and(|serves| Arc::ptr_eq(&serves, &adapter));
        assert!(!same, "an adapter serves without its information");
    }
    Some(adapter)
}

#[test]
fn a_frame_never_finds_an_adapter_without_its_information() {
    every_interleaving("frames during installations", |device| {
        let installs = spawn(&device, |device| {
            device.install(2);
            device.install(3);
        });
        serve(&device);
        installs.join().unwrap();
        device.check();
    });
    every_interleaving("frames during a removal", |device| {
        device.install(2);
        let removes = spawn(&device, Device::remove);
        serve(&device);
        removes.join().unwrap();
        device.check();
    });
}

#[test]
fn a_trial_counts_only_the_frames_of_its_own_adapter() {
    every_interleaving("frames counted", |device| {
        device.install(2);
        let frames = spawn(&device, |device| serve(device).map(|adapter| adapter.digest));
        device.install(3);
        let took = frames.join().unwrap();
        let counted = device.serving.info("birds", |known: &Known| known.frames);
        assert_eq!(counted, Some(u32::from(took == Some(3))));
    });
}

#[test]
fn exactly_one_of_confirm_and_revert_wins() {
    every_interleaving("confirm against revert", |device| {
        device.install(2);
        let tried = device.frame().unwrap();
        let confirming = Arc::clone(&tried);
        let confirms = spawn(&device, move |device| device.confirm(&confirming));
        let reverted = device.revert(&tried);
        let confirmed = confirms.join().unwrap();
        assert!(confirmed != reverted);
        assert_eq!(device.answers(), Some(if confirmed { 2 } else { 1 }));
        device.check();
    });
}

#[test]
fn a_reverted_adapter_classifies_no_later_frame() {
    type Takes = fn(&Device);
    let ways: [(&str, Takes, Option<u32>); 2] = [
        ("mark-bad", Device::mark_bad, Some(1)),
        ("remove", Device::remove, None),
    ];
    for (name, revert, expected) in ways {
        every_interleaving(&format!("{name} against confirm, switch and frames"), move |device| {
            device.install(2);
            let tried = device.frame().unwrap();
            let verdict = spawn(&device, move |device| device.confirm(&tried));
            let switches = spawn(&device, |device| _ = device.switch(&["birds"]));
            revert(&device);
            let after = device.answers();
            let confirmed = verdict.join().unwrap();
            // A confirmed adapter is no longer on trial, and stays unless the task is removed.
            let expected = expected.map(|before| if confirmed { 2 } else { before });
            // The switch may happen later, but it never restores a removed adapter.
            assert!(after == expected || after.is_none(), "{after:?} answered");
            switches.join().unwrap();
            assert_eq!(device.answers(), expected);
            device.check();
        });
    }
    every_interleaving("revert against frames and a switch", |device| {
        device.install(2);
        let tried = device.frame().unwrap();
        let switches = spawn(&device, |device| _ = device.switch(&["birds"]));
        let frames = spawn(&device, |device| _ = serve(device));
        assert!(device.revert(&tried));
        assert_eq!(device.answers(), Some(1));
        switches.join().unwrap();
        frames.join().unwrap();
        assert_eq!(device.answers(), Some(1));
        device.check();
    });
}

#[test]
fn a_verdict_on_an_adapter_that_was_replaced_changes_nothing() {
    for confirm in [true, false] {
        every_interleaving("a verdict against an installation", move |device| {
            device.install(2);
            let tried = device.frame().unwrap();
            let verdict = spawn(&device, move |device| {
                if confirm {
                    device.confirm(&tried)
                } else {
                    device.revert(&tried)
                }
            });
            device.install(3);
            let before = if verdict.join().unwrap() && confirm { 2 } else { 1 };
            let stored = device.stored();
            assert_eq!((stored.trial, stored.confirmed), (Some(3), Some(before)));
            assert_eq!(device.answers(), Some(3));
            device.check();
        });
    }
}

#[test]
fn store_and_memory_agree_after_concurrent_changes() {
    every_interleaving("three changes at once", |device| {
        device.install(2);
        let tried = device.frame().unwrap();
        let verdict = spawn(&device, move |device| device.revert(&tried));
        let good = spawn(&device, Device::mark_good);
        device.install(3);
        verdict.join().unwrap();
        good.join().unwrap();
        device.check();
    });
}

#[test]
fn a_manual_switch_is_not_overruled_by_an_earlier_automatic_one() {
    every_interleaving("a switch against a choice", |device| {
        device.with_cars();
        device.switch_to_auto();
        let chooses = spawn(&device, |device| {
            if device.serving.auto() {
                let chosen = device.serving.tasks().get("birds").unwrap();
                device.serving.switch_chosen(&chosen);
            }
        });
        device.switch(&["cars"]).unwrap();
        assert_eq!(device.answers(), Some(9));
        chooses.join().unwrap();
        assert_eq!(device.answers(), Some(9));
        assert!(!device.serving.auto());
    });
}

#[test]
fn of_concurrent_manual_switches_the_effective_one_is_stored() {
    every_interleaving("two tasks named at once", |device| {
        device.with_cars();
        let names = spawn(&device, |device| device.switch(&["cars"]).unwrap());
        device.switch(&["birds"]).unwrap();
        names.join().unwrap();
        device.check_remembered();
    });
    every_interleaving("two groups named at once", |device| {
        device.with_cars();
        let names = spawn(&device, |device| device.switch(&["cars", "birds"]).unwrap());
        device.switch(&["birds", "cars"]).unwrap();
        names.join().unwrap();
        device.check_remembered();
    });
    every_interleaving("a group named against a removal", |device| {
        device.with_cars();
        let names = spawn(&device, |device| _ = device.switch(&["cars", "birds"]));
        device.remove();
        names.join().unwrap();
        device.check_remembered();
        assert!(!device.tasks().contains(&"birds".to_owned()));
    });
    every_interleaving("a task named against auto", |device| {
        let names = spawn(&device, Device::switch_to_auto);
        device.switch(&["birds"]).unwrap();
        names.join().unwrap();
        device.check_remembered();
    });
}

#[test]
fn a_frame_never_combines_two_selections() {
    every_interleaving("frames during switches between groups", |device| {
        device.with_cars();
        let switches = spawn(&device, |device| {
            device.switch(&["birds", "cars"]).unwrap();
            device.switch(&["cars"]).unwrap();
        });
        for _ in 0..2 {
            let tasks = device.tasks();
            assert!(
                tasks == ["birds"] || tasks == ["birds", "cars"] || tasks == ["cars"],
                "{tasks:?}"
            );
        }
        switches.join().unwrap();
        assert_eq!(device.tasks(), ["cars"]);
    });
}

#[test]
fn a_change_of_one_task_of_a_group_never_affects_the_others() {
    let cars = |device: &Device| {
        let answers = device.group_answers();
        assert_eq!(answers.len(), 2, "{answers:?}");
        assert_eq!(answers[1], ("cars".to_owned(), Some(9)));
        answers[0].1
    };
    every_interleaving("a revert and an installation within a group", move |device| {
        device.with_cars();
        device.switch(&["birds", "cars"]).unwrap();
        device.install(2);
        let tried = device.serving.tasks().get("birds").unwrap();
        let reverts = spawn(&device, move |device| _ = device.revert(&tried));
        let birds = cars(&device);
        assert!(matches!(birds, Some(1 | 2)), "{birds:?}");
        reverts.join().unwrap();
        assert_eq!(cars(&device), Some(1));
        device.check();
    });
    every_interleaving("the loss of an adapter within a group", move |device| {
        device.with_cars();
        device.switch(&["birds", "cars"]).unwrap();
        let loses = spawn(&device, Device::lose);
        let birds = cars(&device);
        assert!(matches!(birds, Some(1) | None), "{birds:?}");
        loses.join().unwrap();
        assert_eq!(cars(&device), None);
        device.check();
    });
}

#[test]
fn a_reverted_adapter_does_not_return_with_a_switch_to_a_group() {
    every_interleaving("a revert against a switch to a group", |device| {
        device.with_cars();
        device.install(2);
        let tried = device.frame().unwrap();
        let switches = spawn(&device, |device| device.switch(&["birds", "cars"]).unwrap());
        assert!(device.revert(&tried));
        assert_eq!(device.answers(), Some(1));
        switches.join().unwrap();
        assert_eq!(device.answers(), Some(1));
        device.check();
    });
}
