//! Integration tests of the daemon.
#![cfg(target_os = "linux")]

mod daemon;
#[path = "../../../tests/tests/promises.rs"]
mod promises;
#[path = "../../engine/tests/scenes.rs"]
mod scenes;
#[path = "../../engine/tests/seeded.rs"]
mod seeded;
