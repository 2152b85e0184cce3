//! A network's parameters: their names, groups, anchors and units, and copies of all values.

use candle_core::{Tensor, Var};

use super::{
    Network,
    site::{Site, Weight, identity},
};
use crate::error::{Result, TrainError};

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

impl Network {
    /// Stops training of every parameter for which `keep` is false; its gradient is then not computed.
    pub fn train_only(&mut self, keep: impl Fn(&str, Group) -> bool) {
        for (name, group, weight) in self.weights_mut() {
            weight.trained = keep(&name, group);
        }
    }

    /// The names of the sites that the task reprograms, in the backbone's order.
    pub fn site_names(&self) -> Vec<String> {
        let sites = self.plan.sites.iter().zip(&self.sites);
        let own = sites.filter(|(_, site)| !matches!(site, Site::Frozen { .. }));
        own.map(|(frozen, _)| frozen.name.clone()).collect()
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
                            ("kernel", identity(frozen.channels))
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
            let parts = site.parts().into_iter();
            weights.extend(parts.map(|(part, group, weight)| (format!("{}.{part}", frozen.name), group, weight)));
        }
        weights
    }

    fn weights_mut(&mut self) -> Vec<(String, Group, &mut Weight)> {
        let mut weights = vec![
            ("head.weight".to_owned(), Group::Head, &mut self.head_weight),
            ("head.bias".to_owned(), Group::Head, &mut self.head_bias),
        ];
        for (frozen, site) in self.plan.sites.iter().zip(&mut self.sites) {
            let parts = site.parts_mut().into_iter();
            weights.extend(parts.map(|(part, group, weight)| (format!("{}.{part}", frozen.name), group, weight)));
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
