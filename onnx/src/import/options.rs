//! Options of reading an ONNX file.

/// Options for information that an ONNX file does not contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadOptions {
    /// Rows and columns of the image in pixels, if the file leaves its height or width open.
    pub size: Option<[u32; 2]>,
    /// The output to read: a graph output, or any value that a node produces. Without it, the only output is read, or
    /// the only one of several that is a classifier.
    pub output: Option<String>,
    /// Whether one unit without a Sigmoid is the logit of the second of two classes. Otherwise it may be a regression.
    pub two_classes: bool,
}

impl ReadOptions {
    /// Sets the rows and columns of the image.
    #[must_use]
    pub fn with_size(mut self, size: impl Into<Option<[u32; 2]>>) -> Self {
        self.size = size.into();
        self
    }

    /// Sets the output to read.
    #[must_use]
    pub fn with_output(mut self, output: impl Into<Option<String>>) -> Self {
        self.output = output.into();
        self
    }
}
