//! Conversion of an adapter of a float backbone to one of the quantised backbone that was made from it.

use clr_adapters::{Adapter, Site, SiteWeights};

use crate::{
    AdapterMismatch, Backbone, ConvWeight, SiteInfo, absolute_sites, aligned_sites, check_adapter, folded_norms,
    rewrite::{affine, convolution, scaled},
};

/// Maximum difference between a weight and its integer's real value, in scales. Rounding gives at most half of one.
const MAX_ROUNDING: f64 = 0.51;

/// The reason why an adapter was not converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConversionError {
    /// The adapter does not belong to the float backbone.
    #[error(transparent)]
    Adapter(#[from] AdapterMismatch),
    /// The backbone that was given as the quantised one is not quantised.
    #[error(
        "`{backbone}`: expected a quantised backbone, got a float one\nhint: `clr quantize` makes one from the float backbone"
    )]
    Float {
        /// The name of the backbone.
        backbone: String,
    },
    /// The quantised backbone was not made from the float one.
    #[error(
        "site `{site}`: {reason}\nhint: an adapter is converted to a quantised backbone that `clr quantize` made from the \
         backbone on which the adapter was trained"
    )]
    OtherBackbone {
        /// The first site that differs.
        site: String,
        /// The difference.
        reason: String,
    },
    /// A norm multiplies a channel by zero, so the folded convolution's result has lost what the site reads.
    #[error(
        "site `{site}`: the backbone's norm multiplies channel {channel} by zero, so the quantised convolution has lost it\n\
         hint: train the adapter on the quantised backbone"
    )]
    LostChannel {
        /// The site.
        site: String,
        /// The channel.
        channel: usize,
    },
}

/// Returns the sites of `adapter`, which belongs to `float`, for `quantised`. Differences from the backbone's norm remain
/// differences with the same steps, other values absolute. Head and header stay as they are, except for the digest of the
/// backbone.
///
/// A convolution of a quantised backbone contains its norm, `conv′ = f · conv` per channel, and its bias is corrected by the
/// mean error `e` of its rounded weights. With `scale · conv + bias` in the float adapter, the new site is
/// `(scale / f) · conv′ + (bias − e · scale / f)`; for a kernel, the same with each tap and, in the bias, with their sum.
///
/// # Errors
/// [`ConversionError`] if the adapter does not belong to `float`, or if `quantised` was not made from it.
pub fn convert_adapter(float: &Backbone, quantised: &Backbone, adapter: &Adapter) -> Result<Adapter, ConversionError> {
    check_adapter(float, adapter)?;
    if !quantised.is_quantised() {
        return Err(ConversionError::Float {
            backbone: quantised.name().to_owned(),
        });
    }
    let norms = folded(float, quantised)?;
    let steps = aligned_sites(float, adapter).into_iter().map(|site| site?.steps);
    let given = absolute_sites(float, adapter).into_iter().zip(steps);
    let own = folded_norms(quantised);
    let sites = given.zip(float.sites()).zip(norms.iter().zip(&own));
    let sites = sites.filter_map(|(((site, steps), info), (norm, own))| {
        let converted = convert_site(info, &*site?, norm);
        Some(converted.map(|site| steps.map_or_else(|| site.clone(), |steps| own.differences(&site, steps))))
    });
    let mut converted = adapter.clone();
    converted.sites = sites.collect::<Result<_, _>>()?;
    converted.header.backbone = quantised.digest();
    Ok(converted)
}

/// Factor of the folded norm, and mean error of the rounded convolution, per channel.
type Channels = Vec<[f64; 2]>;

/// Returns the relation of both backbones at each site, and checks that the weights are the same up to rounding.
fn folded(float: &Backbone, quantised: &Backbone) -> Result<Vec<Channels>, ConversionError> {
    let fail = |site: &SiteInfo, reason: String| ConversionError::OtherBackbone {
        site: site.name.clone(),
        reason,
    };
    let mut others = quantised.sites().iter();
    let mut all = Vec::with_capacity(float.sites().len());
    for site in float.sites() {
        let other = others.next().filter(|other| other.name == site.name);
        let other = other.ok_or_else(|| fail(site, "the quantised backbone does not have it there".to_owned()))?;
        let (Some(own), Some(conv)) = (convolution(float.graph(), site), convolution(quantised.graph(), other)) else {
            return Err(fail(site, "it is no convolution".to_owned()));
        };
        let affine = affine(float.graph(), site);
        let expected = scaled(own, affine.iter().map(|&[factor, _]| factor));
        if expected.shape() != conv.weight.shape() {
            let reason = format!("expected weights {:?}, got {:?}", expected.shape(), conv.weight.shape());
            return Err(fail(site, reason));
        }
        let (channels, values) = (affine.len(), expected.values());
        let filter = values.len() / channels.max(1);
        let scale = |channel: usize| match &conv.weight {
            ConvWeight::Int8(weight) => f64::from(weight.scale()[channel]),
            ConvWeight::Float(_) => f64::from(f32::EPSILON) * 128.0,
        };
        let rounded = conv.weight.values();
        let apart = values
            .iter()
            .zip(&*rounded)
            .enumerate()
            .find(|(index, (expected, got))| {
                let tolerance = MAX_ROUNDING * scale(index / filter) + 1e-6 * f64::from(expected.abs());
                (f64::from(**expected) - f64::from(**got)).abs() > tolerance
            });
        if let Some((index, (expected, got))) = apart {
            let channel = index / filter;
            return Err(fail(
                site,
                format!("expected weights near {expected} in channel {channel}, got {got}"),
            ));
        }
        let bias = |channel: usize| conv.bias.as_ref().map_or(0.0, |bias| f64::from(bias.data()[channel]));
        let relation = affine.iter().enumerate();
        all.push(
            relation
                .map(|(channel, &[factor, offset])| [factor, offset - bias(channel)])
                .collect(),
        );
    }
    match others.next() {
        Some(other) => Err(fail(other, "the float backbone does not have it".to_owned())),
        None => Ok(all),
    }
}

fn convert_site(info: &SiteInfo, site: &Site, norm: &Channels) -> Result<Site, ConversionError> {
    let taps = match site.weights {
        SiteWeights::Scale(_) => 1,
        SiteWeights::Kernel(_) => 9,
    };
    let (SiteWeights::Scale(weights) | SiteWeights::Kernel(weights)) = &site.weights;
    let (mut converted, mut biases) = (Vec::with_capacity(weights.len()), Vec::with_capacity(site.bias.len()));
    for (channel, (own, &[factor, error])) in weights.chunks_exact(taps).zip(norm).enumerate() {
        let unused = own.iter().all(|weight| *weight == 0.0);
        if factor == 0.0 && !unused {
            let site = info.name.clone();
            return Err(ConversionError::LostChannel { site, channel });
        }
        let divided = own
            .iter()
            .map(|&weight| if unused { 0.0 } else { f64::from(weight) / factor });
        let divided: Vec<f64> = divided.collect();
        biases.push((f64::from(site.bias[channel]) - error * divided.iter().sum::<f64>()) as f32);
        converted.extend(divided.iter().map(|weight| *weight as f32));
    }
    Ok(Site {
        name: site.name.clone(),
        weights: match site.weights {
            SiteWeights::Scale(_) => SiteWeights::Scale(converted),
            SiteWeights::Kernel(_) => SiteWeights::Kernel(converted),
        },
        bias: biases,
        steps: None,
    })
}
