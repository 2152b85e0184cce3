//! What the daemon promises, shown on the real program: a process, its socket, its store on a real disk.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the client's methods are not general enough in its lifetime"
)]

mod adversity;
mod choosing;
mod device;
mod hostile;
mod killed;
mod learning;
mod peers;
mod roles;
mod serving;
mod trial;
