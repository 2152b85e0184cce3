//! Readers never block, and never see a partial change.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use clr_adapters::Digest;
use clr_store::{Entry, LockError, Storage, StorageFile, StorageLock, simulation::Disk};

use crate::world::{NOW, confirmed, file, fresh, open, see};

/// A disk whose renames block until released.
struct Slow {
    disk: Arc<Disk>,
    held_up: AtomicBool,
    waiting: SyncSender<()>,
    go: std::sync::Mutex<Receiver<()>>,
}

impl Storage for Slow {
    fn create(&self, path: &str) -> io::Result<Box<dyn StorageFile>> {
        self.disk.create(path)
    }
    fn open(&self, path: &str) -> io::Result<Box<dyn StorageFile>> {
        self.disk.open(path)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if self.held_up.load(Ordering::SeqCst) {
            self.waiting.send(()).unwrap();
            self.go.lock().unwrap().recv().unwrap();
        }
        self.disk.rename(from, to)
    }
    fn sync_directory(&self, path: &str) -> io::Result<()> {
        self.disk.sync_directory(path)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn create_directory(&self, path: &str) -> io::Result<()> {
        self.disk.create_directory(path)
    }
    fn remove_directory(&self, path: &str) -> io::Result<()> {
        self.disk.remove_directory(path)
    }
    fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        self.disk.list(path)
    }
    fn read(&self, path: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.disk.read(path, offset, length)
    }
    fn length(&self, path: &str) -> io::Result<u64> {
        self.disk.length(path)
    }
    fn lock(&self, path: &str) -> Result<StorageLock, LockError> {
        self.disk.lock(path)
    }
}

#[test]
fn readers_continue_while_a_writer_waits_for_the_disk() {
    let (waiting, waits) = sync_channel(0);
    let (go, goes) = sync_channel(0);
    let slow = Arc::new(Slow {
        disk: Arc::new(Disk::new()),
        held_up: AtomicBool::new(false),
        waiting,
        go: std::sync::Mutex::new(goes),
    });
    let store = open(slow.clone());
    let first = confirmed(&store, &file("birds", 1));
    store.add_example("birds", Some("wren"), b"picture", NOW).unwrap();
    let before = see(&store);
    slow.held_up.store(true, Ordering::SeqCst);
    thread::scope(|scope| {
        let writer = scope.spawn(|| store.install(&file("birds", 2), NOW).map(drop));
        // The writer blocks in the renames of the adapter, of the record, and of the record's copy.
        for _ in 0..3 {
            waits.recv().unwrap();
            assert_eq!(see(&store), before);
            assert_eq!(store.file(&first).unwrap(), file("birds", 1));
            go.send(()).unwrap();
        }
        writer.join().unwrap().unwrap();
    });
    assert_eq!(store.serving("birds").unwrap().held.version, 2);
}

#[test]
fn readers_during_many_updates_always_find_a_complete_adapter() {
    const VERSIONS: u64 = if cfg!(miri) { 5 } else { 300 };
    let (disk, store) = fresh();
    confirmed(&store, &file("birds", 1));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let (mut reads, mut newest) = (0_u64, 0);
                    while !done.load(Ordering::SeqCst) {
                        let serving = store.serving("birds").unwrap();
                        assert!(serving.passed_over.is_empty());
                        assert!(serving.held.version >= newest);
                        newest = serving.held.version;
                        if let Ok(bytes) = store.file(&serving.held.digest) {
                            assert_eq!(Digest::of(&bytes), serving.held.digest);
                        }
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        for version in 2..=VERSIONS {
            confirmed(&store, &file("birds", version));
        }
        done.store(true, Ordering::SeqCst);
        let reads: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        println!("{reads} reads during {VERSIONS} updates");
    });
    crate::world::assert_tidy(&store, &disk);
}
