//! Tuning options, their defaults and valid ranges.

use clr_learning::PerGroup;
use serde::{Deserialize, Serialize};

use crate::{
    TrainableScope,
    error::{Result, TuneError},
};

/// Options of a tuning run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TuneOptions {
    /// Number of steps, at least 1 (default 100).
    pub steps: u32,
    /// Number of images in a step, 1–8 (default 4).
    pub batch: usize,
    /// Memory limit of the complete process in bytes; `None` for no limit (default: 300 MB).
    pub max_memory: Option<u64>,
    /// Resident memory of the process in bytes; `None` to measure it.
    pub resident: Option<u64>,
    /// The part of the adapter to train; `None` for the largest that fits.
    pub scope: Option<TrainableScope>,
    /// Number of worker threads, at least 1 (default 1).
    pub threads: usize,
    /// Whether the threads run with the lowest priority ([`lower_priority`](crate::lower_priority)).
    pub yielding: bool,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Number of steps between two saves of the run state, at least 1 (default: 20).
    pub checkpoint_every: u32,
    /// Minimum number of seconds between two saves of the run state (default: 0). A run that is stopped always saves
    /// its state.
    pub checkpoint_seconds: u32,
    /// Learning rates. Those of sites are relative to each channel's magnitude.
    pub rates: PerGroup,
    /// Weight decay towards the parent's parameters.
    pub decay: PerGroup,
    /// Fraction of a step's images that replay old classes, if there are such images: at least 0, below 1 (default:
    /// 0.5).
    pub replay_fraction: f32,
    /// Margin in nats. The logit of a new class is lowered by this margin relative to the old ones (default: 1).
    pub logit_margin: f32,
    /// Weight of the divergence from the parent's probabilities among the old classes, at least 0 (default: 1).
    pub distillation_weight: f32,
    /// Temperature of the probabilities in this divergence, above 0 (default: 2).
    pub distillation_temperature: f32,
    /// Interpolation of the final site weights, 0–1: 0 gives the parent's weights, 1 the tuned ones (default: 0.5).
    pub interpolation: f32,
    /// Time of writing for the file's header, in seconds since 1970-01-01 UTC.
    pub created: u64,
}

impl Default for TuneOptions {
    fn default() -> Self {
        Self {
            steps: 100,
            batch: 4,
            max_memory: Some(300_000_000),
            resident: None,
            scope: None,
            threads: 1,
            yielding: true,
            seed: 0,
            checkpoint_every: 20,
            checkpoint_seconds: 0,
            rates: PerGroup {
                head: 1e-3,
                norm: 5e-4,
                kernel: 5e-4,
            },
            decay: PerGroup {
                head: 0.0,
                norm: 1.0,
                kernel: 1.0,
            },
            replay_fraction: 0.5,
            logit_margin: 1.0,
            distillation_weight: 1.0,
            distillation_temperature: 2.0,
            interpolation: 0.5,
            created: 0,
        }
    }
}

impl TuneOptions {
    /// Sets the number of steps, at least 1.
    #[must_use]
    pub fn with_steps(mut self, steps: u32) -> Self {
        self.steps = steps;
        self
    }

    /// Sets the number of images in a step, 1–8.
    #[must_use]
    pub fn with_batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    /// Sets the memory limit of the complete process in bytes; `None` for no limit.
    #[must_use]
    pub fn with_max_memory(mut self, max_memory: impl Into<Option<u64>>) -> Self {
        self.max_memory = max_memory.into();
        self
    }

    /// Sets the resident memory of the process in bytes; `None` to measure it.
    #[must_use]
    pub fn with_resident(mut self, resident: impl Into<Option<u64>>) -> Self {
        self.resident = resident.into();
        self
    }

    /// Sets the part of the adapter to train; `None` for the largest that fits.
    #[must_use]
    pub fn with_scope(mut self, scope: impl Into<Option<TrainableScope>>) -> Self {
        self.scope = scope.into();
        self
    }

