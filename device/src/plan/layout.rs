//! What an adapter looks like to a plan: which sites it fills, and where each one's parameters lie in its tensor.

use std::ops::Range;

use clr_adapters::{Adapter, Recipe, SiteKind, SiteWeights};
use clr_onnx::Backbone;

use clr_kernels::{AFFINE_PARAMETERS, LANES, Post};

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
            let tensor = &mut tensor[place];
            match &site.weights {
                SiteWeights::Scale(scale) => {
                    for (channel, (&scale, &bias)) in scale.iter().zip(&site.bias).enumerate() {
                        put_affine(tensor, channel, scale, bias);
                    }
                }
                SiteWeights::Kernel(kernel) => {
                    for (channel, (kernel, &bias)) in kernel.chunks_exact(9).zip(&site.bias).enumerate() {
                        let block = &mut tensor[channel / LANES * Post::Kernel.parameters()..];
                        for (tap, &weight) in kernel.iter().enumerate() {
                            block[tap * LANES + channel % LANES] = weight;
                        }
                        block[9 * LANES + channel % LANES] = bias;
                    }
                }
            }
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

/// Writes one channel into `[scale 16, bias 16]` blocks.
pub(super) fn put_affine(blocks: &mut [f32], channel: usize, scale: f32, bias: f32) {
    let block = &mut blocks[channel / LANES * AFFINE_PARAMETERS..];
    block[channel % LANES] = scale;
    block[LANES + channel % LANES] = bias;
}
