//! Parts of a network that are no operation of the canonical graph: values that only ONNX nodes compute.
//!
//! A node that nothing here converts gives a [`Foreign`] value, of which no more than shape and type is known. Where an
//! operation of the graph needs it (a convolution, a sum with a residual), an opaque step is put into the graph in its place,
//! and filled at the end of the import with the nodes between it and the values before it.

mod convert;
mod infer;
mod materialise;
mod region;
mod steps;

pub(super) use materialise::Placeholder;
pub(super) use region::Tail;
pub(super) use steps::OwnSteps;

use super::value::Dim;

/// The reason of a node that no opaque step can have.
pub(super) const UNKNOWN: &str = "unknown operator";

/// The type of a value's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Float,
    Integer,
    Bool,
}

/// A value that nodes outside the canonical graph compute.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Foreign {
    pub(super) dims: Vec<Dim>,
    pub(super) kind: Kind,
}
