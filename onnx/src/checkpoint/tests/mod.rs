//! Checkpoints, by property. The fixtures are written by `tests/tools/torch_fixtures.py`.

mod architectures;
mod containers;
