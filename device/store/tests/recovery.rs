//! The stages of recovery: the file, its copy, salvage from adapters, and an open store that reports the loss.

use std::sync::Arc;

use clr_adapters::{Digest, Refusal};
use clr_store::{
    Damage, ProblemKind, Recovery, Storage as _, Store, StoreError,
    simulation::{Disk, Fault, Faults},
};

use crate::world::{NOW, Seen, assert_tidy, confirmed, confirmed_tuned, file, fresh, open, see, tuned};

const RECORD: &str = "tasks/birds";
const COPY: &str = "copies/birds";

fn stored(disk: &Disk, path: &str) -> Vec<u8> {
    let file = disk.files().into_iter().find(|(name, _)| name == path);
    file.unwrap_or_else(|| panic!("no {path}")).1
}

fn flip(disk: &Disk, path: &str, at: usize) {
    let mut bytes = stored(disk, path);
    bytes[at] ^= 1 << (at % 8);
    disk.put(path, &bytes).unwrap();
}

fn kinds(store: &Store) -> Vec<ProblemKind> {
    store.problems().iter().map(|problem| problem.kind.clone()).collect()
}

/// Returns a store with two tasks with a history, `birds` as the active task, and a recorded time.
fn past() -> (Arc<Disk>, Seen) {
    let (disk, store) = fresh();
    confirmed(&store, &file("birds", 1));
    confirmed(&store, &file("birds", 4));
    confirmed(&store, &file("cats", 1));
    store.set_active(&["birds"]).unwrap();
    store.raise_time_floor(1_900_000_000).unwrap();
    (disk, see(&store))
}

#[test]
fn any_damage_to_one_of_two_copies_loses_nothing_and_is_repaired() {
    let (base, before) = past();
    let mut damages = 0;
    for path in [RECORD, COPY, "active", "active.copy", "time", "time.copy"] {
        let whole = stored(&base, path);
        let mut ways: Vec<Option<Vec<u8>>> = vec![None, Some(Vec::new()), Some(whole[..whole.len() / 2].to_vec())];
        for at in (0..whole.len()).step_by(if cfg!(miri) { 29 } else { 1 }) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            ways.push(Some(flipped));
        }
        for way in ways {
            let disk = Arc::new(base.copy());
            disk.remove(path).unwrap();
            match &way {
                Some(bytes) => disk.put(path, bytes).unwrap(),
                None => disk
                    .sync_directory(path.rsplit_once('/').map_or("", |(directory, _)| directory))
                    .unwrap(),
            }
            let store = open(disk.clone());
            assert_eq!(see(&store), before, "{path}");
            let of_copy = path.contains("cop");
            match &kinds(&store)[..] {
                [
                    ProblemKind::Recovered {
                        recovery: Recovery::Copy,
                        ..
                    },
                ] => assert!(!of_copy, "{path}"),
                [ProblemKind::Damaged(_)] => assert!(of_copy, "{path}"),
                [] => assert!(of_copy && way.is_none(), "{path}"),
                other => panic!("{path}: {other:?}"),
            }
            drop(store);
            assert_tidy(&open(disk.clone()), &disk);
            damages += 1;
        }
    }
    println!("{damages} damages to one of two copies");
}

#[test]
fn a_folder_in_the_place_of_any_file_is_set_aside() {
    let (base, before) = past();
    for path in [
        RECORD,
        COPY,
        "active",
        "active.copy",
        "time",
        "time.copy",
        "tasks/birds.new",
        "active.new",
    ] {
        let disk = Arc::new(base.copy());
        if !path.contains(".new") {
            disk.remove(path).unwrap();
        }
        disk.create_directory(path).unwrap();
        disk.put(&format!("{path}/somebodys"), b"file").unwrap();
        disk.sync_directory(path.rsplit_once('/').map_or("", |(directory, _)| directory))
            .unwrap();
        let store = open(disk.clone());
        assert_eq!(see(&store), before, "{path}");
        // Changes are still possible.
        confirmed(&store, &file("birds", 5));
        store.set_active(&["cats"]).unwrap();
        store.raise_time_floor(2_000_000_000).unwrap();
        let after = see(&store);
        drop(store);
        assert_eq!(see(&open(disk.clone())), after, "{path}");
        assert!(
            disk.files()
                .iter()
                .any(|(name, _)| *name == format!("{path}.aside1/somebodys")),
            "{path}"
        );
    }
}

