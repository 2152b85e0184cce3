//! Check that an adapter fits a backbone.

use clr_adapters::{Adapter, SiteKind, SiteWeights};

use crate::{AdapterMismatch, Backbone};

/// Checks an adapter against a backbone: digest, sites (names, order, kinds, channels) and head (features, classes,
/// labels).
///
/// # Errors
/// The first mismatch, with the expected value and the adapter's.
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
    let expected: Vec<_> = backbone
        .sites()
        .iter()
        .filter(|site| recipe.site_kind(site.kernel) != SiteKind::Frozen)
        .collect();
    if expected.len() != adapter.sites.len() {
        return Err(AdapterMismatch::SiteCount {
            task: task(),
            recipe,
            expected: expected.len(),
            got: adapter.sites.len(),
        });
    }
    for (index, (info, site)) in expected.into_iter().zip(&adapter.sites).enumerate() {
        if info.name != site.name {
            return Err(AdapterMismatch::SiteName {
                task: task(),
                index,
                expected: info.name.clone(),
                got: site.name.clone(),
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
            site: site.name.clone(),
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
