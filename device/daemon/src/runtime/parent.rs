//! Parent of a learning run.

use clr_store::{ServingAdapter, StoreError};
use clr_tuning::Parent;

use super::Runtime;

impl Runtime {
    /// Returns the adapter to tune, with its protected classes: those of the publisher's original. A task created on
    /// the device has none.
    pub(crate) fn parent(&self, serving: &ServingAdapter) -> Result<Parent, StoreError> {
        if !serving.held.tuned {
            let own = serving.decoded.adapter.clone();
            return Ok(Parent::new(serving.decoded.clone(), Some(&own)));
        }
        let task = &serving.decoded.adapter.header.task;
        let state = self.store.task(task)?;
        // The original is the confirmed adapter if that was not tuned, otherwise the restore point.
        let publisher = state.confirmed.filter(|held| !held.tuned).or(state.restore);
        let original = match publisher {
            Some(held) => {
                Some(clr_adapters::decode(&self.store.file(&held.digest)?).map_err(clr_adapters::Refusal::from))
            }
            None => None,
        };
        let original = original.transpose().map_err(StoreError::Refused)?;
        Ok(Parent::new(
            serving.decoded.clone(),
            original.as_ref().map(|decoded| &decoded.adapter),
        ))
    }
}
