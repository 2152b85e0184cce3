//! Pieces of work, several at a time.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// Calls `work` for every item, `parallel` at a time, each in a pool with its share of the threads. Returns the results
/// in the order of the items. After an error, no further item begins.
pub(super) fn in_parallel<T: Send, R: Send>(
    items: Vec<T>,
    parallel: usize,
    work: impl Fn(T) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<Vec<R>> {
    let parallel = parallel.min(items.len()).max(1);
    let threads = (rayon::current_num_threads() / parallel).max(1);
    let queue: Mutex<VecDeque<(usize, T)>> = Mutex::new(items.into_iter().enumerate().collect());
    let results = Mutex::new(Vec::new());
    let locked = |queue: &Mutex<VecDeque<(usize, T)>>| queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        for _ in 0..parallel {
            scope.spawn(|| {
                while let Some((index, item)) = locked(&queue) {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                    let result = pool.map_err(anyhow::Error::from);
                    let result = result.and_then(|pool| pool.install(|| work(item)));
                    if result.is_err() {
                        queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    }
                    results
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((index, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}
