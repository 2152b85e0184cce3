//! Life cycle of an adapter: trial, confirmation, rollback, tuning, removal.

use clr_adapters::Digest;
use clr_store::{AddOutcome, Progress, StartOutcome, Store, StoreError, StoredAdapter, StoredTask};

use crate::world::{NOW, assert_tidy, confirmed, confirmed_tuned, file, fresh, tuned};

/// Version and revision of an adapter.
fn name(held: Option<StoredAdapter>) -> Option<(u64, u32)> {
    held.map(|held| (held.version, held.revision))
}

/// Returns version and revision of the adapters in four slots: confirmed, on trial, last good, restore point.
fn kept(store: &Store) -> [Option<(u64, u32)>; 4] {
    let StoredTask {
        confirmed,
        trial,
        last_good,
        restore,
        ..
    } = store.task("birds").unwrap();
    [confirmed, trial.map(|trial| trial.held), last_good, restore].map(name)
}

#[test]
fn a_trial_serves_and_is_confirmed_or_reverted() {
    let (disk, store) = fresh();
    let installed = store.install(&file("birds", 1), NOW).unwrap();
    assert!(!installed.already);
    assert!(store.serving("birds").unwrap().trial);
    assert!(store.install(&file("birds", 1), NOW).unwrap().already);
    let wrong = store.confirm("birds", &Digest::of(b"another"));
    assert!(matches!(wrong, Err(StoreError::NoTrial { .. })));
    store.confirm("birds", &installed.held.digest).unwrap();
    assert!(matches!(
        store.confirm("birds", &installed.held.digest),
        Err(StoreError::NoTrial { .. })
    ));
    let second = store.install(&file("birds", 2), NOW).unwrap().held.digest;
    let reason = "ü".repeat(400);
    store.revert("birds", &second, &reason, NOW).unwrap();
    assert_eq!(kept(&store), [Some((1, 0)), None, None, None]);
    let reverted = store.task("birds").unwrap().reverted.unwrap();
    assert_eq!((reverted.reason, reverted.held.version), ("ü".repeat(256), 2));
    // The failed version may be tried again.
    confirmed(&store, &file("birds", 2));
    assert_eq!(kept(&store), [Some((2, 0)), None, Some((1, 0)), None]);
    assert_tidy(&store, &disk);
}

#[test]
fn the_reason_of_a_first_trial_that_failed_is_kept() {
    let (disk, store) = fresh();
    let digest = store.install(&file("birds", 1), NOW).unwrap().held.digest;
    store.revert("birds", &digest, "logits are not finite", None).unwrap();
    assert_eq!(
        store.tasks()[0].reverted.as_ref().unwrap().reason,
        "logits are not finite"
    );
    assert!(matches!(store.serving("birds"), Err(StoreError::NothingServes { .. })));
    assert_tidy(&store, &disk);
    store.remove("birds").unwrap();
    assert!(store.tasks().is_empty());
    assert!(disk.files().is_empty());
}

#[test]
fn a_second_rollback_undoes_the_first_and_bad_adapters_are_not_kept() {
    let (disk, store) = fresh();
    confirmed(&store, &file("birds", 1));
    assert!(matches!(
        store.rollback("birds", NOW),
        Err(StoreError::NothingToRollBack { .. })
    ));
    assert!(matches!(
        store.mark_bad("birds", NOW),
        Err(StoreError::NothingToRollBack { .. })
    ));
    confirmed(&store, &file("birds", 2));
    assert_eq!(store.rollback("birds", NOW).unwrap().version, 2);
    assert_eq!(kept(&store), [Some((1, 0)), None, Some((2, 0)), None]);
    assert_eq!(store.rollback("birds", NOW).unwrap().version, 1);
    assert_eq!(kept(&store), [Some((2, 0)), None, Some((1, 0)), None]);
    assert_eq!(store.mark_bad("birds", NOW).unwrap().version, 2);
    assert_eq!(kept(&store), [Some((1, 0)), None, None, None]);
    store.install(&file("birds", 3), NOW).unwrap();
    store.mark_bad("birds", NOW).unwrap();
    assert_eq!(kept(&store), [Some((1, 0)), None, None, None]);
    store.mark_good("birds").unwrap();
    assert_tidy(&store, &disk);
}

