//! Each single write fails once. The serving adapter does not change, neither in memory nor after reopening, and the
//! error names the file.

use std::{error::Error as _, sync::Arc};

use clr_store::{
    Store, StoreError,
    simulation::{Disk, Fault, Faults, Operation, PowerCut},
};

use crate::{
    scenario::{ALL, Scenario},
    world::{NOW, assert_tidy, confirmed, file, fresh, open, options, see},
};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EROFS: i32 = 30;

#[derive(Default, Debug)]
struct Counts {
    failures: usize,
    refused: usize,
    done: usize,
    in_doubt: usize,
}

fn assert_clear(error: &StoreError, errno: i32) {
    let text = error.to_string();
    let cause = std::io::Error::from_raw_os_error(errno).to_string();
    assert!(text.contains('`') && text.contains(&cause), "{text}");
    if errno != EIO && !matches!(error, StoreError::InDoubt { .. }) {
        assert!(text.contains("\nhint: nothing has changed"), "{text}");
    }
    assert!(error.source().is_some());
}

fn run(scenario: &Scenario, errno: i32, forever: bool, counts: &mut Counts) {
    let base = Arc::new(Disk::new());
    (scenario.set_up)(&open(base.clone()));
    let (before, after, operations) = scenario.rehearse(Arc::new(base.copy()));
    for (at, operation) in operations.iter().enumerate() {
        let place = format!(
            "{}: {operation:?} failed with {errno}, forever: {forever}",
            scenario.name
        );
        let disk = Arc::new(base.copy());
        let faults = Arc::new(Faults::new(disk.clone()));
        let store = open(faults.clone());
        faults.set(Some(Fault::Fail { at, errno, forever }));
        let result = (scenario.act)(&store);
        counts.failures += 1;
        let in_memory = see(&store);
        match &result {
            Ok(()) => {
                counts.done += 1;
                // Only operations that are repeated later may fail silently.
                let tidying = matches!(operation.0, Operation::Remove | Operation::RemoveDirectory);
                // A copy is written after the change has committed. The root also contains copies.
                let (kind, path) = operation;
                let of_copy = path.starts_with("copies") || path.contains(".copy");
                let tidying = tidying || of_copy || (*kind == Operation::SyncDirectory && path.is_empty());
                assert!(tidying || scenario.name.starts_with("remove a task"), "{place}");
                assert_eq!(in_memory, after, "{place}");
            }
            Err(error) => {
                assert_clear(error, errno);
                if matches!(error, StoreError::InDoubt { .. }) {
                    counts.in_doubt += 1;
                    assert!(forever, "{place}");
                    assert_eq!(in_memory, after, "{place}");
                } else {
                    counts.refused += 1;
                    assert_eq!(in_memory, before, "{place}");
                }
            }
        }
        for model in PowerCut::ALL {
            let store = open(Arc::new(disk.power_cut(model, at as u64)));
            let got = see(&store);
            assert!(got == before || got == after, "{place}, then a power cut: {got:#?}");
            if result.is_ok() {
                assert_eq!(got, after, "{place}");
            }
        }
        faults.set(None);
        drop(store);
        let store = open(disk.clone());
        assert_eq!(see(&store), in_memory, "{place}, opened again");
        assert_tidy(&store, &disk);
        if in_memory == before {
            (scenario.act)(&store).unwrap();
            assert_eq!(see(&store), after, "{place}, then done again");
        }
    }
}

#[test]
fn after_any_failed_write_the_old_state_serves() {
    let mut counts = Counts::default();
    for scenario in ALL.iter().step_by(if cfg!(miri) { 8 } else { 1 }) {
        for errno in [ENOSPC, EIO, EROFS] {
            run(scenario, errno, false, &mut counts);
            run(scenario, errno, true, &mut counts);
        }
    }
    println!("{} operations: {counts:?}", ALL.len());
}

#[test]
fn a_store_continues_when_the_disk_has_recovered() {
    for scenario in ALL {
        let disk = Arc::new(Disk::new());
        (scenario.set_up)(&open(disk.clone()));
        let expected = {
            let store = open(Arc::new(disk.copy()));
            (scenario.act)(&store).unwrap();
            see(&store)
        };
        let faults = Arc::new(Faults::new(disk.clone()));
        let store = open(faults.clone());
        faults.set(Some(Fault::Fail {
            at: 1,
            errno: ENOSPC,
            forever: true,
        }));
        let result = (scenario.act)(&store);
        faults.set(None);
        if result.is_err_and(|error| !matches!(error, StoreError::InDoubt { .. })) {
            (scenario.act)(&store).unwrap();
        }
        assert_eq!(see(&store), expected, "{}", scenario.name);
        drop((store, faults));
        let store = open(disk.clone());
        assert_eq!(see(&store), expected, "{}", scenario.name);
        assert_tidy(&store, &disk);
    }
}

#[test]
fn a_read_only_disk_serves() {
    let (disk, store) = fresh();
    confirmed(&store, &file("birds", 1));
    store.install(&file("birds", 2), NOW).unwrap();
    let before = see(&store);
    drop(store);
    disk.put("adapters/leftover.new", b"half").unwrap();
    let faults = Arc::new(Faults::new(disk));
    faults.set(Some(Fault::Fail {
        at: 0,
        errno: EROFS,
        forever: true,
    }));
    let store = open(faults.clone());
    assert_eq!(see(&store), before);
    let error = store.mark_good("birds").unwrap_err();
    assert!(error.to_string().contains("read-only"), "{error}");
    assert_eq!(see(&store), before);
    faults.set(None);
    store.mark_good("birds").unwrap();
    assert!(!see(&store).serving[0].unwrap().1);
}

#[test]
fn an_empty_disk_that_cannot_be_written_opens_empty() {
    let faults = Arc::new(Faults::new(Arc::new(Disk::new())));
    faults.set(Some(Fault::Fail {
        at: 0,
        errno: EROFS,
        forever: true,
    }));
    let store = Store::open(faults.clone(), options()).unwrap();
    assert!(store.tasks().is_empty());
    assert_clear(&store.install(&file("birds", 1), NOW).unwrap_err(), EROFS);
    faults.set(None);
    store.install(&file("birds", 1), NOW).unwrap();
}
