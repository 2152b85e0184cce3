//! Sites of an adapter on a backbone: check, and completion of adapters that only have the last sites.

use std::borrow::Cow;

use clr_adapters::{Adapter, Recipe, Site, SiteKind, SiteWeights};

use super::{folded_norms, identity_adapter};
use crate::{AdapterMismatch, Backbone, SiteInfo};

/// Checks an adapter against a backbone: digest, sites (names, order, kinds, channels) and head (features, classes,
/// labels). An adapter may have only the last of its recipe's sites. The sites before then keep the backbone's own
/// norms.
///
/// # Errors
/// [`AdapterMismatch`] for the first mismatch, with the expected value and the adapter's.
pub fn check_adapter(backbone: &Backbone, adapter: &Adapter) -> Result<(), AdapterMismatch> {
    let task = || adapter.header.task.clone();
    if adapter.header.backbone != backbone.digest() {
        return Err(AdapterMismatch::Backbone {
            task: task(),
            expected: backbone.digest(),
            got: adapter.header.backbone,
        });
    }
    let recipe = adapter.header.recipe;
    let expected = sites_of_recipe(backbone, recipe);
    let got = adapter.sites.len();
    let Some(late) = expected
        .len()
        .checked_sub(got)
        .filter(|_| got > 0 || expected.is_empty())
    else {
        return Err(AdapterMismatch::SiteCount {
            task: task(),
            recipe,
            expected: expected.len(),
            got,
        });
    };
    for (index, (info, site)) in expected[late..].iter().zip(&adapter.sites).enumerate() {
        if let Some(name) = site.name.as_ref().filter(|name| **name != info.name) {
            return Err(AdapterMismatch::SiteName {
                task: task(),
                index,
                expected: info.name.clone(),
                got: name.clone(),
            });
        }
        let (is_kernel, got) = match &site.weights {
            SiteWeights::Scale(values) => (false, values.len()),
            SiteWeights::Kernel(values) => (true, values.len()),
        };
        let wants_kernel = recipe.site_kind(info.kernel) == SiteKind::Kernel;
        let length = info.channels * if wants_kernel { 9 } else { 1 };
        let shape = |part, expected, got| AdapterMismatch::SiteShape {
            task: task(),
            site: info.name.clone(),
            part,
            expected,
            got,
        };
        if (is_kernel, got) != (wants_kernel, length) {
            let describe = |kernel: bool, length: usize| {
                format!("{length} values of a {}", if kernel { "kernel" } else { "scale" })
            };
            return Err(shape(
                "weights",
                describe(wants_kernel, length),
                describe(is_kernel, got),
            ));
        }
        if site.bias.len() != info.channels {
            return Err(shape(
                "bias",
                format!("{} values", info.channels),
                format!("{} values", site.bias.len()),
            ));
        }
    }
    let head = &adapter.head;
    let parts = [
        ("features", backbone.feature_count(), head.features),
        (
            "weight",
            head.classes().saturating_mul(head.features),
            head.weight.len(),
        ),
        ("labels", head.classes(), adapter.header.labels.len()),
    ];
    match parts.into_iter().find(|(_, expected, got)| expected != got) {
        Some((part, expected, got)) => Err(AdapterMismatch::Head {
            task: task(),
            part,
            expected,
            got,
        }),
        None if head.classes() == 0 => Err(AdapterMismatch::Head {
            task: task(),
            part: "bias",
            expected: 1,
            got: 0,
        }),
        None => Ok(()),
    }
}

/// Returns the backbone's sites that `recipe` reprograms, in order.
fn sites_of_recipe(backbone: &Backbone, recipe: Recipe) -> Vec<&SiteInfo> {
    let sites = backbone.sites().iter();
    sites
        .filter(|site| recipe.site_kind(site.kernel) != SiteKind::Frozen)
        .collect()
}

/// Returns the adapter's site for each site of the backbone, or `None` where the backbone's own norm stays. Values are as
/// in the adapter: absolute, or differences from [`folded_norms`](crate::folded_norms). The adapter must have passed
/// [`check_adapter`].
pub fn aligned_sites<'a>(backbone: &Backbone, adapter: &'a Adapter) -> Vec<Option<&'a Site>> {
    let recipe = adapter.header.recipe;
    // From the last site on, because an adapter may leave out the first ones.
    let mut given = adapter.sites.iter().rev();
    let sites = backbone.sites().iter().rev();
    let mut aligned: Vec<_> = sites
        .map(|site| match recipe.site_kind(site.kernel) {
            SiteKind::Frozen => None,
            SiteKind::Scale | SiteKind::Kernel => given.next(),
        })
        .collect();
    aligned.reverse();
    aligned
}

/// Does the same as [`aligned_sites`] with absolute values, rounded once from f64, as every engine computes with them.
pub fn absolute_sites<'a>(backbone: &Backbone, adapter: &'a Adapter) -> Vec<Option<Cow<'a, Site>>> {
    let aligned = aligned_sites(backbone, adapter);
    if adapter.sites.iter().all(|site| site.steps.is_none()) {
        return aligned.into_iter().map(|site| site.map(Cow::Borrowed)).collect();
    }
    let norms = folded_norms(backbone);
    let sites = aligned.into_iter().zip(&norms);
    sites
        .map(|(site, norm)| site.map(|site| Cow::Owned(norm.absolute(site))))
        .collect()
}

/// Returns the adapter with all sites of its recipe, with names and absolute values: sites before its first one repeat
/// the backbone's own norms, which does not change the function. The adapter must have passed [`check_adapter`].
pub fn with_all_sites<'a>(backbone: &Backbone, adapter: &'a Adapter) -> Cow<'a, Adapter> {
    let recipe = adapter.header.recipe;
    let sites = sites_of_recipe(backbone, recipe);
    let plain = |site: &Site| site.steps.is_none() && site.name.is_some();
    if sites.len() == adapter.sites.len() && adapter.sites.iter().all(plain) {
        return Cow::Borrowed(adapter);
    }
    let mut complete = identity_adapter(backbone, recipe, adapter.head.clone(), adapter.header.clone());
    let given = absolute_sites(backbone, adapter).into_iter().flatten();
    let late = complete.sites.len() - adapter.sites.len();
    for (own, site) in complete.sites[late..].iter_mut().zip(given) {
        (own.weights, own.bias) = (site.weights.clone(), site.bias.clone());
    }
    complete.header.steps = None;
    Cow::Owned(complete)
}
