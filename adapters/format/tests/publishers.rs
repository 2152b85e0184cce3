//! Two publishers, the policy of a device that trusts them, and a file for them to sign.

use std::sync::LazyLock;

use clr_adapters::{Digest, Encoding, Limits, Policy, SecretKey, Trust, TrustedKey, encode};

use crate::sample;

/// Step between the tested bytes of a signed file: larger under Miri, where a signature takes a second.
pub(crate) const STEP: usize = if cfg!(miri) { 331 } else { 1 };
/// The policy's time, in seconds since 1970.
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_bytes(&[seed; 32])
}

/// Returns key 1, trusted for any task, and key 2, trusted for tasks called `flowers*`.
pub(crate) fn publishers() -> Vec<TrustedKey> {
    let publisher = |seed: u8, tasks: Option<Vec<String>>| TrustedKey {
        key: key(seed).public(),
        tasks,
    };
    vec![publisher(1, None), publisher(2, Some(vec!["flowers*".into()]))]
}

pub(crate) fn policy(trust: &Trust) -> Policy<'_> {
    Policy {
        trust,
        backbone: Digest::of(b"backbone"),
        now: Some(NOW),
        limits: Limits::DEFAULT,
    }
}

/// Returns a publisher's unsigned file; created once, because it takes Miri seconds.
pub(crate) fn plain() -> Vec<u8> {
    static PLAIN: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut adapter = sample::small();
        adapter.header.revision = 0;
        encode(&adapter, Encoding::Int8).unwrap()
    });
    PLAIN.clone()
}
