//! End-to-end tests on small networks with seeded weights, without downloads and without Python.

mod adapter_size;
mod background;
mod bad_input;
mod commands;
mod continual;
mod convert;
mod documents;
mod engines_agree;
mod fixtures;
#[cfg(unix)]
mod folders;
mod interrupted_writes;
mod nothing_is_forgotten;
mod one_way_in;
mod opaque_steps;
#[cfg(unix)]
mod output_tried_first;
mod promises;
#[cfg(unix)]
mod push_and_pull;
mod quantize;
mod reproducible;
mod stated_preprocessing;
#[cfg(unix)]
mod teaching;
#[cfg(unix)]
mod unreadable_files;
