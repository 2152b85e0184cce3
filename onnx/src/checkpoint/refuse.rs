//! Checkpoints with unusable weights: an unsupported kind, or changed for quantisation.

use super::ImportError;
use super::weights::{Source, Weights};

/// A file without tensors.
pub(super) fn if_empty(weights: &Weights<'_>, origin: &str) -> Result<(), ImportError> {
    if !weights.entries.is_empty() {
        return Ok(());
    }
    Err(ImportError::Container {
        origin: origin.to_owned(),
        reason: "there are no tensors in it\nhint: save the weights with torch.save(model.state_dict(), path)".into(),
    })
}

/// Returns an error if no architecture can match because of the kind of the tensors. It names the first such tensor and
/// has a hint.
pub(super) fn for_kind(weights: &Weights<'_>, origin: &str) -> Option<ImportError> {
    let unreadable = weights.entries.iter().find_map(|(name, entry)| match &entry.source {
        Source::Unreadable(reason) if is_weight(name) => Some((name, reason.clone(), hint(reason))),
        _ => None,
    });
    let prepared = || {
        let name = weights
            .entries
            .keys()
            .find(|name| name.contains("fake_quant") || name.contains("activation_post_process"))?;
        Some((name, "the network was prepared for quantisation".to_owned(), FLOAT))
    };
    let (tensor, reason, hint) = unreadable.or_else(prepared)?;
    Some(ImportError::Tensor {
        origin: origin.to_owned(),
        tensor: tensor.clone(),
        reason: format!("{reason}\nhint: {hint}"),
    })
}

const FLOAT: &str =
    "this is a quantised network: save the state_dict of the float model before its preparation and conversion";

fn hint(reason: &str) -> &'static str {
    if reason.contains("_reconstruct") {
        "in Python: torch.save({k: torch.from_numpy(v) for k, v in weights.items()}, \"weights.pth\")"
    } else if reason.contains("qtensor") {
        FLOAT
    } else {
        "save the weights as float32 with torch.save(model.float().state_dict(), path)"
    }
}

fn is_weight(name: &str) -> bool {
    name.rsplit('.').next() == Some("weight")
}
