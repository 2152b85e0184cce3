//! Integration tests of the training crate.

mod ops;
