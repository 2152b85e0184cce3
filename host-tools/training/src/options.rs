//! Training options: recipe, schedule, seed, threads and memory.

use std::path::PathBuf;

use candle_core::Device;
use clr_adapters::{Encoding, Recipe};
use serde::{Deserialize, Serialize};

use crate::{
    Augmentation, CompactOptions, LogisticOptions, LrSchedule, PerGroup,
    error::{Result, TrainError},
};

/// Recipe of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipeChoice {
    /// Trains several recipes, and selects the one with the most trained parameters among those within one standard
    /// error of the best validation accuracy.
    Auto {
        /// Recipes to compare; [`Recipe::Linear`] is always included. `None`: also [`Recipe::Bn`] and [`Recipe::Clr`],
        /// and [`Recipe::ClrFull`] if most spatial convolutions of the backbone are dense.
        candidates: Option<Vec<Recipe>>,
    },
    /// Trains this recipe.
    Fixed(Recipe),
}

impl Default for RecipeChoice {
    fn default() -> Self {
        Self::Auto { candidates: None }
    }
}

/// Mean and variance of norms during training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormStatistics {
    /// The statistics are fixed for the run, at `(1 − blend) · backbone's + blend · task's`. With a blend of 0, they
    /// are the backbone's.
    Fixed {
        /// Blend, in 0–1.
        blend: f32,
    },
    /// Each batch uses its own statistics. Running averages are used for inference (as in the paper).
    Batch {
        /// Weight of the new batch in the running averages.
        momentum: f32,
    },
}

/// Selection of the epoch whose weights are the result of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EpochSelection {
    /// The epoch with the best validation accuracy; among equal ones, that with the lowest loss.
    Best,
    /// The last epoch, unless the network at the start was more accurate on validation by more than two standard
    /// errors. With decaying rates and averaged weights, the last epoch is as good as any other, whereas the best of
    /// many noisy measurements is biased.
    Last,
}

/// Options of the joint training of sites and head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Number of passes over the training images.
    pub epochs: usize,
    /// Number of images in a step.
    pub batch: usize,
    /// Whether training starts from a head that was fitted to frozen features. Otherwise it starts from a random head.
    pub head_first: bool,
    /// Learning rates.
    pub rates: PerGroup,
    /// Decoupled weight decay: towards the identity for kernels, the backbone's values for norms, and zero for the
    /// head.
    pub decay: PerGroup,
    /// Whether the rates of norms are relative to each channel's scale.
    pub relative_rates: bool,
    /// Decay of Adam's average of squares.
    pub beta2: f64,
    /// Change of the learning rates over time.
    pub rate: LrSchedule,
    /// Statistics of norms during training.
    pub statistics: NormStatistics,
    /// Fraction of the target that is spread over all classes, 0–1.
    pub smoothing: f32,
    /// Maximum global norm of the gradient; `None` for no limit.
    pub clip: Option<f64>,
    /// Factor of the (not squared) L2 norm of each parameter in the loss.
    pub l2_norm: f64,
    /// Decay per step of the moving average of the weights. The averaged weights are validated, and they are the
    /// result. With `None`, the weights themselves are.
    pub average: Option<f64>,
    /// Selection of the epoch whose weights are the result.
    pub keep: EpochSelection,
    /// Parameter of a symmetric Beta distribution. The weight of a second image that is mixed into each image is drawn
    /// from it (mixup, Zhang et al. 2018); 0 disables mixing.
    pub mixup: f32,
    /// Fraction of features that are dropped before the head during training, 0–1.
    pub dropout: f32,
    /// Stops after more than this number of epochs without a better validation result (with [`EpochSelection::Best`]).
    pub patience: Option<usize>,
    /// Augmentation of training images.
    pub augmentation: Augmentation,
    /// Whether images are stretched to the input size. Otherwise the backbone's fit is used.
    pub stretch: bool,
}

impl Schedule {
    /// Returns the paper's schedule: Adam 1e-3, multiplied by 0.1 after each third of 60 epochs, batches of 32 with
    /// their own statistics, L2 norm 1e-5, no augmentation, stretched images. Unlike the reference code, it selects the
    /// epoch on the validation split and not on the test split.
    pub fn paper() -> Self {
        Self {
            epochs: 60,
            batch: 32,
            head_first: false,
            rates: PerGroup::all(1e-3),
            decay: PerGroup::all(0.0),
            relative_rates: false,
            beta2: 0.999,
            rate: LrSchedule::Thirds,
            statistics: NormStatistics::Batch { momentum: 0.1 },
            smoothing: 0.0,
            clip: None,
            l2_norm: 1e-5,
            average: None,
            keep: EpochSelection::Best,
            mixup: 0.0,
            dropout: 0.0,
            patience: Some(21),
            augmentation: Augmentation::NONE,
            stretch: true,
        }
    }