#[test]
fn a_record_that_is_lost_in_both_copies_is_salvaged_from_its_adapters() {
    let (disk, _) = past();
    flip(&disk, RECORD, 20);
    flip(&disk, COPY, 30);
    let store = open(disk.clone());
    assert_eq!(store.active(), ["birds"]);
    let serving = store.serving("birds").unwrap();
    // The newest adapter serves as before. Whether it was confirmed is unknown, so its trial starts again.
    assert_eq!((serving.held.version, serving.trial), (4, true));
    let salvaged = Recovery::Adapters {
        version: 4,
        highest_admitted: 4,
    };
    let problem = store.problems().iter().find(|problem| problem.file == RECORD).unwrap();
    assert!(matches!(&problem.kind, ProblemKind::Recovered { recovery, .. } if *recovery == salvaged));
    assert!(
        problem.to_string().contains("versions above 4 are accepted"),
        "{problem}"
    );
    for version in [1, 3] {
        let refused = store.install(&file("birds", version), NOW);
        assert!(matches!(
            refused,
            Err(StoreError::Refused(
                Refusal::Replay { .. }
                    | Refusal::Downgrade {
                        highest_admitted: 4,
                        ..
                    }
            ))
        ));
    }
    let before = see(&store);
    drop(store);
    // The repair was written, so the next start finds no problem.
    let store = open(disk.clone());
    assert_eq!(see(&store), before);
    assert_tidy(&store, &disk);
    store.rollback("birds", NOW).unwrap();
    assert_eq!(store.serving("birds").unwrap().held.version, 1);
}

#[test]
fn a_salvaged_task_keeps_what_the_device_tuned_and_its_original() {
    let (disk, store) = fresh();
    confirmed(&store, &file("birds", 2));
    confirmed_tuned(&store, &tuned("birds", 2, 1));
    drop(store);
    flip(&disk, RECORD, 20);
    flip(&disk, COPY, 20);
    let store = open(disk);
    let serving = store.serving("birds").unwrap();
    assert!(serving.held.tuned && serving.held.revision == 1);
    store.mark_good("birds").unwrap();
    store.restore("birds", NOW).unwrap();
    assert!(!store.serving("birds").unwrap().held.tuned);
    assert_eq!(store.task("birds").unwrap().highest_admitted, 2);
}

#[test]
fn a_read_only_disk_salvages_at_each_start() {
    let (disk, before) = past();
    flip(&disk, RECORD, 20);
    let faults = Arc::new(Faults::new(disk.clone()));
    let (at, errno, forever) = (0, 30, true);
    faults.set(Some(Fault::Fail { at, errno, forever }));
    assert_eq!(see(&open(faults.clone())), before);
    flip(&disk, COPY, 20);
    for _ in 0..2 {
        faults.set(Some(Fault::Fail { at, errno, forever }));
        let store = open(faults.clone());
        assert_eq!(store.serving("birds").unwrap().held.version, 4);
        assert_eq!(store.serving("cats").unwrap().held.version, 1);
    }
}

#[test]
fn a_completely_lost_record_affects_no_other_task() {
    let (disk, _) = past();
    flip(&disk, RECORD, 20);
    flip(&disk, COPY, 20);
    for version in [1, 4] {
        flip(
            &disk,
            &format!("adapters/{}.clr", Digest::of(&file("birds", version))),
            50,
        );
    }
    let store = open(disk.clone());
    assert_eq!(store.tasks().len(), 1);
    assert_eq!(store.serving("cats").unwrap().held.version, 1);
    for refused in [
        store.serving("birds").map(drop),
        store.install(&file("birds", 5), NOW).map(drop),
    ] {
        let error = refused.unwrap_err();
        assert!(
            matches!(&error, StoreError::DamagedRecord { .. }) && error.to_string().contains("hint:"),
            "{error}"
        );
    }
    assert!(store.active().is_empty());
    confirmed(&store, &file("cats", 2));
    // After its removal, the task can be installed again.
    store.remove("birds").unwrap();
    confirmed(&store, &file("birds", 5));
    drop(store);
    assert_tidy(&open(disk.clone()), &disk);
}

