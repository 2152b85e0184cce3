//! End-to-end proofs live in `tests/tests/`; each module is named by the property that it proves.