#[test]
fn the_publishers_original_is_kept_as_long_as_a_tuned_one_is() {
    let (disk, store) = fresh();
    confirmed(&store, &file("birds", 5));
    assert!(matches!(
        store.restore("birds", NOW),
        Err(StoreError::NothingToRestore { .. })
    ));
    confirmed_tuned(&store, &tuned("birds", 5, 1));
    confirmed_tuned(&store, &tuned("birds", 5, 2));
    confirmed_tuned(&store, &tuned("birds", 5, 3));
    assert_eq!(kept(&store), [Some((5, 3)), None, Some((5, 2)), Some((5, 0))]);
    assert_tidy(&store, &disk);
    store.restore("birds", NOW).unwrap();
    assert_eq!(kept(&store), [Some((5, 0)), None, Some((5, 3)), Some((5, 0))]);
    store.rollback("birds", NOW).unwrap();
    assert_eq!(kept(&store), [Some((5, 3)), None, Some((5, 0)), Some((5, 0))]);
    confirmed(&store, &file("birds", 6));
    assert_eq!(kept(&store), [Some((6, 0)), None, Some((5, 3)), Some((5, 0))]);
    confirmed(&store, &file("birds", 7));
    assert_eq!(kept(&store), [Some((7, 0)), None, Some((6, 0)), None]);
    store.install_tuned(&tuned("birds", 7, 1)).unwrap();
    store.restore("birds", NOW).unwrap();
    assert_eq!(kept(&store), [Some((7, 0)), None, Some((6, 0)), None]);
    assert_eq!(store.task("birds").unwrap().highest_admitted, 7);
    assert_tidy(&store, &disk);
}

#[test]
fn a_task_created_here_has_no_highest_version_and_a_publisher_may_replace_it() {
    let (disk, store) = fresh();
    confirmed_tuned(&store, &tuned("birds", 1, 1));
    assert_eq!(kept(&store), [Some((1, 1)), None, None, None]);
    assert_eq!(store.task("birds").unwrap().highest_admitted, 0);
    assert!(matches!(
        store.restore("birds", NOW),
        Err(StoreError::NothingToRestore { .. })
    ));
    confirmed(&store, &file("birds", 1));
    assert_eq!(kept(&store), [Some((1, 0)), None, Some((1, 1)), None]);
    assert_tidy(&store, &disk);
}

#[test]
fn images_are_stored_once_and_relabelled() {
    let (_, store) = fresh();
    let id = Digest::of(b"picture");
    assert_eq!(
        store.add_example("birds", Some("wren"), b"picture", Some(7)).unwrap(),
        AddOutcome::Added { id }
    );
    assert_eq!(
        store.add_example("birds", Some("wren"), b"picture", Some(9)).unwrap(),
        AddOutcome::Duplicate { id }
    );
    let from = Some("wren".to_owned());
    assert_eq!(
        store.add_example("birds", Some("robin"), b"picture", Some(8)).unwrap(),
        AddOutcome::Relabelled { id, from }
    );
    let examples = store.examples("birds").unwrap();
    assert_eq!(
        (examples.len(), examples[0].label.as_deref(), examples[0].added),
        (1, Some("robin"), Some(8))
    );
    assert_eq!(store.example("birds", &id).unwrap(), b"picture");
    assert!(store.examples("cats").unwrap().is_empty());
    assert!(matches!(
        store.example("cats", &id),
        Err(StoreError::NoSuchExample { .. })
    ));
    store.remove_example("birds", &id).unwrap();
    assert!(matches!(
        store.remove_example("birds", &id),
        Err(StoreError::NoSuchExample { .. })
    ));
}

#[test]
fn an_unlabelled_image_is_stored_with_a_space_and_read_without_a_label() {
    let (disk, store) = fresh();
    let id = Digest::of(b"picture");
    let added = store.add_example("birds", None, b"picture", NOW).unwrap();
    assert_eq!(added, AddOutcome::Added { id });
    let files = disk.files();
    let (_, bytes) = files.iter().find(|(name, _)| name.starts_with("examples/")).unwrap();
    // After magic and length: the label's length and the label.
    assert_eq!(bytes[12..14], [1, b' ']);
    drop(store);
    let store = crate::world::open(disk);
    assert_eq!(store.examples("birds").unwrap()[0].label, None);
    let again = store.add_example("birds", None, b"picture", NOW).unwrap();
    assert_eq!(again, AddOutcome::Duplicate { id });
    let labelled = store.add_example("birds", Some("wren"), b"picture", NOW).unwrap();
    assert_eq!(labelled, AddOutcome::Relabelled { id, from: None });
}

#[test]
fn a_removed_task_leaves_only_its_highest_version() {
    let (disk, store) = fresh();
    assert!(matches!(store.remove("birds"), Err(StoreError::NoSuchTask { .. })));
    confirmed(&store, &file("birds", 1));
    store.add_example("birds", Some("wren"), b"picture", NOW).unwrap();
    store.put_checkpoint("birds", b"weights").unwrap();
    store.set_active(&["birds"]).unwrap();
    store.remove("birds").unwrap();
    assert!(matches!(store.remove("birds"), Err(StoreError::NoSuchTask { .. })));
    assert!(store.tasks().is_empty());
    let names: Vec<_> = disk.files().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["active", "active.copy", "copies/birds", "tasks/birds"]);
    store.add_example("birds", Some("wren"), b"picture", NOW).unwrap();
    drop(store);
    let store = crate::world::open(disk);
    assert_eq!(store.examples("birds").unwrap().len(), 1);
    store.remove("birds").unwrap();
    assert_eq!(store.examples("birds").unwrap().len(), 0);
    assert!(store.active().is_empty());
}