    /// Checks that every value is in its range.
    ///
    /// # Errors
    /// [`TrainError::InvalidOption`] for the first value outside its range.
    pub fn validate(&self) -> Result<()> {
        let check = |holds: bool, option, expected, got: String| {
            if holds {
                Ok(())
            } else {
                Err(TrainError::InvalidOption { option, expected, got })
            }
        };
        check(self.batch >= 1, "batch", "at least 1", self.batch.to_string())?;
        let rates = [self.rates.head, self.rates.norm, self.rates.kernel];
        let decays = [self.decay.head, self.decay.norm, self.decay.kernel];
        for (option, values) in [("rates", rates), ("decay", decays)] {
            for value in values {
                check(
                    value.is_finite() && value >= 0.0,
                    option,
                    "0 or more",
                    value.to_string(),
                )?;
            }
        }
        let share = 0.0..1.0;
        check(
            share.contains(&self.smoothing),
            "smoothing",
            "0 to below 1",
            self.smoothing.to_string(),
        )?;
        check(
            share.contains(&self.dropout),
            "dropout",
            "0 to below 1",
            self.dropout.to_string(),
        )?;
        check(
            self.mixup.is_finite() && self.mixup >= 0.0,
            "mixup",
            "0 or more",
            self.mixup.to_string(),
        )?;
        if let Some(average) = self.average {
            check(
                (0.0..1.0).contains(&average),
                "average",
                "0 to below 1",
                average.to_string(),
            )?;
        }
        match self.statistics {
            NormStatistics::Fixed { blend } => {
                check((0.0..=1.0).contains(&blend), "blend", "0 to 1", blend.to_string())?;
            }
            NormStatistics::Batch { momentum } => {
                check(
                    (0.0..=1.0).contains(&momentum),
                    "momentum",
                    "0 to 1",
                    momentum.to_string(),
                )?;
                check(
                    self.batch >= 2,
                    "batch",
                    "at least 2 with batch statistics",
                    self.batch.to_string(),
                )?;
            }
        }
        let area = self.augmentation.area;
        check(
            area > 0.0 && area <= 1.0,
            "augmentation.area",
            "above 0 to 1",
            area.to_string(),
        )
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            epochs: 12,
            batch: 16,
            head_first: true,
            rates: PerGroup {
                head: 1e-3,
                norm: 3e-3,
                kernel: 5e-3,
            },
            decay: PerGroup {
                head: 0.0,
                norm: 0.05,
                kernel: 1.0,
            },
            relative_rates: true,
            beta2: 0.99,
            rate: LrSchedule::Cosine {
                warmup: 1.0,
                min_factor: 0.01,
            },
            statistics: NormStatistics::Fixed { blend: 0.0 },
            smoothing: 0.1,
            clip: Some(1.0),
            l2_norm: 0.0,
            average: Some(0.98),
            keep: EpochSelection::Last,
            mixup: 0.0,
            dropout: 0.0,
            patience: None,
            augmentation: Augmentation::MILD,
            stretch: false,
        }
    }
}

