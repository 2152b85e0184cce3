//! Conversion between a network and a folded adapter.

use clr_adapters::{
    Adapter, Header, Recipe, SiteKind, SiteWeights,
    folding::{Folded, Norm, fold_kernel, fold_scale},
};
use clr_onnx::Backbone;

use crate::{
    FrozenSite, Multiplier, Network, NormedSite, Site, Weight,
    error::{LearningError, Result},
};

impl Network {
    /// Returns the folded adapter. Its header is `header` with this network's backbone digest and recipe.
    ///
    /// # Errors
    /// [`LearningError::Fold`] for a site whose folded values are not finite.
    pub fn to_adapter(&self, header: Header) -> Result<Adapter> {
        let mut sites = Vec::new();
        for (frozen, site) in self.frozen.sites.iter().zip(&self.sites) {
            let (weights, bias) = match site {
                Site::Frozen => continue,
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
            sites.push(clr_adapters::Site {
                name: frozen.name.clone(),
                weights,
                bias,
            });
        }
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

    /// Creates a network with the folded parameters of `adapter`, for evaluation, and for tuning without norms.
    ///
    /// # Errors
    /// [`LearningError::Mismatch`] if the adapter is for another backbone.
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
    /// [`LearningError::Mismatch`] if the adapter is for another backbone. In that case the network is unchanged.
    pub fn load_adapter(&mut self, adapter: &Adapter) -> Result<()> {
        let digest = self.backbone().digest();
        if adapter.header.backbone != digest {
            let (expected, got) = (digest.short(), adapter.header.backbone.short());
            return Err(mismatch("backbone digest", expected, got));
        }
        let recipe = adapter.header.recipe;
        let mut given = adapter.sites.iter();
        let mut sites = Vec::with_capacity(self.frozen.sites.len());
        for frozen in &self.frozen.sites {
            let kind = recipe.site_kind(frozen.kernel);
            sites.push(match kind {
                SiteKind::Frozen => Site::Frozen,
                _ => folded_site(frozen, kind, given.next())?,
            });
        }
        if let Some(site) = given.next() {
            return Err(mismatch("sites", "no further site", &site.name));
        }
        let (head, features) = (&adapter.head, self.feature_count());
        if head.features != features || head.weight.len() != head.classes() * features {
            let got = format!("{} features, {} weights", head.features, head.weight.len());
            return Err(mismatch("head", format!("{features} features"), got));
        }
        self.head_weight = Weight::new(head.weight.clone());
        self.head_bias = Weight::new(head.bias.clone());
        self.sites = sites;
        self.recipe = recipe;
        Ok(())
    }
}

fn folded_site(frozen: &FrozenSite, kind: SiteKind, given: Option<&clr_adapters::Site>) -> Result<Site> {
    let Some(site) = given else {
        return Err(mismatch("sites", &frozen.name, "no further site"));
    };
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
        let (values, biases) = (values.len(), site.bias.len());
        let got = format!("`{}`, {values} values and {biases} biases", site.name);
        return Err(mismatch("site", expected, got));
    }
    Ok(Site::Folded {
        weights: Multiplier {
            weight: Weight::new(values.clone()),
            kernel,
        },
        bias: Weight::new(site.bias.clone()),
    })
}

fn mismatch(what: &str, expected: impl std::fmt::Display, got: impl std::fmt::Display) -> LearningError {
    LearningError::mismatch(format!("adapter does not fit the backbone: {what}"), expected, got)
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
