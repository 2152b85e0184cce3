//! End-to-end tests, in `tests/tests/`. The name of each module is the property that it tests.
