//! Options of a store: backbone, trusted keys, limits and caps.

use clr_adapters::{Digest, Limits, SecretKey, Trust};

/// Trusted keys, limits on files, and caps on the store.
#[non_exhaustive]
pub struct StoreOptions {
    /// The digest of the backbone that all adapters must fit.
    pub backbone: Digest,
    /// The trusted keys. With a `device_key`, `trust.device` is replaced by its public key.
    pub trust: Trust,
    /// Limits on the contents of a file.
    pub limits: Limits,
    /// Caps on the store's contents.
    pub caps: Caps,
    /// The key that signs the adapters which the device tunes. [`crate::Store::set_device_key`] can set it later.
    pub device_key: Option<SecretKey>,
}

impl StoreOptions {
    /// Creates options with the default limits and caps, and without a device key.
    #[must_use]
    pub fn new(backbone: Digest, trust: Trust) -> Self {
        Self {
            backbone,
            trust,
            limits: Limits::DEFAULT,
            caps: Caps::DEFAULT,
            device_key: None,
        }
    }

    /// Sets the trusted keys.
    #[must_use]
    pub fn with_trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Sets the caps on the store's contents.
    #[must_use]
    pub fn with_caps(mut self, caps: Caps) -> Self {
        self.caps = caps;
        self
    }

    /// Sets the key that signs adapters tuned on the device.
    #[must_use]
    pub fn with_device_key(mut self, key: SecretKey) -> Self {
        self.device_key = Some(key);
        self
    }
}

/// Caps on a store's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Maximum number of tasks. Tasks that have only examples or a run state count, and so do removed tasks whose
    /// highest version is kept.
    pub tasks: usize,
    /// Maximum bytes of the complete store, with each file rounded up to blocks of 4 KiB. Records are always written:
    /// they are small, and there are at most `tasks` of them.
    pub state_bytes: u64,
    /// Bytes that are reserved for records, both of `state_bytes` and of free disk space. Examples, uploads, adapters
    /// and run states may not use them.
    pub reserve_bytes: u64,
    /// Maximum number of announced uploads in progress on the disk. Beyond it, the least recently used one is dropped.
    pub incoming_files: usize,
    /// Maximum bytes of all announced uploads in progress.
    pub incoming_bytes: u64,
    /// Maximum bytes that announced uploads may write to the disk in 24 hours. Beyond it, they are held in memory like
    /// unannounced uploads.
    pub upload_bytes_per_day: u64,
    /// Maximum number of unannounced uploads in memory.
    pub staged_files: usize,
    /// Maximum bytes of all unannounced uploads in memory.
    pub staged_bytes: u64,
    /// Maximum number of labelled images of one task.
    pub examples_per_task: usize,
    /// Maximum bytes of one labelled image.
    pub example_bytes: u64,
    /// Maximum bytes of all labelled images of one task.
    pub examples_bytes_per_task: u64,
    /// Maximum bytes of the run state of tuning.
    pub checkpoint_bytes: u64,
}

impl Caps {
    /// The defaults, sized for a memory card of a few gigabytes.
    pub const DEFAULT: Self = Self {
        tasks: 256,
        state_bytes: 2 << 30,
        reserve_bytes: 512 << 10,
        incoming_files: 8,
        incoming_bytes: 128 << 20,
        upload_bytes_per_day: 1 << 30,
        staged_files: 4,
        staged_bytes: 128 << 20,
        examples_per_task: 5_000,
        example_bytes: 8 << 20,
        examples_bytes_per_task: 512 << 20,
        checkpoint_bytes: 256 << 20,
    };
}

impl Default for Caps {
    fn default() -> Self {
        Self::DEFAULT
    }
}
