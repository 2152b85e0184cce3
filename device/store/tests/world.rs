//! Keys, adapters, and the visible state of a store, for the tests.

use std::sync::Arc;

use clr_adapters::{
    Adapter, ChannelOrder, Digest, Encoding, Filter, Fit, Head, Header, Limits, Preprocessing, Provenance, Recipe,
    Release, SecretKey, SignedRelease, SignerClass, Terms, Trust, TrustedKey, encode, sign, sign_release,
};
use clr_store::{Caps, Storage, Store, StoreError, StoreOptions, StoredExample, StoredTask, simulation::Disk};

pub(crate) const NOW: Option<u64> = Some(1_800_000_000);

pub(crate) fn backbone() -> Digest {
    Digest::of(b"backbone")
}

pub(crate) fn publisher() -> SecretKey {
    SecretKey::from_bytes(&[1; 32])
}

pub(crate) fn device() -> SecretKey {
    SecretKey::from_bytes(&[2; 32])
}

pub(crate) fn options() -> StoreOptions {
    let key = publisher().public();
    let trust = Trust {
        publishers: vec![TrustedKey { key, tasks: None }],
        ..Trust::default()
    };
    StoreOptions::new(backbone(), trust)
        .with_caps(Caps {
            examples_per_task: 4,
            incoming_files: 2,
            incoming_bytes: 1 << 20,
            ..Caps::DEFAULT
        })
        .with_device_key(device())
}

/// Returns an unsigned adapter. Each `variant` gives another file of the same version.
pub(crate) fn adapter(task: &str, version: u64, revision: u32, variant: u8) -> Adapter {
    let preprocessing = Preprocessing {
        height: 8,
        width: 8,
        fit: Fit::Stretch,
        filter: Filter::Bilinear,
        channel_order: ChannelOrder::Rgb,
        mean: [0.0; 3],
        std: [255.0; 3],
    };
    let provenance = if revision > 0 {
        Provenance::DeviceTuned
    } else {
        Provenance::HostTrained
    };
    let labels = vec!["one".into(), "two".into()];
    let mut header = Header::new(task, labels, backbone(), preprocessing, provenance);
    header.recipe = Recipe::Linear;
    header.version = version;
    header.revision = revision;
    Adapter {
        header,
        sites: Vec::new(),
        head: Head {
            features: 3,
            weight: vec![f32::from(variant), 2.0, 3.0, 4.0, 5.0, 6.0],
            bias: vec![0.5, -0.5],
        },
    }
}

/// A publisher's file.
pub(crate) fn file(task: &str, version: u64) -> Vec<u8> {
    published(&adapter(task, version, 0, 0))
}

pub(crate) fn published(adapter: &Adapter) -> Vec<u8> {
    let file = encode(adapter, Encoding::F32).unwrap();
    sign_release(&file, &Terms::default(), &publisher()).unwrap()
}

/// The announcement of a file.
pub(crate) fn announcement(file: &[u8]) -> SignedRelease {
    SignedRelease::of_file(file, &Limits::DEFAULT).unwrap().unwrap()
}

/// Returns a publisher's announcement of a file with `length` bytes before its trailer. The contents are arbitrary.
pub(crate) fn announcement_of(task: &str, length: u64) -> SignedRelease {
    release(task, length).sign(&publisher()).unwrap()
}

pub(crate) fn release(task: &str, length: u64) -> Release {
    Release {
        task: task.to_owned(),
        version: 1,
        revision: 0,
        backbone: backbone(),
        created: None,
        expires: None,
        audience: Vec::new(),
        length,
        content: Digest([0; 32]),
    }
}

/// Returns a file that the device tuned.
pub(crate) fn tuned(task: &str, version: u64, revision: u32) -> Vec<u8> {
    let file = encode(&adapter(task, version, revision, 0), Encoding::F32).unwrap();
    sign(&file, SignerClass::Device, &device()).unwrap()
}

pub(crate) fn open(storage: Arc<dyn Storage>) -> Store {
    Store::open(storage, options()).unwrap()
}

pub(crate) fn fresh() -> (Arc<Disk>, Store) {
    let disk = Arc::new(Disk::new());
    let store = open(disk.clone());
    (disk, store)
}

