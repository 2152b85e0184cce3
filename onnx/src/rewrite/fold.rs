//! The backbone's own per-channel affine (folded norm).

use clr_adapters::{
    Adapter, FoldedNorm, Head, Header, Profile, Recipe, Site, SiteKind, SiteSteps, SiteWeights, StepSize, Steps,
};

use super::check::aligned_sites;

use crate::{
    Backbone, ConvWeight, QuantisedTensor, SiteInfo, Tensor,
    graph::{Conv, Graph, Op},
};

/// Returns the convolution of a site.
pub(crate) fn convolution<'a>(graph: &'a Graph, site: &SiteInfo) -> Option<&'a Conv> {
    match &graph.nodes.get(site.conv)?.op {
        Op::Conv(conv) => Some(conv),
        _ => None,
    }
}

/// Returns factor and offset per channel for the bias-free output: `g = γ/√(σ²+ε)`, `b = β + (c − μ)·g`. Without a
/// norm, `g = 1` and `b = c`. `c` is the convolution's own bias, or 0.
pub(crate) fn affine(graph: &Graph, site: &SiteInfo) -> Vec<[f64; 2]> {
    let own = convolution(graph, site).and_then(|conv| conv.bias.as_ref());
    let own = |channel: usize| own.map_or(0.0, |bias| f64::from(bias.data()[channel]));
    let Some(Op::BatchNorm(norm)) = site.norm.map(|index| &graph.nodes[index].op) else {
        return (0..site.channels).map(|channel| [1.0, own(channel)]).collect();
    };
    let value = |tensor: &crate::Tensor, channel: usize| f64::from(tensor.data()[channel]);
    let channels = (0..site.channels).map(|channel| {
        let factor = value(&norm.scale, channel) / (value(&norm.variance, channel) + f64::from(norm.epsilon)).sqrt();
        [
            factor,
            value(&norm.bias, channel) + (own(channel) - value(&norm.mean, channel)) * factor,
        ]
    });
    channels.collect()
}

/// Returns γ of the norm at a site, or 1 for each channel without one.
pub(crate) fn gamma(graph: &Graph, site: &SiteInfo) -> Vec<f64> {
    match site.norm.map(|index| &graph.nodes[index].op) {
        Some(Op::BatchNorm(norm)) => norm.scale.data().iter().map(|&gamma| f64::from(gamma)).collect(),
        _ => vec![1.0; site.channels],
    }
}

/// Returns the backbone's own norm at each of its sites, the reference of adapters that store differences. A backbone
/// with folded norms may have [units of their biases](Backbone::bias_units).
pub fn folded_norms(backbone: &Backbone) -> Vec<FoldedNorm> {
    let graph = backbone.graph();
    let of = |(index, site): (usize, &SiteInfo)| {
        let affine = affine(graph, site);
        let gamma = (backbone.bias_units()).map_or_else(|| gamma(graph, site), |units| units.gamma(index));
        let part = |part: usize| affine.iter().map(|parts| parts[part]).collect();
        FoldedNorm::new(part(0), part(1), &gamma)
    };
    backbone.sites().iter().enumerate().map(of).collect()
}

/// Returns the adapter as a compact file stores it: sites as differences from the backbone's own norms in multiples of
/// `sites`, the head in steps of `head` of its root mean square, and the profile in its own steps
/// ([`Profile::steps`](clr_adapters::Profile::steps)). The adapter must have passed [`check_adapter`](crate::check_adapter).
pub fn compacted(backbone: &Backbone, adapter: &Adapter, sites: SiteSteps, head: f64) -> Adapter {
    let mut compact = adapter.clone();
    let norms = folded_norms(backbone);
    let aligned = aligned_sites(backbone, adapter).into_iter().zip(&norms);
    compact.sites = aligned
        .filter_map(|(site, norm)| site.map(|site| norm.differences(site, sites)))
        .collect();
    let head = adapter.head.step(head);
    compact.head.weight = head.round(&compact.head.weight);
    let [profile_mean, profile_factor] = (adapter.header.profile.as_ref()).map_or([StepSize(0); 2], Profile::steps);
    compact.header.profile = adapter
        .header
        .profile
        .as_ref()
        .map(|profile| profile.rounded([profile_mean, profile_factor]));
    compact.header.steps = Some(Steps {
        head,
        profile_mean,
        profile_factor,
    });
    compact
}

/// Returns a convolution's weights with every output channel multiplied by its factor.
pub(crate) fn scaled(conv: &Conv, factors: impl Iterator<Item = f64>) -> ConvWeight {
    let factors: Vec<f64> = factors.collect();
    if let Some(integers) = conv.weight.int8().and_then(|weight| scaled_integers(weight, &factors)) {
        return integers.into();
    }
    let values = conv.weight.values();
    let per_channel = values.len() / conv.channels();
    let rows = values.chunks_exact(per_channel).zip(factors);
    let scaled = rows.flat_map(|(row, factor)| row.iter().map(move |&weight| (f64::from(weight) * factor) as f32));
    Tensor::new(conv.weight.shape(), scaled.collect::<Vec<_>>()).into()
}

/// Returns the same integers with other scales. Integers of a channel with a negative factor change their sign. Returns
/// `None` if this is impossible: −128 has no opposite, and a factor of zero leaves no scale.
fn scaled_integers(weight: &QuantisedTensor, factors: &[f64]) -> Option<QuantisedTensor> {
    let (mut values, mut scales) = (
        Vec::with_capacity(weight.values().len()),
        Vec::with_capacity(factors.len()),
    );
    for ((row, scale), factor) in weight.rows().zip(factors) {
        let scaled = (f64::from(scale) * factor.abs()) as f32;
        if !(scaled.is_normal() && (scaled * 128.0).is_finite()) {
            return None;
        }
        scales.push(scaled);
        for value in row {
            values.push(if *factor < 0.0 { value.checked_neg()? } else { *value });
        }
    }
    Some(QuantisedTensor::new(weight.shape(), values, scales))
}

/// Returns the adapter with which the backbone's function stays the same. It has the backbone's own folded norm at
/// every site of `recipe` (after identity kernels if the recipe has kernels), and `head` on top. `header.backbone` and
/// `header.recipe` are set to the backbone's digest and `recipe`.
pub fn identity_adapter(backbone: &Backbone, recipe: Recipe, head: Head, header: Header) -> Adapter {
    let sites = backbone.sites().iter().filter_map(|site| {
        let affine = affine(backbone.graph(), site);
        let factors = affine.iter().map(|&[factor, _]| factor as f32);
        let weights = match recipe.site_kind(site.kernel) {
            SiteKind::Frozen => return None,
            SiteKind::Scale => SiteWeights::Scale(factors.collect()),
            SiteKind::Kernel => SiteWeights::Kernel(
                factors
                    .flat_map(|factor| [0.0, 0.0, 0.0, 0.0, factor, 0.0, 0.0, 0.0, 0.0])
                    .collect(),
            ),
        };
        let bias = affine.iter().map(|&[_, offset]| offset as f32).collect();
        Some(Site {
            name: Some(site.name.clone()),
            weights,
            bias,
            steps: None,
        })
    });
    Adapter {
        sites: sites.collect(),
        head,
        header: Header {
            backbone: backbone.digest(),
            recipe,
            ..header
        },
    }
}
