//! What may be chosen.

use clr_learning::PerGroup;
use serde::{Deserialize, Serialize};

use crate::{
    TrainableScope,
    error::{Result, TuneError},
};

/// How to tune.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TuneOptions {
    /// Steps.
    pub steps: u32,
    /// Images in a step, 1–8.
    pub batch: usize,
    /// Bytes of memory that the whole process may take; none is no limit.
    pub max_memory: Option<u64>,
    /// Bytes that the process has already; measured if not given.
    pub resident: Option<u64>,
    /// What to train; the most that fits if not given.
    pub scope: Option<TrainableScope>,
    /// Threads that tune.
    pub threads: usize,
    /// Whether they yield to every other thread ([`lower_priority`](crate::lower_priority)).
    pub yielding: bool,
    /// Seed of every random choice.
    pub seed: u64,
    /// Steps between two checkpoints.
    pub checkpoint_every: u32,
    /// Seconds between two checkpoints at least, whatever the steps; the last one, when a run is stopped, is written anyway.
    pub checkpoint_seconds: u32,
    /// Rates, relative to each channel's magnitude for sites.
    pub rates: PerGroup,
    /// Decay towards the parent's parameters.
    pub decay: PerGroup,
    /// Share of a step's images that replay old classes, where there are such images.
    pub replay_fraction: f32,
    /// How much surer than the old classes, in nats, a new one has to be of an image before it takes it.
    pub logit_margin: f32,
    /// Weight of keeping what the parent thinks of the old classes among themselves.
    pub distillation_weight: f32,
    /// The temperature at which that is compared.
    pub distillation_temperature: f32,
    /// How far sites go in the end: 1 is where the steps led, 0 the parent's.
    pub interpolation: f32,
    /// Time of writing, in seconds since 1970, for the file's header.
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
            return fail("distillation_weight", "at least 0", self.distillation_weight.to_string());
        }
        if !(self.distillation_temperature > 0.0 && self.distillation_temperature.is_finite()) {
            return fail("distillation_temperature", "above 0", self.distillation_temperature.to_string());
        }
        if !(0.0..=1.0).contains(&self.interpolation) {
            return fail("interpolation", "0–1", self.interpolation.to_string());
        }
        Ok(())
    }
}
