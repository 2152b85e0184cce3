//! What an adapter looks like to a plan: which sites it fills, and where each one's parameters lie in its tensor.

use std::ops::Range;

use clr_adapters::{Adapter, Recipe, SiteKind, SiteWeights};
use clr_onnx::Backbone;

use clr_kernels::{LANES, Post, pack_parameters};

/// The sites of one kind of adapter. Recipes with the same sites share a layout, and with it a plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Layout {
    kinds: Vec<SiteKind>,
}

impl Layout {
    /// The layout of `recipe` on `backbone`.
    pub(crate) fn new(backbone: &Backbone, recipe: Recipe) -> Self {
        Self {
            kinds: backbone
                .sites()
                .iter()
                .map(|site| recipe.site_kind(site.kernel))
                .collect(),
        }
    }

    /// What stands behind each of the backbone's sites.
    pub(crate) fn kinds(&self) -> &[SiteKind] {
        &self.kinds
    }

    /// Where each site's parameters lie in the adapter's tensor, and the tensor's length.
    pub(crate) fn places(&self, backbone: &Backbone) -> (Vec<Range<usize>>, usize) {
        let mut end = 0;
        let places = self.kinds.iter().zip(backbone.sites()).map(|(kind, site)| {
            let start = end;
            end += post(*kind).map_or(0, |post| site.channels.div_ceil(LANES) * post.parameters());
            start..end
        });
        (places.collect(), end)
    }

    /// The adapter's tensor: every site's parameters in blocks of 16 channels. The adapter must have been checked
    /// against the backbone.
    pub(crate) fn pack(&self, backbone: &Backbone, adapter: &Adapter) -> Vec<f32> {
        let (places, length) = self.places(backbone);
        let mut tensor = vec![0.0; length];
        let filled = self
            .kinds
            .iter()
            .zip(places)
            .filter(|(kind, _)| **kind != SiteKind::Frozen);
        for ((_, place), site) in filled.zip(&adapter.sites) {
            let (SiteWeights::Scale(weights) | SiteWeights::Kernel(weights)) = &site.weights;
            tensor[place].copy_from_slice(&pack_parameters(weights, &site.bias));
        }
        tensor
    }
}

/// What a site kind computes; `None` is the frozen norm, an affine of the backbone's own.
pub(crate) fn post(kind: SiteKind) -> Option<Post> {
    match kind {
        SiteKind::Frozen => None,
        SiteKind::Scale => Some(Post::Affine),
        SiteKind::Kernel => Some(Post::Kernel),
    }
}
