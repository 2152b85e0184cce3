//! Removal of a class from an adapter, in every part that has something per class.

use crate::Adapter;

impl Adapter {
    /// Removes a class: its label, its row of the head, its mean feature and its images' points in the profile. The
    /// values of the other classes do not change, so their logits stay bit-identical. Canaries that show the class are
    /// removed, except those that are noise: what an adapter answers to them has to be stated again.
    ///
    /// Does nothing if there is no such class.
    pub fn remove_class(&mut self, class: usize) {
        let (header, head) = (&mut self.header, &mut self.head);
        if class >= header.labels.len().min(head.bias.len()) {
            return;
        }
        header.labels.remove(class);
        head.weight.drain(class * head.features..(class + 1) * head.features);
        head.bias.remove(class);
        if let Some(known) = &mut header.class_features {
            known.remove_class(class);
        }
        let removed = class as u32;
        if let Some(profile) = &mut header.profile {
            profile.taught.retain(|taught| taught.class != removed);
            for taught in profile.taught.iter_mut().filter(|taught| taught.class > removed) {
                taught.class -= 1;
            }
        }
        header
            .canaries
            .retain(|canary| canary.class != removed || canary.seed.is_some());
        let last = (header.labels.len() as u32).saturating_sub(1);
        for canary in &mut header.canaries {
            // One that answered with the removed class states some class until it is stated again.
            canary.class = if canary.class > removed {
                canary.class - 1
            } else {
                canary.class.min(last)
            };
        }
        header.metrics = None;
    }
}
