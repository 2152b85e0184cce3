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
    /// Signs unsigned adapters that the device tuned; [`crate::Store::set_device_key`] sets it later.
    pub device_key: Option<SecretKey>,
}

impl StoreOptions {
    /// The default limits and caps, and no device key.
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
    /// Tasks, including those with only examples or a checkpoint, and removed ones whose highest version is kept.
    pub tasks: usize,
    /// Bytes of the complete store, each file rounded up to blocks of 4 KiB. Records are small, at most `tasks` in
    /// number, and always written.
    pub state_bytes: u64,
    /// Bytes of `state_bytes` and of the disk reserved for records: examples, uploads, adapters and checkpoints leave
    /// them free.
    pub reserve_bytes: u64,
    /// Announced uploads in progress, on the disk; the least recently used one is dropped for another.
    pub incoming_files: usize,
    /// Bytes of all announced uploads in progress together.
    pub incoming_bytes: u64,
    /// Bytes that announced uploads may write in 24 hours. Beyond that, uploads are held in memory like those without
    /// an announcement.
    pub upload_bytes_per_day: u64,
    /// Uploads in progress without an announcement, in memory.
    pub staged_files: usize,
    /// Bytes of these together.
    pub staged_bytes: u64,
    /// Labelled images of one task.
    pub examples_per_task: usize,
    /// Bytes of one labelled image.
    pub example_bytes: u64,
    /// Bytes of all labelled images of one task.
    pub examples_bytes_per_task: u64,
    /// Bytes of one tuning checkpoint.
    pub checkpoint_bytes: u64,
}

impl Caps {
    /// The defaults, for a card of a few gigabytes.
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
