//! Adapters that are ready to run.

/// An adapter that is ready to run.
pub trait Resident {
    /// Error for a task that is not resident.
    type Unknown;

    /// Returns its task's name.
    fn task(&self) -> &str;

    /// Returns the error for a task `name` that is not in the sorted list `resident`.
    fn unknown(name: String, resident: Vec<String>) -> Self::Unknown;
}
