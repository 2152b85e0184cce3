//! Tests of checkpoints, grouped by property. `tests/tools/torch_fixtures.py` writes the fixtures.

mod architectures;
mod containers;
mod heads;
mod hostile;
mod layouts;
mod numpy;
mod objects;
mod shards;
mod spellings;
mod states;
mod torch_save;