/// Options of a training run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrainOptions {
    /// The task's name in the adapter. Default: the name of the data set's folder.
    pub task: Option<String>,
    /// The recipe, or the recipes to compare.
    pub recipe: RecipeChoice,
    /// Index of the first site that is trained and written; the sites before keep the backbone's own norms. On one
    /// image, several tasks share the forward pass before it. [`clr_onnx::Backbone::stages`] lists suitable sites.
    pub first_site: usize,
    /// Options of the joint training of sites and head.
    pub schedule: Schedule,
    /// Options for fitting the head alone.
    pub head: LogisticOptions,
    /// Seed of every random choice.
    pub seed: u64,
    /// Number of threads for the computation. Default: all CPU cores. With another number, sums may round differently.
    pub threads: Option<usize>,
    /// Number of threads that decode and augment in advance of the step. Default: half of `threads`, at least one. The
    /// result does not depend on it.
    pub workers: Option<usize>,
    /// Device of the computation.
    pub device: Device,
    /// Height and width of the input in pixels. Default: the backbone's.
    pub resolution: Option<[u32; 2]>,
    /// Maximum bytes of decoded images in memory, per split.
    pub image_cache_bytes: usize,
    /// Encoding of the adapter file.
    pub encoding: Encoding,
    /// Options of the encoding [`Encoding::Compact`].
    pub compact: CompactOptions,
    /// Folder for resume files, which are written after each epoch. A stopped run continues from them.
    pub resume: Option<PathBuf>,
    /// Whether to evaluate the test split, if there is one, once at the end.
    pub test: bool,
    /// Version to write in the adapter.
    pub version: u64,
    /// Creation time for the adapter, in seconds since 1970-01-01 UTC. Default: the current time.
    pub created: Option<u64>,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            task: None,
            recipe: RecipeChoice::default(),
            first_site: 0,
            schedule: Schedule::default(),
            head: LogisticOptions::default(),
            seed: 0,
            threads: None,
            workers: None,
            device: Device::Cpu,
            resolution: None,
            image_cache_bytes: 2 << 30,
            encoding: Encoding::Compact,
            compact: CompactOptions::default(),
            resume: None,
            test: true,
            version: 1,
            created: None,
        }
    }
}

impl TrainOptions {
    /// Sets the task's name in the adapter; `None` for the data set's folder name.
    #[must_use]
    pub fn with_task(mut self, task: impl Into<Option<String>>) -> Self {
        self.task = task.into();
        self
    }

    /// Sets the recipe, or the recipes to compare.
    #[must_use]
    pub fn with_recipe(mut self, recipe: RecipeChoice) -> Self {
        self.recipe = recipe;
        self
    }

    /// Sets the index of the first site that is trained and written.
    #[must_use]
    pub fn with_first_site(mut self, first_site: usize) -> Self {
        self.first_site = first_site;
        self
    }

    /// Sets the options of the joint training of sites and head.
    #[must_use]
    pub fn with_schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Sets the options for fitting the head alone.
    #[must_use]
    pub fn with_head(mut self, head: LogisticOptions) -> Self {
        self.head = head;
        self
    }

    /// Sets the seed of every random choice.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the number of threads for the computation; `None` for all cores.
    #[must_use]
    pub fn with_threads(mut self, threads: impl Into<Option<usize>>) -> Self {
        self.threads = threads.into();
        self
    }

    /// Sets the number of threads that decode and augment; `None` for half of `threads`.
    #[must_use]
    pub fn with_workers(mut self, workers: impl Into<Option<usize>>) -> Self {
        self.workers = workers.into();
        self
    }

    /// Sets the device of the computation.
    #[must_use]
    pub fn with_device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Sets height and width of the input in pixels; `None` for the backbone's.
    #[must_use]
    pub fn with_resolution(mut self, resolution: impl Into<Option<[u32; 2]>>) -> Self {
        self.resolution = resolution.into();
        self
    }

    /// Sets the maximum bytes of decoded images in memory, per split.
    #[must_use]
    pub fn with_image_cache_bytes(mut self, image_cache_bytes: usize) -> Self {
        self.image_cache_bytes = image_cache_bytes;
        self
    }

    /// Sets the encoding of the adapter file.
    #[must_use]
    pub fn with_encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Sets the options of the encoding [`Encoding::Compact`].
    #[must_use]
    pub fn with_compact(mut self, compact: CompactOptions) -> Self {
        self.compact = compact;
        self
    }

    /// Sets the folder for resume files.
    #[must_use]
    pub fn with_resume(mut self, resume: impl Into<Option<PathBuf>>) -> Self {
        self.resume = resume.into();
        self
    }

    /// Sets whether the test split, if any, is measured at the end.
    #[must_use]
    pub fn with_test(mut self, test: bool) -> Self {
        self.test = test;
        self
    }

    /// Sets the version to write in the adapter.
    #[must_use]
    pub fn with_version(mut self, version: u64) -> Self {
        self.version = version;
        self
    }

    /// Sets the time to write in the adapter, in seconds since 1970-01-01 UTC; `None` for now.
    #[must_use]
    pub fn with_created(mut self, created: impl Into<Option<u64>>) -> Self {
        self.created = created.into();
        self
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
            .max(1)
    }

    pub(crate) fn workers(&self) -> usize {
        self.workers.unwrap_or_else(|| (self.threads() / 2).max(1))
    }
}
