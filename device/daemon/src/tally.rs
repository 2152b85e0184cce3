//! Event counters by kind.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Number of events of each kind.
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

    /// Returns the kinds that occurred, with their counts, sorted by kind.
    pub(crate) fn counts(&self) -> Vec<(K, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(key, &count)| (key.clone(), count)).collect()
    }
}
