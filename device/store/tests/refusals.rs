//! Refusals, their errors, and the unchanged state after each.

use clr_adapters::{Digest, Encoding, Refusal, SecretKey, SignerClass, encode, sign};
use clr_store::{Caps, Store, StoreError};

use crate::world::{
    NOW, adapter, confirmed, confirmed_tuned, device, file, fresh, options, published, push, see, tuned,
};

/// Asserts that installing and uploading the file are both refused, and that nothing changes. Returns the refusal.
fn refusal(store: &Store, file: &[u8]) -> Refusal {
    let before = see(store);
    let Err(StoreError::Refused(refusal)) = store.install(file, NOW) else {
        panic!("taken")
    };
    let Err(StoreError::Refused(again)) = push(store, file, 1_000) else {
        panic!("taken")
    };
    assert_eq!(refusal, again);
    assert_eq!(see(store), before);
    assert_eq!(store.verify().unwrap().problems, []);
    assert_eq!(store.verify().unwrap().uploads, 0);
    refusal
}

#[test]
fn replay_and_downgrade_have_distinct_errors() {
    let (_, store) = fresh();
    for version in [1, 5, 9] {
        confirmed(&store, &file("birds", version));
    }
    for version in [1, 5] {
        let refused = refusal(&store, &file("birds", version));
        assert!(matches!(refused, Refusal::Replay { version: got, .. } if got == version));
    }
    let Err(StoreError::Refused(refused)) = store.install(&file("birds", 9), NOW) else {
        panic!("taken")
    };
    assert!(matches!(refused, Refusal::Replay { version: 9, .. }));
    for version in [2, 8] {
        let refused = refusal(&store, &file("birds", version));
        assert!(matches!(refused, Refusal::Downgrade { highest_admitted: 9, got, .. } if got == version));
    }
    let refused = refusal(&store, &published(&adapter("birds", 9, 0, 1)));
    assert!(matches!(
        refused,
        Refusal::Downgrade {
            highest_admitted: 9,
            got: 9,
            ..
        }
    ));
    store.install(&file("birds", 10), NOW).unwrap();
}

/// Regression test: the highest admitted version used to rise only at confirmation, so an older file could replace a
/// newer one on trial.
#[test]
fn the_highest_version_rises_at_admission_and_only_its_failed_trial_lowers_it() {
    let (disk, store) = fresh();
    let highest_admitted = |store: &Store| store.task("birds").unwrap().highest_admitted;
    confirmed(&store, &file("birds", 3));
    store.install(&file("birds", 9), NOW).unwrap();
    assert_eq!(highest_admitted(&store), 9);
    for version in [4, 8] {
        let refused = refusal(&store, &file("birds", version));
        assert!(matches!(refused, Refusal::Downgrade { highest_admitted: 9, got, .. } if got == version));
    }
    let refused = refusal(&store, &published(&adapter("birds", 9, 0, 1)));
    assert!(matches!(
        refused,
        Refusal::Downgrade {
            highest_admitted: 9,
            got: 9,
            ..
        }
    ));
    // Version 10 replaces version 9 and fails. The highest admitted version is 9 again; version 9 never failed and may
    // return.
    let tenth = store.install(&file("birds", 10), NOW).unwrap().held.digest;
    assert_eq!(highest_admitted(&store), 10);
    store.revert("birds", &tenth, "too slow", NOW).unwrap();
    assert_eq!(highest_admitted(&store), 9);
    assert!(matches!(refusal(&store, &file("birds", 8)), Refusal::Downgrade { .. }));
    let ninth = store.install(&file("birds", 9), NOW).unwrap().held.digest;
    store.confirm("birds", &ninth).unwrap();
    assert_eq!(highest_admitted(&store), 9);
    // A failed trial restores the previous highest admitted version.
    store.install(&file("birds", 12), NOW).unwrap();
    store.mark_bad("birds", NOW).unwrap();
    assert_eq!(highest_admitted(&store), 9);
    store.install(&file("birds", 11), NOW).unwrap();
    // It survives restarts and the removal of the task.
    drop(store);
    let store = crate::world::open(disk);
    assert_eq!(highest_admitted(&store), 11);
    store.remove("birds").unwrap();
    assert!(matches!(refusal(&store, &file("birds", 9)), Refusal::Replay { .. }));
    for version in [2, 10] {
        assert!(matches!(
            refusal(&store, &file("birds", version)),
            Refusal::Downgrade {
                highest_admitted: 11,
                ..
            }
        ));
    }
    // A removed adapter may return.
    confirmed(&store, &file("birds", 11));
    assert_eq!(highest_admitted(&store), 11);
}

