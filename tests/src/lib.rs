//! End-to-end tests, in `tests/tests/`; each module is named by the property that it tests.
