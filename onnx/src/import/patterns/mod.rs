//! Operations that exporters write as several nodes, recognised at the last of these nodes.
//!
//! The nodes before it may already have been converted; those that nothing else reads are dropped. A constant may be on
//! either side and may be folded with others, so products and sums are compared as multisets.

mod activations;
mod expression;
mod norms;
mod strided;

use super::{Import, attributes::Source, value::Value};

impl<'a> Import<'a> {
    /// Returns the value of `source`, if it is the last node of a known pattern.
    pub(super) fn pattern(&mut self, source: Source<'a>) -> Option<Value> {
        if source
            .proto
            .domain
            .as_deref()
            .is_some_and(|domain| !matches!(domain, "" | "ai.onnx"))
        {
            return None;
        }
        let nodes = self.nodes.len();
        let found = match source.operator() {
            "Mul" => self.written_out(source).or_else(|| self.written_out_norm(source)),
            "Div" => self.written_out_norm(source).or_else(|| self.written_out(source)),
            "Add" => self.response_norm(source),
            "Gather" => self.strided(source),
            _ => None,
        };
        if found.is_none() {
            self.nodes.truncate(nodes);
            self.shapes.truncate(nodes + 1);
        }
        found
    }
}
