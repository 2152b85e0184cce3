//! Tests of the daemon with the real program: a process, its socket, and its store on a real disk.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "the client's methods are not general enough in its lifetime"
)]

mod adversity;
mod announced;
mod check_config;
mod choosing;
mod device;
mod evidence;
mod fault_matrix;
mod group;
mod health;
mod hostile;
mod http;
mod http_client;
mod images;
mod killed;
mod learning;
mod output;
mod peers;
mod roles;
mod rotation;
mod serving;
mod soak;
mod sources;
mod teaching;
mod trial;
