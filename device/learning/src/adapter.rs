//! Conversion between a network and a folded adapter.

use std::sync::Arc;

use clr_adapters::{
    Adapter, FoldedNorm, Header, Recipe, SiteWeights,
    folding::{Folded, Norm, fold_kernel, fold_scale},
};
use clr_onnx::{Backbone, aligned_sites, check_adapter};

use crate::{DifferenceSite, Multiplier, Network, NormedSite, Site, Weight, error::Result};

impl Network {
    /// Returns the folded adapter. Its header is `header` with this network's backbone digest and recipe.
    ///
    /// # Errors
    /// [`LearningError::Fold`](crate::LearningError::Fold) for a site whose folded values are not finite.
    pub fn to_adapter(&self, header: Header) -> Result<Adapter> {
        let sites = (0..self.sites.len()).filter_map(|index| self.site_for_adapter(index).transpose());
        let sites = sites.collect::<Result<_>>()?;
        let header = Header {
            backbone: self.backbone().digest(),
            recipe: self.recipe,
            ..header
        };
        Ok(Adapter {
            header,
            sites,
            head: self.head(),
        })
    }

    /// Returns a site for an adapter; `None` if it is frozen.
    pub(crate) fn site_for_adapter(&self, index: usize) -> Result<Option<clr_adapters::Site>> {
        let name = self.frozen.sites[index].name.clone();
        let (weights, bias) = match &self.sites[index] {
            Site::Frozen => return Ok(None),
            Site::Difference(site) => return Ok(Some(site.to_adapter(name))),
            Site::Normed(site) => {
                let Folded { weights, bias } = fold(site)?;
                (weights, bias)
            }
            Site::Folded { weights, bias } => {
                let values = weights.weight.values.clone();
                let weights = if weights.kernel {
                    SiteWeights::Kernel(values)
                } else {
                    SiteWeights::Scale(values)
                };
                (weights, bias.values.clone())
            }
        };
        Ok(Some(clr_adapters::Site {
            name: Some(name),
            weights,
            bias,
            steps: None,
        }))
    }

    /// Creates a network with the folded parameters of `adapter`, for evaluation, and for tuning without norms.
    ///
    /// # Errors
    /// [`LearningError::Adapter`](crate::LearningError::Adapter) if the adapter is for another backbone.
    pub fn from_adapter(backbone: &Backbone, adapter: &Adapter) -> Result<Self> {
        let mut network = Self::new(backbone, Recipe::Linear, 0, 0)?;
        network.load_adapter(adapter)?;
        Ok(network)
    }

    /// Creates a network with the parameters of `adapter` on the same backbone. Both networks share the packed weights.
    ///
    /// # Errors
    /// As [`Network::from_adapter`].
    pub fn sibling_from_adapter(&self, adapter: &Adapter) -> Result<Self> {
        let mut network = self.sibling(Recipe::Linear, 0, 0);
        network.load_adapter(adapter)?;
        Ok(network)
    }

    /// Replaces every site by the adapter's folded one, and replaces the head.
    ///
    /// # Errors
    /// [`LearningError::Adapter`](crate::LearningError::Adapter) if the adapter is for another backbone. In that case the network is unchanged.
    pub fn load_adapter(&mut self, adapter: &Adapter) -> Result<()> {
        check_adapter(self.backbone(), adapter)?;
        self.sites = (aligned_sites(self.backbone(), adapter).into_iter())
            .zip(&self.frozen.norms)
            .map(|(given, norm)| given.map_or(Site::Frozen, |site| adapted_site(site, norm)))
            .collect();
        self.head_weight = Weight::new(adapter.head.weight.clone());
        self.head_weight.step = adapter.header.steps.map(|steps| steps.head);
        self.head_bias = Weight::new(adapter.head.bias.clone());
        self.recipe = adapter.header.recipe;
        Ok(())
    }
}

fn adapted_site(site: &clr_adapters::Site, norm: &Arc<FoldedNorm>) -> Site {
    if site.steps.is_some() {
        return Site::Difference(Box::new(DifferenceSite::new(Arc::clone(norm), site)));
    }
    let (values, kernel) = match &site.weights {
        SiteWeights::Kernel(values) => (values, true),
        SiteWeights::Scale(values) => (values, false),
    };
    Site::Folded {
        weights: Multiplier {
            weight: Weight::new(values.clone()),
            kernel,
        },
        bias: Weight::new(site.bias.clone()),
    }
}

fn fold(site: &NormedSite) -> Result<Folded> {
    let norm = Norm {
        scale: &site.gamma.values,
        bias: &site.beta.values,
        mean: &site.norm.mean,
        variance: &site.norm.variance,
        epsilon: site.norm.epsilon,
    };
    let folded = match &site.multiplier {
        Some(Multiplier { weight, kernel: true }) => fold_kernel(&weight.values, Some(&norm), None),
        Some(Multiplier { weight, .. }) => fold_scale(&weight.values, Some(&norm), None),
        None => fold_scale(&vec![1.0; norm.scale.len()], Some(&norm), None),
    };
    Ok(folded?)
}
