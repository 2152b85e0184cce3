//! The backbone in candle, executed node by node with the task's sites inserted.
//!
//! Input `[N, 3, H, W]` as preprocessed, features `[N, F]`, logits `[N, K]`, all f32.

mod convert;
mod execute;
mod plan;
mod site;
mod statistics;

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use clr_adapters::{Digest, Head, Recipe, SiteKind};
use clr_onnx::Backbone;
use rand::RngExt as _;

use crate::error::{Result, TrainError};
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

/// What a parameter belongs to: groups have rates and decays of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// The classifier.
    Head,
    /// Scales and biases of norms, and of folded scale sites and biases.
    Norm,
    /// CLR kernels, and the 1×1 kernels of `clr-scale`.
    Kernel,
}

/// A trainable parameter.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// E.g. `layer1.0.conv1.kernel`, `head.weight`.
    pub name: String,
    /// The variable.
    pub var: Var,
    /// Its group.
    pub group: Group,
    /// What decay pulls towards: the identity, the backbone's norm, or zero for the head. Row-major.
    pub anchor: Vec<f32>,
    /// Factor on the rate per channel (the leading dimension), or one for all: the magnitude the parameter had at the start.
    pub unit: Vec<f32>,
}

/// Values of every parameter and statistic at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// In [`Network::parameters`] order, then mean and variance per site with a norm.
    pub(crate) values: Vec<Vec<f32>>,
}

/// A frozen backbone with one task's sites and head. Networks of one backbone share its packed weights.
pub struct Network {
    plan: Arc<Plan>,
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

    /// Stops training of every parameter for which `keep` is false; its gradient is then not computed.
    pub fn train_only(&mut self, keep: impl Fn(&str, Group) -> bool) {
        for (name, group, weight) in self.weights_mut() {
            weight.trained = keep(&name, group);
        }
    }

    /// The trained parameters, head first, then site by site.
    pub fn parameters(&self) -> Result<Vec<Parameter>> {
        let mut parameters = Vec::new();
        let flat = |var: &Var| var.flatten_all()?.to_vec1::<f32>();
        let mut push = |name: String, weight: &Weight, group, anchor: Vec<f32>, unit: Vec<f32>| {
            if weight.trained {
                parameters.push(Parameter {
                    name,
                    var: weight.var.clone(),
                    group,
                    anchor,
                    unit,
                });
            }
        };
        push(
            "head.weight".into(),
            &self.head_weight,
            Group::Head,
            zeros(&self.head_weight),
            vec![1.0],
        );
        push(
            "head.bias".into(),
            &self.head_bias,
            Group::Head,
            zeros(&self.head_bias),
            vec![1.0],
        );
        for (frozen, site) in self.plan.sites.iter().zip(&self.sites) {
            let name = &frozen.name;
            match site {
                Site::Frozen { .. } => {}
                Site::Normed(site) => {
                    if let Some(weight) = &site.multiplier {
                        let (part, anchor) = if weight.var.rank() == 4 {
                            ("kernel", site::identity(frozen.channels))
                        } else {
                            ("scale", vec![1.0; frozen.channels])
                        };
                        push(format!("{name}.{part}"), weight, Group::Kernel, anchor, vec![1.0]);
                    }
                    let unit = magnitudes(&frozen.norm.scale);
                    let (scale, bias) = (frozen.norm.scale.clone(), frozen.norm.bias.clone());
                    push(
                        format!("{name}.norm.scale"),
                        &site.gamma,
                        Group::Norm,
                        scale,
                        unit.clone(),
                    );
                    push(format!("{name}.norm.bias"), &site.beta, Group::Norm, bias, unit);
                }
                Site::Folded { weights, kernel, bias } => {
                    let anchor = flat(&weights.var)?;
                    let per_channel = anchor.len() / frozen.channels.max(1);
                    let peaks: Vec<f32> = (anchor.chunks(per_channel.max(1)))
                        .map(|kernel| kernel.iter().fold(0.0, |peak: f32, value| peak.max(value.abs())))
                        .collect();
                    let (part, group) = if *kernel {
                        ("kernel", Group::Kernel)
                    } else {
                        ("scale", Group::Norm)
                    };
                    push(format!("{name}.{part}"), weights, group, anchor, magnitudes(&peaks));
                    let unit = magnitudes(&frozen.norm.scale);
                    push(format!("{name}.bias"), bias, Group::Norm, flat(&bias.var)?, unit);
                }
            }
        }
        Ok(parameters)
    }

