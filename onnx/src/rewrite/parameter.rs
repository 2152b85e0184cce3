//! Inputs of a reprogrammed graph, in addition to the image.

use clr_adapters::{Adapter, SiteWeights};

/// The part of an adapter that an input takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterSource {
    /// The kernel or scale of `adapter.sites[index]`.
    SiteWeights(usize),
    /// The bias of `adapter.sites[index]`.
    SiteBias(usize),
    /// The head's weight.
    HeadWeight,
    /// The head's bias.
    HeadBias,
}

/// An input of a reprogrammed graph, whose values an adapter provides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The input's name: `{site}.kernel`, `{site}.scale`, `{site}.bias`, `head.weight` or `head.bias`.
    pub name: String,
    /// Kernel `[C, 1, 3, 3]` with bias `[C]`, or scale `[1, C, 1, 1]` with bias `[1, C, 1, 1]`; head `[K, F]` and
    /// `[K]`.
    pub shape: Vec<usize>,
    /// The part of the adapter that provides the values.
    pub source: ParameterSource,
}

impl Parameter {
    /// Returns the values of this input in `adapter`, row-major in [`Parameter::shape`]; `None` if the adapter has no
    /// such site. For every adapter accepted by [`crate::check_adapter`] that has all sites of its recipe
    /// ([`crate::with_all_sites`]), the length is correct.
    pub fn values<'a>(&self, adapter: &'a Adapter) -> Option<&'a [f32]> {
        Some(match self.source {
            ParameterSource::SiteWeights(index) => match &adapter.sites.get(index)?.weights {
                SiteWeights::Scale(values) | SiteWeights::Kernel(values) => values,
            },
            ParameterSource::SiteBias(index) => &adapter.sites.get(index)?.bias,
            ParameterSource::HeadWeight => &adapter.head.weight,
            ParameterSource::HeadBias => &adapter.head.bias,
        })
    }
}