/// Installs and confirms.
pub(crate) fn confirmed(store: &Store, file: &[u8]) -> Digest {
    let installed = store.install(file, NOW).unwrap();
    store.confirm(&installed.task, &installed.held.digest).unwrap().digest
}

/// Installs and confirms an adapter tuned on the device.
pub(crate) fn confirmed_tuned(store: &Store, file: &[u8]) -> Digest {
    let installed = store.install_tuned(file).unwrap();
    store.confirm(&installed.task, &installed.held.digest).unwrap().digest
}

/// Begins the upload of a file. It is announced if the file has a release statement.
pub(crate) fn begin(store: &Store, file: &[u8]) -> Result<u64, StoreError> {
    let (digest, length) = (Digest::of(file), file.len() as u64);
    match SignedRelease::of_file(file, &Limits::DEFAULT) {
        Ok(Some(announced)) => store.begin_announced(&digest, length, &announced, &digest, NOW),
        _ => store.begin(&digest, length),
    }
}

/// Pushes a file through an upload.
pub(crate) fn push(store: &Store, file: &[u8], chunk: usize) -> Result<(), StoreError> {
    let digest = Digest::of(file);
    let mut held = begin(store, file)? as usize;
    while held < file.len() {
        let end = file.len().min(held + chunk);
        held = store.append(&digest, held as u64, &file[held..end])? as usize;
    }
    store.commit(&digest, NOW).map(drop)
}

/// The visible state of a store, except uploads in progress.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) tasks: Vec<StoredTask>,
    /// For each task, the serving adapter and whether it is on trial.
    pub(crate) serving: Vec<Option<(Digest, bool)>>,
    pub(crate) active: Vec<String>,
    pub(crate) time: Option<u64>,
    pub(crate) examples: Vec<Vec<StoredExample>>,
    pub(crate) checkpoints: Vec<Option<Vec<u8>>>,
}

/// Names of the tasks whose examples and run states are compared.
const NAMES: [&str; 4] = ["birds", "cats", "fish", "a/../ Ü\"b"];

pub(crate) fn see(store: &Store) -> Seen {
    let tasks = store.tasks();
    let serving = tasks.iter().map(|state| {
        let serving = store.serving(&state.task).ok()?;
        assert!(serving.passed_over.is_empty(), "{:?}", serving.passed_over);
        assert_eq!(serving.decoded.adapter.header.task, state.task);
        Some((serving.decoded.digest, serving.trial))
    });
    let examples = NAMES.map(|task| {
        let examples = store.examples(task).unwrap();
        for example in &examples {
            let image = store.example(task, &example.id).unwrap();
            assert_eq!(Digest::of(&image), example.id);
        }
        examples
    });
    Seen {
        serving: serving.collect(),
        active: store.active(),
        time: store.time_floor(),
        examples: examples.to_vec(),
        checkpoints: NAMES.map(|task| store.checkpoint(task).unwrap()).to_vec(),
        tasks: tasks.to_vec(),
    }
}

/// Asserts that nothing is damaged, unknown or left over, according to the store's report and to the names on the disk.
pub(crate) fn assert_tidy(store: &Store, disk: &Disk) {
    assert_eq!(store.problems(), []);
    assert_eq!(store.verify().unwrap().problems, []);
    let tasks = store.tasks();
    let kept = |name: &str| {
        tasks.iter().any(|state| {
            let trial = state.trial.map(|trial| trial.held);
            let held = [trial, state.confirmed, state.last_good, state.restore];
            held.iter()
                .flatten()
                .any(|held| format!("adapters/{}.clr", held.digest) == name)
        })
    };
    let files = disk.files();
    let twin = |name: &str| match name.strip_prefix("copies/") {
        Some(task) => format!("tasks/{task}"),
        None => name.strip_suffix(".copy").unwrap_or(name).to_owned(),
    };
    for (name, contents) in &files {
        assert!(!name.contains(".new"), "{name}");
        // Each copy has the same bytes as its file.
        let first = files.iter().find(|(first, _)| *first == twin(name));
        assert!(first.is_some_and(|(_, first)| first == contents), "{name}");
        assert!(!name.starts_with("adapters/") || kept(name), "{name}");
    }
}