    /// Sets the number of worker threads, at least 1.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets whether the threads run with the lowest priority.
    #[must_use]
    pub fn with_yielding(mut self, yielding: bool) -> Self {
        self.yielding = yielding;
        self
    }

    /// Sets the seed of all random numbers.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the number of steps between two saves of the run state, at least 1.
    #[must_use]
    pub fn with_checkpoint_every(mut self, checkpoint_every: u32) -> Self {
        self.checkpoint_every = checkpoint_every;
        self
    }

    /// Sets the minimum number of seconds between two saves of the run state.
    #[must_use]
    pub fn with_checkpoint_seconds(mut self, checkpoint_seconds: u32) -> Self {
        self.checkpoint_seconds = checkpoint_seconds;
        self
    }

    /// Sets the learning rates.
    #[must_use]
    pub fn with_rates(mut self, rates: PerGroup) -> Self {
        self.rates = rates;
        self
    }

    /// Sets the weight decay towards the parent's parameters.
    #[must_use]
    pub fn with_decay(mut self, decay: PerGroup) -> Self {
        self.decay = decay;
        self
    }

    /// Sets the fraction of a step's images that replay old classes: at least 0, below 1.
    #[must_use]
    pub fn with_replay_fraction(mut self, replay_fraction: f32) -> Self {
        self.replay_fraction = replay_fraction;
        self
    }

    /// Sets the margin in nats by which a new class's logit is lowered.
    #[must_use]
    pub fn with_logit_margin(mut self, logit_margin: f32) -> Self {
        self.logit_margin = logit_margin;
        self
    }

    /// Sets the weight of the divergence from the parent's probabilities, at least 0.
    #[must_use]
    pub fn with_distillation_weight(mut self, distillation_weight: f32) -> Self {
        self.distillation_weight = distillation_weight;
        self
    }

    /// Sets the temperature of the divergence from the parent's probabilities, above 0.
    #[must_use]
    pub fn with_distillation_temperature(mut self, distillation_temperature: f32) -> Self {
        self.distillation_temperature = distillation_temperature;
        self
    }

    /// Sets the interpolation of the final site weights, 0–1.
    #[must_use]
    pub fn with_interpolation(mut self, interpolation: f32) -> Self {
        self.interpolation = interpolation;
        self
    }

    /// Sets the time of writing, in seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn with_created(mut self, created: u64) -> Self {
        self.created = created;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        let fail = |option, expected, got: String| Err(TuneError::Option { option, expected, got });
        if !(1..=8).contains(&self.batch) {
            return fail("batch", "1–8", self.batch.to_string());
        }
        if self.steps == 0 {
            return fail("steps", "at least 1", self.steps.to_string());
        }
        if self.threads == 0 {
            return fail("threads", "at least 1", self.threads.to_string());
        }
        if self.checkpoint_every == 0 {
            return fail("checkpoint_every", "at least 1", self.checkpoint_every.to_string());
        }
        if !(0.0..1.0).contains(&self.replay_fraction) {
            return fail("replay_fraction", "0–1, without 1", self.replay_fraction.to_string());
        }
        if !self.logit_margin.is_finite() {
            return fail("logit_margin", "a number", self.logit_margin.to_string());
        }
        if !(self.distillation_weight >= 0.0 && self.distillation_weight.is_finite()) {
            return fail(
                "distillation_weight",
                "at least 0",
                self.distillation_weight.to_string(),
            );
        }
        if !(self.distillation_temperature > 0.0 && self.distillation_temperature.is_finite()) {
            return fail(
                "distillation_temperature",
                "above 0",
                self.distillation_temperature.to_string(),
            );
        }
        if !(0.0..=1.0).contains(&self.interpolation) {
            return fail("interpolation", "0–1", self.interpolation.to_string());
        }
        Ok(())
    }
}
