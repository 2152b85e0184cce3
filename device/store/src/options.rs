//! What a store is told when it is opened.

use clr_adapters::{Digest, Limits, SecretKey, Trust};

/// Whom to trust, what to accept and how much to keep.
#[non_exhaustive]
pub struct StoreOptions {
    /// The digest of the backbone that all adapters must fit.
    pub backbone: Digest,
    /// Whose signatures count. With a `device_key`, `trust.device` is its public half, whatever is set here.
    pub trust: Trust,
    /// Caps on what a file may claim.
    pub limits: Limits,
    /// Caps on what the store keeps.
    pub caps: Caps,
    /// Signs what the device tuned, if it comes unsigned; [`crate::Store::set_device_key`] gives it later.
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

    /// Sets the keys that are trusted.
    #[must_use]
    pub fn with_trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Sets the caps on what the store keeps.
    #[must_use]
    pub fn with_caps(mut self, caps: Caps) -> Self {
        self.caps = caps;
        self
    }

    /// Sets the key that signs what the device tunes.
    #[must_use]
    pub fn with_device_key(mut self, key: SecretKey) -> Self {
        self.device_key = Some(key);
        self
    }
}

/// How much a store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Tasks, those included that only have examples or a checkpoint, and removed ones whose highest version is kept.
    pub tasks: usize,
    /// Bytes of the whole store, each file rounded up to blocks of 4 KiB. Records, which are small and as many as `tasks`, are always written.
    pub state_bytes: u64,
    /// Bytes that examples, uploads, adapters and checkpoints leave free, of `state_bytes` and of the disk, so that records can be written.
    pub reserve_bytes: u64,
    /// Announced uploads under way, on the disk; the one untouched for longest makes room for another.
    pub incoming_files: usize,
    /// Bytes of all announced uploads under way together.
    pub incoming_bytes: u64,
    /// Bytes that announced uploads may write in 24 hours. Beyond that, uploads are held in memory like those without an
    /// announcement.
    pub upload_bytes_per_day: u64,
    /// Uploads without an announcement under way, in memory.
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
