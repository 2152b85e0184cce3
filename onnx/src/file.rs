//! Backbones as files.

use std::path::Path;

use crate::{Backbone, OnnxError, ReadOptions, foreign, import, write};

impl Backbone {
    /// Reads any supported ONNX file (opset 7 to 28). The preprocessing, labels and name are those of the file's metadata if
    /// this library wrote it. Else a normalisation at the start of the graph is moved into the preprocessing, the configuration that
    /// timm or Hugging Face leaves next to the file is read, and the rest is [`Backbone::default_preprocessing`] at the file's
    /// input size; [`Backbone::preprocessing_origins`] says which is which. Weights in other files (external data) are looked for
    /// next to it.
    ///
    /// # Errors
    /// If the file cannot be read, is not ONNX, leaves the size of the image or the choice of an output open, or has nodes
    /// that are not supported: then all of them are listed.
    pub fn load(path: &Path) -> Result<Self, OnnxError> {
        let bytes = import::read_file(path)?;
        let origin = path.display().to_string();
        foreign::refuse(&bytes, &origin)?;
        foreign::refuse_other_roles(&bytes, &origin)?;
        import::backbone(&bytes, &origin, Some(path), &ReadOptions::default())
    }

    /// Reads the bytes of an ONNX file; `origin` names them in errors. See [`Backbone::load`].
    ///
    /// # Errors
    /// As [`Backbone::load`]; also if weights are in other files, which only [`Backbone::load`] finds.
    pub fn from_bytes(bytes: &[u8], origin: &str) -> Result<Self, OnnxError> {
        foreign::refuse(bytes, origin)?;
        import::backbone(bytes, origin, None, &ReadOptions::default())
    }

    /// Returns the bytes of a standard ONNX file (opset 17, IR 8): the graph, the classifier as a Gemm (output `logits`; without
    /// a classifier `features`), and preprocessing, labels and name in the metadata. Reading them gives this backbone again.
    pub fn to_bytes(&self) -> Vec<u8> {
        prost::Message::encode_to_vec(&write::backbone(self))
    }

    /// Writes [`Backbone::to_bytes`] to `path`: atomically (a temporary file next to it, then a rename).
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn save(&self, path: &Path) -> Result<(), OnnxError> {
        write::atomically(path, &self.to_bytes())
    }
}
