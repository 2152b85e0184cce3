//! Guarantees of the store, on a simulated disk and in a real directory.

mod announcements;
mod bounded;
mod damage;
mod disk_errors;
mod kill;
mod life;
mod lock;
mod model;
mod power_cut;
mod random;
mod readers;
mod recovery;
mod refusals;
mod scenario;
mod uploads;
mod world;
