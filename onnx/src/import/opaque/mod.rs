//! Parts of a network that no operation of the canonical graph expresses: values that only ONNX nodes can compute.
//!
//! If a node cannot be converted, its outputs are [`Foreign`] values, of which only shape and type are known. When an
//! operation of the graph needs such a value (a convolution, a sum with a residual), an opaque step is added to the
//! graph in its place. At the end of the import, each opaque step is filled with the nodes between its value and the
//! values before it.

mod convert;
mod infer;
mod materialise;
mod region;
mod steps;

pub(super) use materialise::Placeholder;
pub(super) use region::Tail;
pub(super) use steps::OwnSteps;

use super::value::Dim;

/// Reason for a node that cannot be part of an opaque step.
pub(super) const UNKNOWN: &str = "unknown operator";

/// The type of a value's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Float,
    Integer,
    Bool,
}

/// A value that nodes outside of the canonical graph compute.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Foreign {
    pub(super) dims: Vec<Dim>,
    pub(super) kind: Kind,
}
