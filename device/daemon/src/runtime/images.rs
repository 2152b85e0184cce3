//! Image decoding for the device's tasks, with counters.

use std::{path::Path, sync::atomic::Ordering};

use clr_adapters::Preprocessing;
use clr_onnx::{DecodedImage, ImageError};

use super::Runtime;
use crate::images::ImageFault;

impl Runtime {
    /// Decodes an image, reduced to the input sizes of `tasks`, or to the backbone's if there are none. `path` is the
    /// image's file, if it has one.
    pub(crate) fn decode<'a>(
        &self,
        bytes: &[u8],
        name: &str,
        path: Option<&Path>,
        tasks: impl IntoIterator<Item = &'a Preprocessing>,
    ) -> Result<DecodedImage, ImageFault> {
        let mut inputs: Vec<&Preprocessing> = tasks.into_iter().collect();
        if inputs.is_empty() {
            inputs.push(self.engine.backbone().preprocessing());
        }
        self.images.decode(bytes, name, path, &inputs).inspect_err(|fault| {
            let counter = match fault {
                ImageFault::Quarantined { .. } => &self.counters.images_rejected,
                ImageFault::Image(error) if error.is_over_limit() => &self.counters.images_over_limit,
                ImageFault::Image(ImageError::Damaged { .. }) => &self.counters.images_damaged,
                ImageFault::Image(_) => return,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        })
    }
}
