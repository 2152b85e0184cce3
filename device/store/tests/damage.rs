//! Files changed by another program or a failing medium are reported and never served, and the store keeps working.

use clr_adapters::Digest;
use clr_store::{Damage, ProblemKind, StoreError, simulation::Disk};

use crate::world::{NOW, assert_tidy, confirmed, file, fresh, open, see};

fn path(file: &[u8]) -> String {
    format!("adapters/{}.clr", Digest::of(file))
}

fn flip(disk: &Disk, path: &str, at: usize) {
    let (_, mut contents) = disk.files().into_iter().find(|(name, _)| name == path).unwrap();
    contents[at] ^= 0x40;
    disk.put(path, &contents).unwrap();
}

#[test]
fn an_altered_adapter_is_skipped_in_favour_of_the_last_good_one() {
    let files = [1, 2, 3].map(|version| file("birds", version));
    for altered in 0..files[0].len() {
        let (disk, store) = fresh();
        confirmed(&store, &files[0]);
        confirmed(&store, &files[1]);
        store.install(&files[2], NOW).unwrap();
        let serves = || {
            let serving = store.serving("birds").unwrap();
            (serving.held.version, serving.trial, serving.passed_over.len())
        };
        flip(&disk, &path(&files[2]), altered);
        assert_eq!(serves(), (2, false, 1));
        flip(&disk, &path(&files[1]), altered);
        assert_eq!(serves(), (1, false, 2));
        let problems = store.verify().unwrap().problems;
        assert_eq!(problems.len(), 2);
        assert!(
            problems
                .iter()
                .all(|problem| matches!(problem.kind, ProblemKind::Digest { .. }))
        );
        flip(&disk, &path(&files[0]), altered);
        let error = store.serving("birds").unwrap_err();
        assert!(matches!(&error, StoreError::NothingServes { tried, .. } if tried.len() == 3));
        assert!(error.to_string().contains(&path(&files[0])), "{error}");
        if cfg!(miri) || altered > 40 {
            break;
        }
    }
}

#[test]
fn sending_a_damaged_adapter_again_repairs_it() {
    let (disk, store) = fresh();
    let bytes = file("birds", 1);
    let digest = confirmed(&store, &bytes);
    flip(&disk, &path(&bytes), 100);
    assert!(store.serving("birds").is_err());
    assert!(store.file(&digest).is_err());
    assert_eq!(store.begin(&digest, bytes.len() as u64).unwrap(), 0);
    store.append(&digest, 0, &bytes).unwrap();
    assert!(store.commit(&digest, NOW).unwrap().already);
    assert_eq!(store.serving("birds").unwrap().held.digest, digest);
    assert_tidy(&store, &disk);
}

#[test]
fn a_damaged_adapter_does_not_become_the_last_good_one() {
    let (disk, store) = fresh();
    let first = confirmed(&store, &file("birds", 1));
    confirmed(&store, &file("birds", 2));
    flip(&disk, &path(&file("birds", 2)), 50);
    confirmed(&store, &file("birds", 3));
    assert_eq!(store.task("birds").unwrap().last_good.unwrap().digest, first);
    assert_tidy(&store, &disk);
}

#[test]
fn missing_and_shortened_adapters_are_found_when_the_store_opens() {
    use clr_store::Storage as _;

    let (disk, store) = fresh();
    confirmed(&store, &file("birds", 1));
    confirmed(&store, &file("birds", 2));
    drop(store);
    disk.remove(&path(&file("birds", 1))).unwrap();
    disk.put(&path(&file("birds", 2)), b"short").unwrap();
    let store = open(disk);
    let kinds: Vec<_> = store.problems().iter().map(|problem| problem.kind.clone()).collect();
    assert!(
        matches!(kinds[..], [ProblemKind::Length { got: 5, .. }, ProblemKind::Missing]),
        "{kinds:?}"
    );
    assert_eq!(store.verify().unwrap().problems.len(), 2);
}