#[test]
fn without_the_active_tasks_name_the_one_confirmed_last_serves() {
    let (disk, _) = past();
    let lost = |disk: &Disk| {
        flip(disk, "active", 14);
        flip(disk, "active.copy", 14);
    };
    lost(&disk);
    let store = open(disk.clone());
    assert_eq!(store.active(), ["cats"]);
    store.remove("cats").unwrap();
    assert_eq!(store.active(), ["birds"], "the only one");
    // Setting the active task again repairs the file.
    store.set_active(&["birds"]).unwrap();
    drop(store);
    assert_tidy(&open(disk.clone()), &disk);
}

#[test]
fn records_of_format_1_are_read_and_their_highest_version_rises_to_the_trial() {
    // Built from the format's description in the crate documentation, independently of the parser.
    let mut contents = vec![5];
    contents.extend(b"birds");
    let held = |byte: u8, version: u8, bytes: [u8; 2]| {
        let mut held = vec![byte; 32];
        held.extend([version, 0]);
        held.extend(bytes);
        held.push(0);
        held
    };
    contents.push(1);
    contents.extend(held(1, 3, [0xac, 2]));
    contents.push(1);
    contents.extend(held(2, 5, [0x90, 3]));
    contents.push(2);
    contents.extend([0, 0, 3, 0, 1]);
    contents.extend([1; 32]);
    contents.push(0);
    let mut record = b"CLRtask\x01".to_vec();
    record.extend((contents.len() as u32).to_le_bytes());
    record.extend(&contents);
    record.extend(crc32(&record).to_le_bytes());
    let disk = Arc::new(Disk::new());
    drop(open(disk.clone()));
    disk.put(RECORD, &record).unwrap();
    let store = open(disk.clone());
    let state = store.task("birds").unwrap();
    assert_eq!((state.highest_admitted, state.confirmed.unwrap().version), (5, 3));
    let trial = state.trial.unwrap();
    assert_eq!(
        (
            trial.held.version,
            trial.held.bytes,
            trial.unclean,
            trial.highest_before
        ),
        (5, 400, 0, 3)
    );
    drop(store);
    // The record is rewritten in the current format, with a copy.
    let now = self::stored(&disk, RECORD);
    assert_eq!((&now[..8], &now), (&b"CLRtask\x02"[..], &self::stored(&disk, COPY)));
    // A later format is unknown.
    disk.put(RECORD, &[b"CLRtask\x03", &now[8..]].concat()).unwrap();
    disk.remove(COPY).unwrap();
    assert_eq!(kinds(&open(disk))[0], ProblemKind::Damaged(Damage::Magic));
}

fn crc32(bytes: &[u8]) -> u32 {
    // CRC-32 (IEEE, reflected), as in the format's description.
    let step = |mut crc: u32| {
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
        crc
    };
    !bytes
        .iter()
        .fold(!0, |crc, &byte| step((crc ^ u32::from(byte)) & 0xff) ^ crc >> 8)
}

/// Whatever a file contains, opening finishes, and either accepts the contents or reports a problem.
#[test]
fn arbitrary_bytes_in_the_place_of_any_file_are_survived() {
    use proptest::prelude::*;
    let (base, _) = past();
    let adapter = format!("adapters/{}.clr", Digest::of(&file("birds", 4)));
    let paths = [
        RECORD,
        COPY,
        "active",
        "time",
        &adapter,
        "checkpoints/birds",
        "incoming/0000000000000000000000000000000000000000000000000000000000000000.part",
    ];
    let config = ProptestConfig {
        cases: if cfg!(miri) { 3 } else { 300 },
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(path in 0..7_usize, magic in 0..6_usize, rest in prop::collection::vec(any::<u8>(), 0..80))| {
        let magics: [&[u8]; 6] = [b"", b"CLRtask\x02", b"CLRtask\x01", b"CLRactv\x01", b"CLRtime\x01", b"CLRpart\x01"];
        // The checksum is correct, so that the contents are parsed.
        let mut bytes = magics[magic].to_vec();
        if !bytes.is_empty() {
            bytes.extend((rest.len() as u32).to_le_bytes());
        }
        bytes.extend(&rest);
        bytes.extend(crc32(&bytes).to_le_bytes());
        let disk = Arc::new(base.copy());
        disk.put(paths[path], &bytes).unwrap();
        let store = open(disk);
        let _ = store.verify().unwrap();
        prop_assert_eq!(store.serving("cats").unwrap().held.version, 1);
    });
}
