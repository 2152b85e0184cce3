//! Handlers of the HTTP port, one file each.

pub(super) mod health;
pub(super) mod metrics;
