//! Synchronisation primitives: the real ones, or loom's models under `cfg(loom)`.

#[cfg(not(loom))]
pub(crate) use self::real::{Slot, Table};
#[cfg(not(loom))]
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(loom)]
pub(crate) use self::model::{Slot, Table};
#[cfg(loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(loom)]
pub(crate) use std::sync::PoisonError;

/// Locks a mutex, even if a previous holder panicked: no change of the data can panic halfway.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(not(loom))]
mod real {
    use std::sync::Arc;

    use arc_swap::{ArcSwap, ArcSwapOption};

    /// An optional shared pointer with non-blocking readers.
    #[derive(Debug)]
    pub(crate) struct Slot<T>(ArcSwapOption<T>);

    impl<T> Slot<T> {
        pub(crate) fn empty() -> Self {
            Self(ArcSwapOption::const_empty())
        }
        pub(crate) fn load(&self) -> Option<Arc<T>> {
            self.0.load_full()
        }
        pub(crate) fn store(&self, value: Option<Arc<T>>) {
            self.0.store(value);
        }
    }

    /// A shared pointer to a value that is replaced atomically, with non-blocking readers.
    #[derive(Debug)]
    pub(crate) struct Table<T>(ArcSwap<T>);

    impl<T> Table<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(ArcSwap::from_pointee(value))
        }
        pub(crate) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
            look(&self.0.load())
        }
        pub(crate) fn store(&self, value: T) {
            self.0.store(Arc::new(value));
        }
    }
}

/// Models for loom: a pointer under a mutex. Like the real primitive, it gives each reader either the old or the new
/// value.
#[cfg(loom)]
mod model {
    use std::sync::Arc;

    use super::{Mutex, lock};

    #[derive(Debug)]
    pub(crate) struct Slot<T>(Mutex<Option<Arc<T>>>);

    impl<T> Slot<T> {
        pub(crate) fn empty() -> Self {
            Self(Mutex::new(None))
        }
        pub(crate) fn load(&self) -> Option<Arc<T>> {
            lock(&self.0).clone()
        }
        pub(crate) fn store(&self, value: Option<Arc<T>>) {
            *lock(&self.0) = value;
        }
    }

    #[derive(Debug)]
    pub(crate) struct Table<T>(Mutex<Arc<T>>);

    impl<T> Table<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Mutex::new(Arc::new(value)))
        }
        pub(crate) fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
            let value = Arc::clone(&lock(&self.0));
            look(&value)
        }
        pub(crate) fn store(&self, value: T) {
            *lock(&self.0) = Arc::new(value);
        }
    }
}