#[test]
fn a_record_under_the_wrong_name_is_not_used() {
    let (disk, store) = fresh();
    confirmed(&store, &file("birds", 1));
    drop(store);
    let (_, record) = disk
        .files()
        .into_iter()
        .find(|(name, _)| name == "tasks/birds")
        .unwrap();
    disk.put("tasks/cats", &record).unwrap();
    let store = open(disk);
    assert_eq!(store.problems()[0].kind, ProblemKind::Damaged(Damage::Name));
    assert_eq!(store.tasks().len(), 1);
}

#[test]
fn unknown_files_are_reported_and_kept_and_leftovers_are_removed() {
    let (disk, store) = fresh();
    confirmed(&store, &file("birds", 1));
    let before = see(&store);
    drop(store);
    let unknown = [
        "note.txt",
        "adapters/note.txt",
        "tasks/No",
        "incoming/x",
        "checkpoints/X.y",
        "examples/note",
        "tasks/%",
        "copies/No",
    ];
    for name in unknown {
        disk.put(name, b"somebody's").unwrap();
    }
    let other = file("birds", 9);
    let leftovers = [
        path(&other),
        format!("{}.new", path(&other)),
        "tasks/birds.new".into(),
        "active.new".into(),
        "active.copy.new".into(),
        "copies/birds.new".into(),
        "checkpoints/birds.new".into(),
        format!("incoming/{}.part", Digest::of(b"x")),
        format!("incoming/{}.part", Digest::of(&file("birds", 1))),
    ];
    for name in &leftovers {
        disk.put(name, b"half").unwrap();
    }
    let store = open(disk.clone());
    assert_eq!(see(&store), before);
    let names: Vec<_> = disk.files().into_iter().map(|(name, _)| name).collect();
    assert!(leftovers.iter().all(|name| !names.contains(name)), "{names:?}");
    assert!(
        unknown.iter().all(|name| names.contains(&(*name).to_owned())),
        "{names:?}"
    );
    let problems = store.verify().unwrap().problems;
    assert_eq!(problems.len(), unknown.len(), "{problems:?}");
    assert!(problems.iter().all(|problem| problem.kind == ProblemKind::Unknown));
}

#[test]
fn an_adapter_that_was_never_installed_is_not_served() {
    let (disk, store) = fresh();
    confirmed(&store, &file("birds", 1));
    disk.put(&path(&file("birds", 2)), &file("birds", 2)).unwrap();
    assert_eq!(store.serving("birds").unwrap().held.version, 1);
    assert!(matches!(
        store.file(&Digest::of(&file("birds", 2))),
        Err(StoreError::NoSuchAdapter { .. })
    ));
    assert_eq!(store.verify().unwrap().problems[0].kind, ProblemKind::Leftover);
}

#[test]
fn damaged_examples_run_states_and_active_task_are_reported() {
    let (disk, store) = fresh();
    confirmed(&store, &file("birds", 1));
    store.add_example("birds", Some("wren"), b"one", NOW).unwrap();
    store.add_example("birds", Some("wren"), b"two", NOW).unwrap();
    store.put_checkpoint("birds", b"weights").unwrap();
    store.set_active(&["birds"]).unwrap();
    let example = format!("examples/birds/{}", Digest::of(b"one"));
    let length = disk.files().iter().find(|(name, _)| *name == example).unwrap().1.len();
    flip(&disk, &example, length - 1);
    assert!(matches!(
        store.example("birds", &Digest::of(b"one")),
        Err(StoreError::Damaged { .. })
    ));
    flip(&disk, &example, 3);
    assert_eq!(store.examples("birds").unwrap().len(), 1);
    flip(&disk, "checkpoints/birds", 14);
    flip(&disk, "active", 14);
    let problems = store.verify().unwrap().problems;
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(matches!(store.checkpoint("birds"), Err(StoreError::Damaged { .. })));
    drop(store);
    let store = open(disk.clone());
    assert_eq!(store.active(), ["birds"]);
    assert_eq!(store.problems().len(), 1);
    // Writing each of them again repairs it.
    store.clear_checkpoint("birds").unwrap();
    store.add_example("birds", Some("wren"), b"one", NOW).unwrap();
    assert_eq!(store.verify().unwrap().problems, []);
}