#[test]
fn the_bytes_of_every_adapter_that_is_kept_can_be_read() {
    let (_, store) = fresh();
    let files = [file("birds", 1), tuned("birds", 1, 1), tuned("birds", 1, 2)];
    confirmed(&store, &files[0]);
    confirmed_tuned(&store, &files[1]);
    store.install_tuned(&files[2]).unwrap();
    for file in &files {
        assert_eq!(store.file(&Digest::of(file)).unwrap(), *file);
    }
}

/// Regression test: starts used to be counted, so that four restarts reverted a good update.
#[test]
fn only_unclean_ends_of_an_adapter_in_use_end_its_trial() {
    let (disk, store) = fresh();
    confirmed(&store, &file("birds", 1));
    let trial = store.install(&file("birds", 2), NOW).unwrap().held.digest;
    let restart = |store: Store, blamed| {
        drop(store);
        let store = crate::world::open(disk.clone());
        let start = store.record_start("birds", blamed, NOW).unwrap();
        (store, start)
    };
    let mut store = store;
    // Three cases: the adapter is never used, the run ends cleanly, or it ends for another reason.
    for round in 0..12 {
        let start;
        if round > 3 {
            store.begin_use("birds", &trial).unwrap();
        }
        if (4..8).contains(&round) {
            let frames = round;
            let progress = Progress {
                frames,
                slow: 1,
                low: 2,
            };
            store.end_use("birds", &trial, progress).unwrap();
        }
        (store, start) = restart(store, round < 8);
        assert_eq!(start, StartOutcome::OnTrial, "{round}");
    }
    for times in 1..3 {
        let start;
        store.begin_use("birds", &trial).unwrap();
        (store, start) = restart(store, true);
        assert_eq!(start, StartOutcome::Unclean { times });
        // Pushing the adapter again neither shortens nor prolongs its trial.
        assert!(store.install(&file("birds", 2), NOW).unwrap().already);
    }
    store.begin_use("birds", &trial).unwrap();
    let (store, start) = restart(store, true);
    assert!(matches!(start, StartOutcome::Reverted { held } if held.version == 2));
    let state = store.task("birds").unwrap();
    let reverted = state.reverted.unwrap();
    assert_eq!(
        reverted.reason,
        "the device ended uncleanly 3 times while it was in use"
    );
    assert_eq!((reverted.at, state.highest_admitted), (NOW, 1));
    assert_eq!(store.record_start("birds", true, NOW).unwrap(), StartOutcome::NoTrial);
    assert_tidy(&store, &disk);
}

#[test]
fn the_progress_of_a_trial_survives_only_a_clean_end() {
    let (disk, store) = fresh();
    let trial = store.install(&file("birds", 1), NOW).unwrap().held.digest;
    let progress = Progress {
        frames: 40,
        slow: 2,
        low: 3,
    };
    store.begin_use("birds", &trial).unwrap();
    store.end_use("birds", &trial, progress).unwrap();
    drop(store);
    let store = crate::world::open(disk);
    store.record_start("birds", true, NOW).unwrap();
    let kept = |store: &Store| store.task("birds").unwrap().trial.unwrap().progress;
    assert_eq!(kept(&store), progress);
    store.begin_use("birds", &trial).unwrap();
    store.record_start("birds", true, NOW).unwrap();
    assert_eq!(kept(&store), Progress::default());
}

#[test]
fn a_group_of_active_tasks_keeps_its_order_and_loses_only_a_removed_task() {
    let (disk, store) = fresh();
    for task in ["helmet", "vest", "boots"] {
        confirmed(&store, &file(task, 1));
    }
    store.set_active(&["vest", "helmet", "boots"]).unwrap();
    assert!(matches!(
        store.set_active(&["vest", "gloves"]),
        Err(StoreError::NoSuchTask { .. })
    ));
    assert!(matches!(
        store.set_active(&["vest", "auto"]),
        Err(StoreError::NoSuchTask { .. })
    ));
    assert!(matches!(
        store.set_active(&vec!["vest"; 9_000]),
        Err(StoreError::Full { .. })
    ));
    assert_eq!(store.active(), ["vest", "helmet", "boots"]);
    store.remove("helmet").unwrap();
    drop(store);
    let store = crate::world::open(disk);
    assert_eq!(store.active(), ["vest", "boots"]);
    store.clear_active().unwrap();
    assert!(store.active().is_empty());
}