#[test]
fn an_adapter_taken_out_on_request_may_be_pushed_again_but_nothing_older() {
    type ByHand = fn(&Store) -> Result<clr_store::StoredAdapter, StoreError>;
    let ways: [ByHand; 2] = [
        |store| store.mark_bad("birds", NOW),
        |store| store.rollback("birds", NOW),
    ];
    let (_, store) = fresh();
    confirmed(&store, &file("birds", 3));
    confirmed(&store, &file("birds", 4));
    for out in ways {
        assert_eq!(out(&store).unwrap().version, 4);
        assert_eq!(store.serving("birds").unwrap().held.version, 3);
        assert!(matches!(
            refusal(&store, &published(&adapter("birds", 4, 0, 7))),
            Refusal::Downgrade {
                highest_admitted: 4,
                got: 4,
                ..
            }
        ));
        assert!(!store.install(&file("birds", 4), NOW).unwrap().already);
        store.mark_good("birds").unwrap();
        assert_eq!(store.serving("birds").unwrap().held.version, 4);
        assert_eq!(store.task("birds").unwrap().highest_admitted, 4);
    }
    // A trial that was ended on request is treated in the same way.
    store.install(&file("birds", 5), NOW).unwrap();
    store.mark_bad("birds", NOW).unwrap();
    store.install(&file("birds", 5), NOW).unwrap();
    store.mark_good("birds").unwrap();
    // The publisher's original does not replace an adapter that was tuned on top of it.
    confirmed_tuned(&store, &tuned("birds", 5, 1));
    assert!(matches!(refusal(&store, &file("birds", 5)), Refusal::Replay { .. }));
}

#[test]
fn files_that_this_device_tuned_cannot_take_turns_on_trial() {
    let (_, store) = fresh();
    confirmed(&store, &file("birds", 2));
    let (first, second) = (tuned("birds", 2, 1), tuned("birds", 2, 2));
    confirmed_tuned(&store, &first);
    confirmed_tuned(&store, &second);
    store.restore("birds", NOW).unwrap();
    store.install(&first, NOW).unwrap();
    assert!(store.install(&first, NOW).unwrap().already);
    assert!(matches!(
        store.install(&second, NOW),
        Err(StoreError::TrialUnderWay { version: 2, .. })
    ));
}

#[test]
fn every_refusal_of_the_signing_layer_is_passed_on() {
    let (_, store) = fresh();
    confirmed(&store, &file("birds", 1));
    let unsigned = encode(&adapter("birds", 2, 0, 0), Encoding::F32).unwrap();
    assert_eq!(refusal(&store, &unsigned), Refusal::Unsigned);
    let stranger = sign(&unsigned, SignerClass::Publisher, &SecretKey::from_bytes(&[9; 32])).unwrap();
    assert!(matches!(refusal(&store, &stranger), Refusal::UnknownKey { .. }));
    let mut header = adapter("birds", 2, 0, 0);
    header.header.backbone = Digest::of(b"another backbone");
    assert!(matches!(
        refusal(&store, &published(&header)),
        Refusal::WrongBackbone { .. }
    ));
    let mut header = adapter("birds", 2, 0, 0);
    header.header.expires = NOW;
    assert!(matches!(refusal(&store, &published(&header)), Refusal::Expired { .. }));
    // A device without a clock cannot check the expiry. An adapter that was confirmed in time continues to serve.
    store.install(&published(&header), None).unwrap();
    store.mark_good("birds").unwrap();
    assert_eq!(store.serving("birds").unwrap().held.version, 2);
    let file = file("birds", 3);
    for at in (0..file.len()).step_by(if cfg!(miri) { 97 } else { 1 }) {
        let mut altered = file.clone();
        altered[at] ^= 0x20;
        refusal(&store, &altered);
        refusal(&store, &file[..at]);
    }
}

#[test]
fn tuned_files_have_their_own_installation_call() {
    let (_, store) = fresh();
    confirmed(&store, &file("birds", 2));
    let own = tuned("birds", 2, 1);
    assert!(matches!(
        refusal(&store, &own),
        Refusal::WrongClass {
            class: SignerClass::Device,
            ..
        }
    ));
    let foreign = encode(&adapter("birds", 2, 1, 0), Encoding::F32).unwrap();
    let foreign = sign(&foreign, SignerClass::Device, &SecretKey::from_bytes(&[9; 32])).unwrap();
    assert!(matches!(
        refusal(&store, &foreign),
        Refusal::UnknownKey {
            class: SignerClass::Device,
            ..
        }
    ));
    assert!(matches!(
        store.install_tuned(&foreign),
        Err(StoreError::Refused(Refusal::UnknownKey { .. }))
    ));
    let published = store.install_tuned(&file("birds", 3));
    assert!(matches!(published, Err(StoreError::NotTunedHere { .. })));
    let stale = store.install_tuned(&tuned("birds", 1, 1));
    assert!(matches!(
        stale,
        Err(StoreError::Stale {
            expected: 2,
            got: 1,
            ..
        })
    ));
    store.install(&file("birds", 3), NOW).unwrap();
    assert!(matches!(
        store.install_tuned(&own),
        Err(StoreError::TrialUnderWay { version: 3, .. })
    ));
    store.rollback("birds", NOW).unwrap();

    confirmed_tuned(&store, &own);
    assert_eq!(store.task("birds").unwrap().highest_admitted, 2);
    store.restore("birds", NOW).unwrap();
    // The adapter was confirmed here, so the host that pulled it may send it back.
    assert!(!store.install(&own, NOW).unwrap().already);
    store.mark_good("birds").unwrap();
    assert!(store.task("birds").unwrap().confirmed.unwrap().tuned);
    // But not under a newer version.
    confirmed(&store, &file("birds", 3));
    confirmed(&store, &file("birds", 4));
    assert!(matches!(refusal(&store, &own), Refusal::Replay { .. }));
}

