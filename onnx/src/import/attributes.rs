//! A node of the file, with access to its attributes and inputs.

use super::value::{Refusal, unsupported};
use crate::proto::{AttributeProto, NodeProto, TensorProto};

/// A node, its name in the graph, and the opset.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) proto: &'a NodeProto,
    pub(super) name: &'a str,
    pub(super) opset: i64,
}

impl<'a> Source<'a> {
    /// Returns the operator.
    pub(super) fn operator(&self) -> &'a str {
        self.proto.op_type.as_deref().unwrap_or("")
    }

    /// Returns the name of input `index`, if the node has it.
    pub(super) fn input(&self, index: usize) -> Option<&'a str> {
        self.proto
            .input
            .get(index)
            .map(String::as_str)
            .filter(|name| !name.is_empty())
    }

    /// Refuses attributes that the conversion does not support, because ignoring one could change the function.
    pub(super) fn allow(&self, known: &[&str]) -> Result<(), Refusal> {
        let stranger = self
            .proto
            .attribute
            .iter()
            .filter_map(|attribute| attribute.name.as_deref())
            .find(|name| !known.contains(name));
        stranger.map_or(Ok(()), |name| Err(Refusal::Invalid(format!("attribute `{name}`"))))
    }

    fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        self.proto
            .attribute
            .iter()
            .find(|attribute| attribute.name.as_deref() == Some(name))
    }

    /// Returns whether the node has the attribute.
    pub(super) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    /// Returns an integer.
    pub(super) fn int(&self, name: &str, default: i64) -> Result<i64, Refusal> {
        match self.attribute(name) {
            None => Ok(default),
            Some(attribute) => attribute
                .i
                .map_or_else(|| unsupported(format!("attribute `{name}` is not an integer")), Ok),
        }
    }

    /// Returns an integer attribute as a flag, which must be 0 or 1.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, Refusal> {
        match self.int(name, default.into())? {
            0 => Ok(false),
            1 => Ok(true),
            other => unsupported(format!("attribute `{name}`: expected 0 or 1, got {other}")),
        }
    }

    /// Returns a float.
    pub(super) fn float(&self, name: &str, default: f32) -> Result<f32, Refusal> {
        match self.attribute(name) {
            None => Ok(default),
            Some(attribute) => attribute
                .f
                .map_or_else(|| unsupported(format!("attribute `{name}` is not a float")), Ok),
        }
    }

    /// Returns a list of floats.
    pub(super) fn floats(&self, name: &str) -> Option<&'a [f32]> {
        self.attribute(name).map(|attribute| &attribute.floats[..])
    }

    /// Returns a list of integers.
    pub(super) fn ints(&self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name).map(|attribute| &attribute.ints[..])
    }

    /// Returns a tensor.
    pub(super) fn tensor(&self, name: &str) -> Option<&'a TensorProto> {
        self.attribute(name)?.t.as_ref()
    }

    /// Returns a string.
    pub(super) fn text(&self, name: &str, default: &'a str) -> Result<&'a str, Refusal> {
        match self
            .attribute(name)
            .map(|attribute| attribute.s.as_deref().map(std::str::from_utf8))
        {
            None => Ok(default),
            Some(Some(Ok(text))) => Ok(text),
            Some(_) => unsupported(format!("attribute `{name}` is not a string")),
        }
    }

    /// Returns `N` non-negative sizes.
    pub(super) fn sizes<const N: usize>(&self, name: &str, default: [usize; N]) -> Result<[usize; N], Refusal> {
        let Some(ints) = self.ints(name) else {
            return Ok(default);
        };
        let sizes: Option<Vec<usize>> = ints.iter().map(|&value| usize::try_from(value).ok()).collect();
        match sizes.and_then(|sizes| sizes.try_into().ok()) {
            Some(sizes) => Ok(sizes),
            None => unsupported(format!(
                "attribute `{name}`: expected {N} numbers, none negative (two spatial dimensions), got {ints:?}"
            )),
        }
    }
}
