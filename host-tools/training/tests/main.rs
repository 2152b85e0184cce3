//! Integration tests of the training crate, one module for each subject.

mod ops;