#[test]
fn an_unsigned_tuned_file_is_signed_with_the_devices_key() {
    let (_, store) = fresh();
    confirmed(&store, &file("birds", 1));
    let unsigned = encode(&adapter("birds", 1, 1, 0), Encoding::F32).unwrap();
    store.install_tuned(&unsigned).unwrap();
    let serving = store.serving("birds").unwrap();
    assert_eq!(serving.signer.unwrap().class, SignerClass::Device);
    assert_eq!(serving.signer.unwrap().key, device().public());
    assert_eq!(store.file(&serving.held.digest).unwrap(), tuned("birds", 1, 1));
}

#[test]
fn a_key_that_is_no_longer_trusted_serves_nothing() {
    let (disk, store) = fresh();
    confirmed(&store, &file("birds", 1));
    drop(store);
    let trust = clr_adapters::Trust::default();
    let strict = options().with_trust(trust);
    let store = Store::open(disk, strict).unwrap();
    let Err(error) = store.serving("birds") else {
        panic!("served")
    };
    assert!(matches!(error, StoreError::NothingServes { .. }));
    assert!(error.to_string().contains("not trusted"), "{error}");
    assert_eq!(store.verify().unwrap().problems.len(), 1);
}

#[test]
fn examples_tasks_and_checkpoints_are_capped() {
    let (disk, store) = fresh();
    for number in 0..4_u8 {
        store.add_example("birds", Some("wren"), &[number], NOW).unwrap();
    }
    let full = store.add_example("birds", Some("wren"), &[9], NOW);
    assert!(matches!(full, Err(StoreError::Full { cap: 4, got: 5, .. })));
    // A known image needs no room.
    store.add_example("birds", Some("robin"), &[0], NOW).unwrap();
    store.remove_example("birds", &Digest::of(&[1])).unwrap();
    store.add_example("birds", Some("wren"), &[9], NOW).unwrap();
    drop(store);
    let caps = Caps {
        tasks: 1,
        checkpoint_bytes: 10,
        example_bytes: 3,
        ..Caps::DEFAULT
    };
    let store = Store::open(disk, options().with_caps(caps)).unwrap();
    assert!(matches!(
        store.put_checkpoint("birds", &[0; 11]),
        Err(StoreError::Full { .. })
    ));
    assert!(matches!(
        store.add_example("cats", Some("tabby"), &[0; 4], NOW),
        Err(StoreError::Full { .. })
    ));
    store.install(&file("birds", 1), NOW).unwrap();
    assert!(matches!(
        store.install(&file("cats", 1), NOW),
        Err(StoreError::Full { what: "tasks", .. })
    ));
}

#[test]
fn names_and_labels_that_no_adapter_could_have_are_refused() {
    let (_, store) = fresh();
    for task in ["", "a\0b", "line\nbreak", &"x".repeat(129)] {
        assert!(matches!(
            store.add_example(task, Some("wren"), b"x", NOW),
            Err(StoreError::Name { .. })
        ));
        assert!(matches!(store.put_checkpoint(task, b"x"), Err(StoreError::Name { .. })));
        assert!(matches!(store.serving(task), Err(StoreError::NoSuchTask { .. })));
    }
    for label in ["", " ", "a\tb", &"x".repeat(257)] {
        assert!(matches!(
            store.add_example("birds", Some(label), b"x", NOW),
            Err(StoreError::Label { .. })
        ));
    }
    for task in ["..", ".", "/etc/passwd", "CON", "Birds", "birds", &"ツ".repeat(42)] {
        store.install(&file(task, 1), NOW).unwrap();
        store.add_example(task, Some("wren"), task.as_bytes(), NOW).unwrap();
        assert_eq!(store.examples(task).unwrap().len(), 1);
    }
    assert_eq!(store.tasks().len(), 7);
    assert_eq!(store.verify().unwrap().problems, []);
}
