//! Nodes that an import refuses, and the lines that list them.

use crate::message::lines;

/// A node that an import refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The node's name.
    pub node: String,
    /// The node's operator. It includes the domain, unless that is the default one.
    pub operator: String,
    /// The opset of the operator's domain.
    pub opset: i64,
    /// The unsupported property.
    pub reason: String,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "node `{}`: {} (opset {}): {}",
            self.node, self.operator, self.opset, self.reason
        )
    }
}

/// Returns one line per operator and reason, in the file's order.
pub(crate) fn list(missing: &[Missing]) -> String {
    let mut groups: Vec<(&Missing, usize)> = Vec::new();
    for item in missing {
        let same = |other: &Missing| {
            (&other.operator, other.opset, &other.reason) == (&item.operator, item.opset, &item.reason)
        };
        match groups.iter_mut().find(|(first, _)| same(first)) {
            Some((_, count)) => *count += 1,
            None => groups.push((item, 1)),
        }
    }
    let line = |(first, count): &(&Missing, usize)| match count {
        1 => first.to_string(),
        _ => format!(
            "{count} nodes, the first is `{}`: {} (opset {}): {}",
            first.node, first.operator, first.opset, first.reason
        ),
    };
    lines(&groups.iter().map(line).collect::<Vec<_>>())
}

/// Returns the line on nodes that could not be checked.
pub(crate) fn unchecked_nodes(unchecked: usize) -> String {
    match unchecked {
        0 => String::new(),
        count => {
            format!("\n  ({count} more of known operators read what these produce and could not be checked in detail)")
        }
    }
}

/// Returns the hint that follows a list of unsupported nodes.
pub(crate) fn way_out(read_until: Option<&str>) -> String {
    match read_until {
        Some(value) => format!(
            "everything before them is read: name the value {value} with --output-name to make it the logits or features"
        ),
        None => "docs/guide/adding-an-operator.md describes how to add an operator".to_owned(),
    }
}
