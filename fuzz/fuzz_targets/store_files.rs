//! Fuzz target of damaged store files: `clr_store::Store::open`, its readers and its writers.
//!
//! One file of a store is replaced by the bytes: unchanged, sealed again (magic, length and checksum repaired), or as a
//! change to the original file. The task of the other files must be served as before, and accept an update.
#![no_main]

#[path = "../../adapters/format/tests/allocation.rs"]
mod allocation;
#[allow(dead_code)]
#[path = "../../device/store/tests/world.rs"]
mod world;

use std::sync::{Arc, LazyLock};

use clr_adapters::Digest;
use clr_store::{Store, simulation::Disk};
use libfuzzer_sys::{
    arbitrary::{self, Arbitrary, Unstructured},
    fuzz_target,
};
use world::{NOW, confirmed, confirmed_tuned, file, open, options, push, tuned};

/// The task whose files are not changed.
const UNTOUCHED: &str = "fish";

/// Maximum bytes that opening a store with a damaged file may use, in addition to the disk's copies.
const MEMORY: usize = 8 << 20;

/// The change to the file.
#[derive(Arbitrary, Debug)]
enum Damage<'a> {
    Replaced(&'a [u8]),
    /// Replaces the contents of a sealed file, and keeps its magic.
    Sealed(&'a [u8]),
    /// Replaces the contents of a sealed file and the bytes after them.
    SealedHead {
        contents: &'a [u8],
        rest: &'a [u8],
    },
    Overwritten {
        at: u16,
        bytes: &'a [u8],
    },
    /// Overwrites bytes of a sealed file and repairs its checksum.
    OverwrittenSealed {
        at: u16,
        bytes: &'a [u8],
    },
    Cut(u16),
    Appended(&'a [u8]),
    /// Another file of the store in its place.
    Swapped(u8),
}

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    file: u8,
    damage: Damage<'a>,
}

/// A store with every kind of content: confirmed, on trial, tuned, examples, a run state, an active task, an upload in
/// progress.
static WHOLE: LazyLock<Arc<Disk>> = LazyLock::new(|| {
    let disk = Arc::new(Disk::new());
    let store = open(disk.clone());
    confirmed(&store, &file("birds", 1));
    confirmed(&store, &file("birds", 2));
    confirmed_tuned(&store, &tuned("birds", 2, 1));
    store.install(&file("birds", 3), NOW).unwrap();
    for image in [&b"one image"[..], b"another image"] {
        store.add_example("birds", Some("robin"), image, NOW).unwrap();
    }
    store.put_checkpoint("birds", &[7; 300]).unwrap();
    store.set_active(&["birds"]).unwrap();
    let upload = file("cats", 1);
    let _ = push(&store, &upload[..upload.len() - 1], 100);
    confirmed(&store, &file(UNTOUCHED, 1));
    drop(store);
    disk
});

fn sealed(before: &[u8], contents: &[u8]) -> Vec<u8> {
    let mut file = before[..before.len().min(8)].to_vec();
    file.extend((contents.len() as u32).to_le_bytes());
    file.extend(contents);
    file.extend(crc32fast::hash(&file).to_le_bytes());
    file
}

/// Repairs length and checksum of a file that is sealed completely.
fn sealed_again(file: &mut [u8]) {
    if let Some(contents) = file.len().checked_sub(16) {
        file[8..12].copy_from_slice(&(contents as u32).to_le_bytes());
        let end = 12 + contents;
        let crc = crc32fast::hash(&file[..end]);
        file[end..].copy_from_slice(&crc.to_le_bytes());
    }
}

impl Damage<'_> {
    fn apply(&self, before: &[u8], files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let overwritten = |at: u16, bytes: &[u8]| {
            let mut file = before.to_vec();
            let at = usize::from(at) % (file.len() + 1);
            for (to, from) in file[at..].iter_mut().zip(bytes) {
                *to = *from;
            }
            file
        };
        match *self {
            Self::Replaced(bytes) => bytes.to_vec(),
            Self::Sealed(contents) => sealed(before, contents),
            Self::SealedHead { contents, rest } => [&sealed(before, contents), rest].concat(),
            Self::Overwritten { at, bytes } => overwritten(at, bytes),
            Self::OverwrittenSealed { at, bytes } => {
                let mut file = overwritten(at, bytes);
                sealed_again(&mut file);
                file
            }
            Self::Cut(at) => before[..usize::from(at) % (before.len() + 1)].to_vec(),
            Self::Appended(bytes) => [before, bytes].concat(),
            Self::Swapped(other) => files[usize::from(other) % files.len()].1.clone(),
        }
    }
}

/// Reads everything. Damaged data must give an error and not a panic.
fn read(store: &Store) {
    for state in store.tasks().iter() {
        if let Ok(serving) = store.serving(&state.task) {
            assert_eq!(serving.decoded.adapter.header.task, state.task);
            assert!(store.file(&serving.decoded.digest).is_ok());
        }
        for example in store.examples(&state.task).unwrap_or_default() {
            if let Ok(image) = store.example(&state.task, &example.id) {
                assert_eq!(Digest::of(&image), example.id);
            }
        }
        let _ = store.checkpoint(&state.task);
    }
    let _ = store.active();
    let _ = store.verify();
}

/// Returns whether a file is a record or adapter of the unchanged task, by its name or digest.
fn untouched(name: &str) -> bool {
    name.contains(UNTOUCHED) || name == format!("adapters/{}.clr", Digest::of(&file(UNTOUCHED, 1)))
}

fuzz_target!(|data: &[u8]| {
    let Ok(case) = Case::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let disk = Arc::new(WHOLE.copy());
    let files: Vec<_> = disk.files().into_iter().filter(|(name, _)| !untouched(name)).collect();
    let (name, before) = &files[usize::from(case.file) % files.len()];
    let after = case.damage.apply(before, &files);
    let room = MEMORY + 4 * after.len();
    disk.put(name, &after).unwrap();

    let mut opened = None;
    let peak = allocation::peak(|| opened = Some(Store::open(disk.clone(), options())));
    assert!(peak <= room, "`{name}`: {peak} bytes to open {} bytes", after.len());
    let store = opened
        .unwrap()
        .unwrap_or_else(|error| panic!("`{name}`: the store does not open: {error}"));
    read(&store);

    // The other task is served as before and accepts an update. Whatever was damaged can be used again.
    let serving = store.serving(UNTOUCHED).expect("a task with intact files serves");
    assert_eq!(serving.held.version, 1, "`{name}`");
    confirmed(&store, &file(UNTOUCHED, 2));
    if store.task("birds").is_ok() {
        let _ = store.install(&file("birds", 9), NOW);
        let _ = store.record_start("birds", true, NOW);
        let _ = store.rollback("birds", NOW);
    }
    let _ = store.add_example("birds", Some("wren"), b"a third image", NOW);
    let _ = push(&store, &file("cats", 1), 64);
    drop(store);
    let store = open(disk);
    read(&store);
    assert_eq!(store.serving(UNTOUCHED).unwrap().held.version, 2, "`{name}`");
});
