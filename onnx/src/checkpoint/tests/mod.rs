//! Checkpoints, by property. The fixtures are written by `tests/tools/torch_fixtures.py`.

mod architectures;
mod containers;
mod heads;
mod hostile;
mod layouts;
mod objects;
mod shards;
mod spellings;
mod states;
mod torch_save;
