//! Reading and writing of backbone files.

use std::path::Path;

use crate::{Backbone, OnnxError, ReadOptions, foreign, import, write};

impl Backbone {
    /// Reads any supported ONNX file (opset 7 to 28).
    ///
    /// If this library wrote the file, preprocessing, labels and name are in its metadata. Otherwise, a normalisation
    /// at the start of the graph is moved into the preprocessing, and a configuration by timm or Hugging Face in the
    /// same folder is read. Parts that neither of them states are those of [`Backbone::default_preprocessing`] at the
    /// file's input size. [`Backbone::preprocessing_origins`] states where each part came from. Weights in other files
    /// (external data) are looked for in the same folder, and so is the [background](Backbone::background).
    ///
    /// # Errors
    /// [`OnnxError`] if the file cannot be read, is not ONNX, or leaves the image size or the choice of an output open.
    /// If nodes are unsupported, the error lists all of them. [`OnnxError::Background`] if the background next to it is
    /// damaged or belongs to another backbone.
    pub fn load(path: &Path) -> Result<Self, OnnxError> {
        let mut backbone = Self::load_without_background(path)?;
        backbone.add_background_next_to(path)?;
        Ok(backbone)
    }

    /// Reads an ONNX file as [`Backbone::load`] does, but not the background next to it.
    ///
    /// # Errors
    /// [`OnnxError`] in the same cases as [`Backbone::load`], except those of the background.
    pub fn load_without_background(path: &Path) -> Result<Self, OnnxError> {
        let bytes = import::read_file(path)?;
        let origin = path.display().to_string();
        foreign::refuse(&bytes, &origin)?;
        foreign::refuse_other_roles(&bytes, &origin)?;
        import::backbone(&bytes, &origin, Some(path), &ReadOptions::default())
    }

    /// Reads the bytes of an ONNX file; `origin` names them in errors. See [`Backbone::load`].
    ///
    /// # Errors
    /// [`OnnxError`] in the same cases as [`Backbone::load`], and if weights are in other files, which only
    /// [`Backbone::load`] can find.
    pub fn from_bytes(bytes: &[u8], origin: &str) -> Result<Self, OnnxError> {
        foreign::refuse(bytes, origin)?;
        import::backbone(bytes, origin, None, &ReadOptions::default())
    }

    /// Returns a standard ONNX file (opset 17, IR 8). It contains the graph, the classifier as a Gemm with the output
    /// `logits`, and the preprocessing, labels and name in the metadata. Without a classifier, the output is
    /// `features`. Reading the file gives an equal backbone.
    pub fn to_bytes(&self) -> Vec<u8> {
        prost::Message::encode_to_vec(&write::backbone(self))
    }

    /// Writes [`Backbone::to_bytes`] to `path` atomically, by a temporary file and a rename.
    ///
    /// # Errors
    /// [`OnnxError`] if the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), OnnxError> {
        write::atomically(path, &self.to_bytes())
    }
}
