//! Counters by key.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Counts events of each kind.
#[derive(Debug)]
pub(crate) struct Tally<K>(Mutex<BTreeMap<K, u64>>);

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }
}

impl<K: Ord + Clone> Tally<K> {
    pub(crate) fn add(&self, key: K) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(key).or_default() += 1;
    }

    /// The kinds that occurred and how often, in their order.
    pub(crate) fn counts(&self) -> Vec<(K, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(key, &count)| (key.clone(), count)).collect()
    }
}
