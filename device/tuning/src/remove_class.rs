//! A class that was taught on the device is removed, so that the task is as before, or so that it can be taught again.

use clr_learning::Network;
use clr_onnx::Backbone;

use crate::{
    AdapterRevision, Parent,
    error::{Result, TuneError},
    prototype::Teacher,
};

impl Parent {
    /// Returns whether `label` is a class that was taught on the device.
    #[must_use]
    pub fn has_taught(&self, label: &str) -> bool {
        let taught = self.adapter.header.labels.get(self.protected..);
        taught.is_some_and(|taught| taught.iter().any(|known| known == label))
    }

    /// Returns the parent without a class that was taught on the device. The other classes' logits stay bit-identical.
    ///
    /// # Errors
    /// [`TuneError::NoSuchClass`] if the adapter lacks the class; [`TuneError::PublishersClass`] for a protected one;
    /// [`TuneError::Learning`] if the network fails.
    pub fn without_class(&self, backbone: &Backbone, label: &str) -> Result<Self> {
        let header = &self.adapter.header;
        let Some(class) = header.labels.iter().position(|known| known == label) else {
            return Err(TuneError::NoSuchClass {
                task: header.task.clone(),
                label: label.to_owned(),
                known: header.labels.join(", "),
            });
        };
        if class < self.protected {
            return Err(TuneError::PublishersClass {
                task: header.task.clone(),
                label: label.to_owned(),
            });
        }
        let mut without = self.clone();
        without.adapter.remove_class(class);
        let network = Network::from_adapter(backbone, &without.adapter)?;
        let mut teacher = Teacher::new(&without, &network)?;
        teacher.restate_noise();
        without.adapter = teacher.adapter;
        Ok(without)
    }
}

/// Removes a class that was taught on the device from its adapter.
///
/// # Errors
/// As [`Parent::without_class`]; [`TuneError::LastClasses`] if a single class would remain; [`TuneError::Encode`] or
/// [`TuneError::Decode`] if the adapter cannot be written to a file.
pub fn remove_class(backbone: &Backbone, parent: &Parent, label: &str) -> Result<AdapterRevision> {
    let without = parent.without_class(backbone, label)?;
    let header = &without.adapter.header;
    if header.labels.len() < 2 {
        return Err(TuneError::LastClasses {
            task: header.task.clone(),
            label: label.to_owned(),
        });
    }
    AdapterRevision::new(without.adapter, Some(parent))
}
