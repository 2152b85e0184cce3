//! ONNX model produced by a rewrite.

use prost::Message as _;

use crate::proto::ModelProto;

/// An ONNX model that can be written to a file.
#[derive(Clone, Debug, PartialEq)]
pub struct OnnxModel(ModelProto);

impl OnnxModel {
    pub(super) fn new(model: ModelProto) -> Self {
        Self(model)
    }

    /// Returns the bytes of the file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }

    /// Returns the decoded protobuf message, for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn proto(&self) -> &ModelProto {
        &self.0
    }

    /// Renames graph inputs, including all uses.
    pub(super) fn rename_inputs(&mut self, new: impl Fn(&str) -> Option<String>) {
        let Some(graph) = &mut self.0.graph else {
            return;
        };
        let inputs = graph.input.iter_mut().filter_map(|input| input.name.as_mut());
        let reads = graph.node.iter_mut().flat_map(|node| &mut node.input);
        for name in inputs.chain(reads) {
            if let Some(new) = new(name) {
                *name = new;
            }
        }
    }
}
