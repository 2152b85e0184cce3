//! The store in a real directory: a program that stops at every operation, hostile names and links, and concurrent
//! writers and readers.
#![cfg(not(miri))]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    sync::Arc,
};

use clr_store::{
    Directory, ProblemKind, Storage, Store,
    simulation::{Fault, Faults, Moment, Operation},
};

use crate::{
    scenario::ALL,
    world::{NOW, confirmed, file, open, options, see},
};

/// Creates a temporary directory, in memory if the system supports that. The tests need real system calls, but no disk.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_program_stopped_anywhere_leaves_the_old_state_or_the_new_one() {
    let mut stops = 0;
    for scenario in ALL {
        let base = scratch();
        (scenario.set_up)(&Store::open_directory(base.path(), options()).unwrap());
        let (before, after, operations) = {
            let directory = scratch();
            copy(base.path(), directory.path());
            scenario.rehearse(Arc::new(Directory::open(directory.path()).unwrap()))
        };
        for (at, operation) in operations.iter().enumerate() {
            let directory = scratch();
            copy(base.path(), directory.path());
            let faults = Arc::new(Faults::new(Arc::new(Directory::open(directory.path()).unwrap())));
            let store = open(faults.clone());
            let is_write = operation.0 == Operation::Write;
            let moment = if is_write { Moment::Half } else { Moment::Before };
            faults.set(Some(Fault::Stop { at, moment }));
            let _ = (scenario.act)(&store);
            drop(store);
            let store = Store::open_directory(directory.path(), options()).unwrap();
            let got = see(&store);
            assert!(
                got == before || got == after,
                "{}, stopped at {operation:?}: {got:#?}",
                scenario.name
            );
            assert_eq!(store.problems(), []);
            assert_eq!(store.verify().unwrap().problems, []);
            stops += 1;
        }
    }
    println!(
        "{} operations in a real directory, stopped at {stops} points",
        ALL.len()
    );
}

#[test]
fn links_and_odd_files_are_not_followed() {
    let outside = scratch();
    fs::write(outside.path().join("secret"), b"secret").unwrap();
    let root = scratch();
    let store = Store::open_directory(root.path(), options()).unwrap();
    let digest = confirmed(&store, &file("birds", 1));
    confirmed(&store, &file("birds", 2));
    drop(store);
    // Replaces an adapter and a temporary file by links.
    let adapter = root.path().join(format!("adapters/{digest}.clr"));
    fs::remove_file(&adapter).unwrap();
    fs::write(outside.path().join("adapter"), file("birds", 1)).unwrap();
    symlink(outside.path().join("adapter"), &adapter).unwrap();
    symlink(outside.path().join("secret"), root.path().join("tasks/birds.new")).unwrap();
    symlink(outside.path(), root.path().join("examples/birds")).unwrap();
    let store = Store::open_directory(root.path(), options()).unwrap();
    assert_eq!(store.serving("birds").unwrap().held.version, 2);
    assert!(store.file(&digest).is_err());
    store.install(&file("birds", 3), NOW).unwrap_err();
    store.add_example("birds", Some("wren"), b"picture", NOW).unwrap_err();
    assert!(store.examples("birds").is_err());
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2);
    let problems = store.verify().unwrap().problems;
    assert!(
        problems
            .iter()
            .any(|problem| problem.file == "examples/birds" && problem.kind == ProblemKind::Unknown)
    );
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let root = scratch();
    let directory = Directory::open(&root.path().join("inner/store")).unwrap();
    for path in [
        "..",
        "../x",
        "a/../x",
        "/etc/passwd",
        "a//b",
        ".",
        "",
        "a/",
        "A",
        "ü",
        "a b",
        "a\0",
    ] {
        assert!(directory.create(path).is_err(), "{path}");
        assert!(directory.remove(path).is_err(), "{path}");
        assert!(directory.create_directory(path).is_err(), "{path}");
        assert!(directory.read(path, 0, 1).is_err(), "{path}");
    }
    assert_eq!(fs::read_dir(root.path().join("inner")).unwrap().count(), 1);
}

#[test]
fn only_the_owner_can_access_the_files() {
    let root = scratch();
    let store = Store::open_directory(root.path(), options()).unwrap();
    confirmed(&store, &file("birds", 1));
    store.add_example("birds", Some("wren"), b"picture", NOW).unwrap();
    let mut directories = vec![root.path().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            }
        }
    }
}

#[test]
fn the_real_directory_and_the_simulated_disk_behave_alike() {
    for scenario in ALL {
        let root = scratch();
        let real = Store::open_directory(root.path(), options()).unwrap();
        let (_, simulated) = crate::world::fresh();
        for store in [&real, &simulated] {
            (scenario.set_up)(store);
            (scenario.act)(store).unwrap();
        }
        assert_eq!(see(&real), see(&simulated), "{}", scenario.name);
    }
}
