//! Between a network and a folded adapter.

use clr_adapters::{
    Adapter, Header, Recipe, SiteKind, SiteWeights,
    folding::{Folded, Norm, fold_kernel, fold_scale},
};
use clr_onnx::Backbone;

use super::{
    Network,
    site::{Normed, Site, Weight},
};
use crate::error::{Result, TrainError};

impl Network {
    /// The folded adapter with `header`, whose backbone digest and recipe are set to this network's.
    pub fn to_adapter(&self, header: Header) -> Result<Adapter> {
        let mut sites = Vec::new();
        for (frozen, site) in self.plan.sites.iter().zip(&self.sites) {
            let (weights, bias) = match site {
                Site::Frozen { .. } => continue,
                Site::Normed(site) => {
                    let Folded { weights, bias } = fold(site)?;
                    (weights, bias)
                }
                Site::Folded { weights, kernel, bias } => {
                    let values = weights.var.flatten_all()?.to_vec1::<f32>()?;
                    let weights = if *kernel {
                        SiteWeights::Kernel(values)
                    } else {
                        SiteWeights::Scale(values)
                    };
                    (weights, bias.var.to_vec1()?)
                }
            };
            sites.push(clr_adapters::Site {
                name: frozen.name.clone(),
                weights,
                bias,
            });
        }
        let header = Header {
            backbone: self.backbone,
            recipe: self.recipe,
            ..header
        };
        Ok(Adapter {
            header,
            sites,
            head: self.head()?,
        })
    }

    /// A network that runs `adapter`, with folded parameters: for evaluation, and for tuning without norms.
    pub fn from_adapter(backbone: &Backbone, adapter: &Adapter, device: &candle_core::Device) -> Result<Self> {
        let mut network = Self::new(backbone, Recipe::Linear, adapter.head.classes(), device, 0)?;
        network.load_adapter(adapter)?;
        Ok(network)
    }

    /// Another network on the same backbone that runs `adapter`, sharing the packed weights.
    pub fn sibling_from_adapter(&self, adapter: &Adapter) -> Result<Self> {
        let mut network = self.sibling(Recipe::Linear, adapter.head.classes(), 0)?;
        network.load_adapter(adapter)?;
        Ok(network)
    }

    /// Replaces every site by the adapter's folded one, and the head.
    pub fn load_adapter(&mut self, adapter: &Adapter) -> Result<()> {
        let mismatch = |what: String, expected: String, got: String| TrainError::Mismatch { what, expected, got };
        if adapter.header.backbone != self.backbone {
            let (expected, got) = (self.backbone.short(), adapter.header.backbone.short());
            return Err(mismatch("backbone digest".to_owned(), expected, got));
        }
        let recipe = adapter.header.recipe;
        let device = &self.plan.device;
        let mut given = adapter.sites.iter();
        let mut sites = Vec::with_capacity(self.plan.sites.len());
        for frozen in &self.plan.sites {
            let kind = recipe.site_kind(frozen.kernel);
            if kind == SiteKind::Frozen {
                sites.push(Site::frozen(frozen, device)?);
                continue;
            }
            let site = given
                .next()
                .ok_or_else(|| mismatch("sites".to_owned(), frozen.name.clone(), "no further site".to_owned()))?;
            let (values, kernel) = match &site.weights {
                SiteWeights::Kernel(values) => (values, true),
                SiteWeights::Scale(values) => (values, false),
            };
            let channels = frozen.channels;
            let count = if kernel { 9 * channels } else { channels };
            if site.name != frozen.name
                || kernel != (kind == SiteKind::Kernel)
                || values.len() != count
                || site.bias.len() != channels
            {
                let expected = format!("`{}`, {kind:?} of {channels} channels", frozen.name);
                let got = format!(
                    "`{}`, {} values and {} biases",
                    site.name,
                    values.len(),
                    site.bias.len()
                );
                return Err(mismatch("site".to_owned(), expected, got));
            }
            let shape: &[usize] = if kernel { &[channels, 1, 3, 3] } else { &[channels] };
            sites.push(Site::Folded {
                weights: Weight::new(values, shape, device)?,
                kernel,
                bias: Weight::new(&site.bias, &[channels], device)?,
            });
        }
        if let Some(site) = given.next() {
            return Err(mismatch(
                "sites".to_owned(),
                "no further site".to_owned(),
                site.name.clone(),
            ));
        }
        let classes = adapter.head.classes();
        if adapter.head.features != self.feature_count() || adapter.head.weight.len() != classes * adapter.head.features
        {
            let got = format!(
                "{} features, {} weights",
                adapter.head.features,
                adapter.head.weight.len()
            );
            return Err(mismatch(
                "head".to_owned(),
                format!("{} features", self.feature_count()),
                got,
            ));
        }
        self.head_weight = Weight::new(&adapter.head.weight, &[classes, adapter.head.features], device)?;
        self.head_bias = Weight::new(&adapter.head.bias, &[classes], device)?;
        self.sites = sites;
        self.recipe = recipe;
        Ok(())
    }
}

fn fold(site: &Normed) -> Result<Folded> {
    let flat = |weight: &Weight| weight.var.flatten_all()?.to_vec1::<f32>();
    let (scale, bias) = (flat(&site.gamma)?, flat(&site.beta)?);
    let norm = Norm {
        scale: &scale,
        bias: &bias,
        mean: &site.norm.mean,
        variance: &site.norm.variance,
        epsilon: site.norm.epsilon,
    };
    Ok(match &site.multiplier {
        Some(weight) if weight.var.rank() == 4 => fold_kernel(&flat(weight)?, Some(&norm), None)?,
        Some(weight) => fold_scale(&flat(weight)?, Some(&norm), None)?,
        None => fold_scale(&vec![1.0; scale.len()], Some(&norm), None)?,
    })
}
