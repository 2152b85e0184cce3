//! Serialised state of a job between two tasks.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    error::{ContinualError, Result},
    gradients::{Vectors, set_values, values},
    model::{Head, Model},
    network::RunningStatistics,
};

/// What a method keeps between tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Values.
    pub vectors: Vectors,
    /// Counts, and bits of other values.
    pub numbers: Vec<u64>,
    /// Images of a buffer.
    pub images: Vec<KeptImage>,
}

/// An image of a buffer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptImage {
    /// 8-bit RGB.
    pub pixels: Vec<u8>,
    /// Columns and rows.
    pub size: [u32; 2],
    /// Index of its class.
    pub label: u32,
    /// Number of its task, from 0.
    pub task: u32,
    /// Logits at the moment of storing.
    pub logits: Vec<f32>,
}

/// The values of a model.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedModel {
    weights: Vectors,
    norms: Vec<SavedNorms>,
    /// Weight and bias of each head.
    heads: Vec<[Vec<f32>; 2]>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedNorms {
    affine: Vectors,
    /// Mean and variance of each norm.
    running: Vec<[Vec<f32>; 2]>,
}

impl SavedModel {
    pub(crate) fn of(model: &Model) -> Result<Self> {
        let norms = model.norms.iter().map(|norms| {
            let running = norms.running().iter();
            Ok(SavedNorms {
                affine: values(&norms.variables())?,
                running: running.map(|one| [one.mean.clone(), one.variance.clone()]).collect(),
            })
        });
        let heads = model.heads.iter().map(|head| {
            let mut parts = values(&head.variables())?;
            let bias = parts.pop().unwrap_or_default();
            Ok([parts.pop().unwrap_or_default(), bias])
        });
        Ok(Self {
            weights: values(&model.weights.variables())?,
            norms: norms.collect::<Result<_>>()?,
            heads: heads.collect::<Result<_>>()?,
        })
    }

    /// Sets the values of a new model of the same backbone.
    pub(crate) fn restore(&self, model: &mut Model) -> Result<()> {
        let variables = model.weights.variables();
        check("weights", variables.len(), self.weights.len())?;
        set_values(&variables, &self.weights)?;
        while model.norms.len() < self.norms.len() {
            model.norms.push(model.norms[0].copied()?);
        }
        for (norms, saved) in model.norms.iter_mut().zip(&self.norms) {
            check("norms", norms.len(), saved.running.len())?;
            set_values(&norms.variables(), &saved.affine)?;
            for (running, [mean, variance]) in norms.running_mut().iter_mut().zip(&saved.running) {
                *running = RunningStatistics {
                    mean: mean.clone(),
                    variance: variance.clone(),
                };
            }
        }
        let heads = self
            .heads
            .iter()
            .map(|[weight, bias]| Head::new(weight, bias, &model.device));
        model.heads = heads.collect::<Result<_>>()?;
        Ok(())
    }
}

/// Returns an error if a saved state has another number of parts.
pub(crate) fn check(what: &'static str, expected: usize, got: usize) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(ContinualError::Mismatch {
        what,
        expected: expected.to_string(),
        got: got.to_string(),
    })
}

/// Encodes a state.
pub(crate) fn encode(state: &impl Serialize) -> Result<Vec<u8>> {
    postcard::to_allocvec(state).map_err(unreadable)
}

/// Decodes a state.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    postcard::from_bytes(bytes).map_err(unreadable)
}

fn unreadable(error: postcard::Error) -> ContinualError {
    ContinualError::Mismatch {
        what: "a saved state",
        expected: "one that can be encoded and decoded".to_owned(),
        got: format!("{error}\nhint: delete the job's state.bin, and it starts from its first task"),
    }
}
