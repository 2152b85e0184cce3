//! Caps on the store's contents, and the space reserved for records.

use std::{io, sync::Arc};

use clr_adapters::Digest;
use clr_store::{Caps, Entry, LockError, Storage, StorageFile, StorageLock, Store, StoreError, simulation::Disk};

use crate::world::{NOW, confirmed, file, fresh, options};

fn with_caps(disk: Arc<dyn Storage>, caps: Caps) -> Store {
    Store::open(disk, options().with_caps(caps)).unwrap()
}

fn full<T: std::fmt::Debug>(result: Result<T, StoreError>) -> &'static str {
    match result.unwrap_err() {
        error @ StoreError::Full { .. } => {
            assert!(error.to_string().contains("hint:"), "{error}");
            let StoreError::Full { what, .. } = error else {
                unreachable!()
            };
            what
        }
        error => panic!("{error}"),
    }
}

/// Otherwise, examples could create an unlimited number of unlisted tasks.
#[test]
fn tasks_with_only_examples_count_and_are_listed() {
    let disk = Arc::new(Disk::new());
    let caps = Caps {
        tasks: 5,
        ..Caps::DEFAULT
    };
    let store = with_caps(disk.clone(), caps);
    confirmed(&store, &file("birds", 1));
    for ghost in 0..4 {
        store
            .add_example(&format!("ghost{ghost}"), Some("x"), b"picture", NOW)
            .unwrap();
    }
    assert_eq!(full(store.add_example("ghost4", Some("x"), b"picture", NOW)), "tasks");
    assert_eq!(full(store.put_checkpoint("ghost4", b"weights")), "tasks");
    assert_eq!(full(store.install(&file("cats", 1), NOW)), "tasks");
    assert_eq!(store.taught_only(), ["ghost0", "ghost1", "ghost2", "ghost3"]);
    // Existing tasks still accept examples.
    store.add_example("ghost0", Some("y"), b"another", NOW).unwrap();
    store.add_example("birds", Some("wren"), b"picture", NOW).unwrap();
    store.install(&file("birds", 2), NOW).unwrap();
    drop(store);
    let store = with_caps(disk, caps);
    assert_eq!(full(store.add_example("ghost4", Some("x"), b"picture", NOW)), "tasks");
    // Removing a task, or its last example, makes room for another.
    store.remove("ghost1").unwrap();
    store.add_example("ghost4", Some("x"), b"picture", NOW).unwrap();
    store.remove_example("ghost2", &Digest::of(b"picture")).unwrap();
    store.install(&file("ghost3", 1), NOW).unwrap();
    assert_eq!(store.taught_only(), ["ghost0", "ghost4"]);
    store.install(&file("cats", 1), NOW).unwrap();
}

#[test]
fn the_stores_bytes_have_a_cap_and_records_do_not_need_room() {
    let disk = Arc::new(Disk::new());
    let caps = Caps {
        state_bytes: 256 << 10,
        reserve_bytes: 64 << 10,
        examples_per_task: 1_000,
        ..Caps::DEFAULT
    };
    let store = with_caps(disk.clone(), caps);
    confirmed(&store, &file("birds", 1));
    store.install(&file("birds", 2), NOW).unwrap();
    let mut filed = 0_u8;
    let what = loop {
        match store.add_example("birds", Some("wren"), &[filed; 5_000], NOW) {
            Ok(_) => filed += 1,
            refused => break full(refused),
        }
    };
    // 8 KiB each on the disk.
    assert!((15..=24).contains(&filed), "{filed}");
    assert_eq!(what, "bytes of the store");
    assert_eq!(
        full(store.put_checkpoint("birds", &vec![0; 30_000])),
        "bytes of the store"
    );
    // Records are still written.
    store.mark_good("birds").unwrap();
    store.rollback("birds", NOW).unwrap();
    store.set_active(&["birds"]).unwrap();
    store.raise_time_floor(1_900_000_000).unwrap();
    // After a restart existing files are counted again, and removals free space.
    drop(store);
    let store = with_caps(disk, caps);
    assert_eq!(
        full(store.add_example("birds", Some("wren"), &[99; 9_000], NOW)),
        "bytes of the store"
    );
    for image in 0..4 {
        store.remove_example("birds", &Digest::of(&[image; 5_000])).unwrap();
    }
    store.add_example("birds", Some("wren"), &[99; 9_000], NOW).unwrap();
}

/// A disk with this many free bytes.
struct Free(Arc<Disk>, u64);

impl Storage for Free {
    fn create(&self, path: &str) -> io::Result<Box<dyn StorageFile>> {
        self.0.create(path)
    }
    fn open(&self, path: &str) -> io::Result<Box<dyn StorageFile>> {
        self.0.open(path)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn sync_directory(&self, path: &str) -> io::Result<()> {
        self.0.sync_directory(path)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.0.remove(path)
    }
    fn create_directory(&self, path: &str) -> io::Result<()> {
        self.0.create_directory(path)
    }
    fn remove_directory(&self, path: &str) -> io::Result<()> {
        self.0.remove_directory(path)
    }
    fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        self.0.list(path)
    }
    fn read(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.0.read(path, offset, length)
    }
    fn length(&self, path: &str) -> io::Result<u64> {
        self.0.length(path)
    }
    fn free(&self) -> io::Result<u64> {
        Ok(self.1)
    }
    fn lock(&self, path: &str) -> Result<StorageLock, LockError> {
        self.0.lock(path)
    }
}

#[test]
fn the_disks_reserve_is_left_to_records() {
    let (disk, store) = fresh();
    confirmed(&store, &file("birds", 1));
    confirmed(&store, &file("birds", 2));
    drop(store);
    let nearly_full = Free(disk, Caps::DEFAULT.reserve_bytes + 1_000);
    let store = Store::open(Arc::new(nearly_full), options()).unwrap();
    assert!(full(store.add_example("birds", Some("wren"), b"picture", NOW)).contains("disk"));
    assert!(full(store.put_checkpoint("birds", b"weights")).contains("disk"));
    assert!(full(store.install(&file("birds", 3), NOW)).contains("disk"));
    store.rollback("birds", NOW).unwrap();
    store.set_active(&["birds"]).unwrap();
}
