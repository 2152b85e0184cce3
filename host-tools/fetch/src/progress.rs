//! Progress of downloads and preparations, shown by the caller.

/// The unit of a progress bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of a download.
    Bytes,
    /// Images of a task.
    Images,
}

/// Starts progress bars. `()` shows none.
pub trait Progress {
    /// Starts a bar of `length` units; 0 means that the length is not known yet.
    fn start(&self, unit: Unit, length: u64, message: &str) -> Box<dyn Bar>;
}

/// A progress bar; dropping it removes it.
pub trait Bar {
    /// Sets the length once it is known.
    fn set_length(&self, length: u64);
    /// Moves the bar.
    fn set_position(&self, position: u64);
}

impl Progress for () {
    fn start(&self, _: Unit, _: u64, _: &str) -> Box<dyn Bar> {
        Box::new(())
    }
}

impl Bar for () {
    fn set_length(&self, _: u64) {}
    fn set_position(&self, _: u64) {}
}
