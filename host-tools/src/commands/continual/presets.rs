//! Sizes of runs.

use clap::ValueEnum;

/// Images and epochs of a run.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Preset {
    /// At most 500 training and 400 test images per task at 96 px, eight epochs
    Study,
    /// At most 32 training and 40 test images per task at 64 px, two epochs
    Smoke,
}

/// The values of a preset.
pub(crate) struct Sizes {
    pub(crate) train: usize,
    pub(crate) held_out: usize,
    pub(crate) size: [u32; 2],
    pub(crate) epochs: usize,
}

impl Preset {
    pub(crate) fn sizes(self) -> Sizes {
        match self {
            Self::Study => Sizes {
                train: 500,
                held_out: 400,
                size: [96; 2],
                epochs: 8,
            },
            Self::Smoke => Sizes {
                train: 32,
                held_out: 40,
                size: [64; 2],
                epochs: 2,
            },
        }
    }
}