    /// Every value that training may change.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let mut values = Vec::new();
        for (_, _, weight) in self.weights() {
            values.push(weight.var.flatten_all()?.to_vec1()?);
        }
        for site in &self.sites {
            if let Site::Normed(site) = site {
                values.push(site.norm.mean.clone());
                values.push(site.norm.variance.clone());
            }
        }
        Ok(Snapshot { values })
    }

    /// Puts back what [`Network::snapshot`] took from a network of the same backbone, recipe and classes.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        let mut values = snapshot.values.iter();
        let mut next = |expected: usize| {
            values
                .next()
                .filter(|values| values.len() == expected)
                .ok_or_else(|| TrainError::Mismatch {
                    what: "snapshot".to_owned(),
                    expected: format!("{expected} values"),
                    got: "another layout".to_owned(),
                })
        };
        for (_, _, weight) in self.weights() {
            let values = next(weight.var.elem_count())?;
            weight
                .var
                .set(&Tensor::from_slice(values, weight.var.shape(), weight.var.device())?)?;
        }
        for site in &mut self.sites {
            if let Site::Normed(site) = site {
                let (mean, variance) = (next(site.norm.mean.len())?, next(site.norm.variance.len())?);
                site.set_statistics(mean.clone(), variance.clone())?;
            }
        }
        Ok(())
    }

    /// Every weight, in the order of snapshots.
    fn weights(&self) -> Vec<(String, Group, &Weight)> {
        let mut weights = vec![
            ("head.weight".to_owned(), Group::Head, &self.head_weight),
            ("head.bias".to_owned(), Group::Head, &self.head_bias),
        ];
        for (frozen, site) in self.plan.sites.iter().zip(&self.sites) {
            let name = &frozen.name;
            match site {
                Site::Frozen { .. } => {}
                Site::Normed(site) => {
                    if let Some(weight) = &site.multiplier {
                        let part = if weight.var.rank() == 4 { "kernel" } else { "scale" };
                        weights.push((format!("{name}.{part}"), Group::Kernel, weight));
                    }
                    weights.push((format!("{name}.norm.scale"), Group::Norm, &site.gamma));
                    weights.push((format!("{name}.norm.bias"), Group::Norm, &site.beta));
                }
                Site::Folded {
                    weights: site,
                    kernel,
                    bias,
                } => {
                    let (part, group) = if *kernel {
                        ("kernel", Group::Kernel)
                    } else {
                        ("scale", Group::Norm)
                    };
                    weights.push((format!("{name}.{part}"), group, site));
                    weights.push((format!("{name}.bias"), Group::Norm, bias));
                }
            }
        }
        weights
    }

    fn weights_mut(&mut self) -> Vec<(String, Group, &mut Weight)> {
        let mut weights = vec![
            ("head.weight".to_owned(), Group::Head, &mut self.head_weight),
            ("head.bias".to_owned(), Group::Head, &mut self.head_bias),
        ];
        for (frozen, site) in self.plan.sites.iter().zip(&mut self.sites) {
            let name = &frozen.name;
            match site {
                Site::Frozen { .. } => {}
                Site::Normed(site) => {
                    let Normed {
                        multiplier,
                        gamma,
                        beta,
                        ..
                    } = &mut **site;
                    if let Some(weight) = multiplier {
                        let part = if weight.var.rank() == 4 { "kernel" } else { "scale" };
                        weights.push((format!("{name}.{part}"), Group::Kernel, weight));
                    }
                    weights.push((format!("{name}.norm.scale"), Group::Norm, gamma));
                    weights.push((format!("{name}.norm.bias"), Group::Norm, beta));
                }
                Site::Folded {
                    weights: site,
                    kernel,
                    bias,
                } => {
                    let (part, group) = if *kernel {
                        ("kernel", Group::Kernel)
                    } else {
                        ("scale", Group::Norm)
                    };
                    weights.push((format!("{name}.{part}"), group, site));
                    weights.push((format!("{name}.bias"), Group::Norm, bias));
                }
            }
        }
        weights
    }
}

fn zeros(weight: &Weight) -> Vec<f32> {
    vec![0.0; weight.var.elem_count()]
}

/// Magnitudes as rate factors: a channel that is almost zero still gets a twentieth of the mean.
fn magnitudes(values: &[f32]) -> Vec<f32> {
    let mean = values.iter().map(|value| value.abs()).sum::<f32>() / values.len().max(1) as f32;
    let floor = (0.05 * mean).max(1e-6);
    values.iter().map(|value| value.abs().max(floor)).collect()
}
