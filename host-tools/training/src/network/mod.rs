//! The backbone in candle, executed node by node with the task's sites inserted.
//!
//! Input `[N, 3, H, W]` as preprocessed, features `[N, F]`, logits `[N, K]`, all f32.

mod convert;
mod execute;
mod frozen;
mod learn;
mod parameters;
mod plain;
pub(crate) mod plan;
mod site;
mod statistics;

use std::sync::Arc;

use candle_core::{Device, Tensor};
use clr_adapters::{Digest, Head, Recipe, SiteKind};
use clr_onnx::Backbone;
use rand::RngExt as _;

use crate::error::{Result, TrainError};
pub use learn::{Learned, Memory, Objective};
pub use parameters::{Group, Parameter, Snapshot};
use plan::Plan;
use site::{Normed, Site, Weight};

/// How a forward pass is meant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Inference: the statistics in force, nothing tracked.
    Eval,
    /// Training with the statistics in force (the backbone's, blended, or a folded adapter's).
    Train,
    /// Training on the batch's statistics, keeping running averages with this momentum (PyTorch's default: 0.1).
    TrainOnBatch {
        /// Weight of the new batch in the running averages, in 0–1.
        momentum: f32,
    },
}

/// A frozen backbone with one task's sites and head. Networks of one backbone share its packed weights.
pub struct Network {
    pub(crate) plan: Arc<Plan>,
    recipe: Recipe,
    backbone: Digest,
    sites: Vec<Site>,
    head_weight: Weight,
    head_bias: Weight,
}

impl Network {
    /// A network at the identity: its features equal the backbone's. The head starts uniform in ±1/√F, from `seed`.
    pub fn new(backbone: &Backbone, recipe: Recipe, classes: usize, device: &Device, seed: u64) -> Result<Self> {
        let plan = Arc::new(Plan::new(backbone, device)?);
        Self::build(plan, backbone.digest(), recipe, classes, seed)
    }

    /// Another network on the same backbone at the identity, sharing the packed weights.
    pub fn sibling(&self, recipe: Recipe, classes: usize, seed: u64) -> Result<Self> {
        Self::build(Arc::clone(&self.plan), self.backbone, recipe, classes, seed)
    }

    fn build(plan: Arc<Plan>, backbone: Digest, recipe: Recipe, classes: usize, seed: u64) -> Result<Self> {
        let device = &plan.device;
        let sites = (plan.sites.iter())
            .map(|frozen| match recipe.site_kind(frozen.kernel) {
                SiteKind::Frozen => Site::frozen(frozen, device),
                kind => {
                    let unit_scale = recipe == Recipe::ClrScale && kind == SiteKind::Scale;
                    Ok(Site::Normed(Box::new(Normed::new(frozen, kind, unit_scale, device)?)))
                }
            })
            .collect::<candle_core::Result<Vec<_>>>()?;
        let features = plan.feature_count;
        let bound = 1.0 / (features.max(1) as f32).sqrt();
        let mut random = crate::random::stream(seed, crate::random::Purpose::Head, 0, 0);
        let mut uniform = |count: usize| {
            (0..count)
                .map(|_| random.random_range(-bound..bound))
                .collect::<Vec<f32>>()
        };
        let head_weight = Weight::new(&uniform(classes * features), &[classes, features], device)?;
        let head_bias = Weight::new(&uniform(classes), &[classes], device)?;
        Ok(Self {
            plan,
            recipe,
            backbone,
            sites,
            head_weight,
            head_bias,
        })
    }

    /// The recipe.
    pub fn recipe(&self) -> Recipe {
        self.recipe
    }

    /// Where the tensors live.
    pub fn device(&self) -> &Device {
        &self.plan.device
    }

    /// Number of classes of the head.
    pub fn classes(&self) -> usize {
        self.head_bias.var.elem_count()
    }

    /// Number of features that the head reads.
    pub fn feature_count(&self) -> usize {
        self.plan.feature_count
    }

    /// Replaces the head by one of the same size.
    pub fn set_head(&mut self, head: &Head) -> Result<()> {
        let (classes, features) = (self.classes(), self.feature_count());
        if head.features != features || head.classes() != classes {
            return Err(TrainError::Mismatch {
                what: "head".to_owned(),
                expected: format!("{classes} classes of {features} features"),
                got: format!("{} classes of {} features", head.classes(), head.features),
            });
        }
        self.head_weight
            .var
            .set(&Tensor::from_slice(&head.weight, (classes, features), self.device())?)?;
        self.head_bias
            .var
            .set(&Tensor::from_slice(&head.bias, classes, self.device())?)?;
        Ok(())
    }

    /// The head as it stands.
    pub fn head(&self) -> Result<Head> {
        Ok(Head {
            features: self.feature_count(),
            weight: self.head_weight.var.flatten_all()?.to_vec1()?,
            bias: self.head_bias.var.to_vec1()?,
        })
    }
}
