//! Fusion: selection of the nodes that one step computes.

use crate::{Activation, Graph, Op, Quantisation, Shape, SiteInfo, ValueId, sites};

/// The nodes that are replaced by a fused convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Group {
    /// Index into the backbone's sites.
    pub(super) site: usize,
    /// The other operand of the fused sum.
    pub(super) shortcut: Option<ValueId>,
    /// The rounding before the sum.
    pub(super) inner: Option<Quantisation>,
    /// The fused activation.
    pub(super) activation: Option<Activation>,
    /// The rounding of the result.
    pub(super) grid: Option<Quantisation>,
}

/// The part of a node in its step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Role {
    /// A step by itself.
    Alone,
    /// Computed by a step of a later node.
    Inside,
    /// The last node of a convolution's group. The step is placed here, where all its inputs have been computed.
    Ends(Group),
    /// The end of the step of this node, which has the role [`Role::Inside`]: its activation, its rounding, or both.
    Finishes {
        /// The node.
        start: usize,
        /// The fused activation of a sum or an affine map.
        activation: Option<Activation>,
        /// The rounding of the result.
        grid: Option<Quantisation>,
    },
}

/// Returns the roles with which every node is a step, except for norms after convolutions.
pub(super) fn separate(graph: &Graph, sites: &[SiteInfo]) -> Vec<Role> {
    let mut roles = vec![Role::Alone; graph.nodes.len()];
    for (site, info) in sites.iter().enumerate() {
        roles[info.conv] = Role::Inside;
        roles[info.norm.unwrap_or(info.conv)] = Role::Ends(Group::alone(site));
    }
    roles
}

impl Group {
    /// Returns the group of a convolution and its norm.
    fn alone(site: usize) -> Self {
        Self {
            site,
            shortcut: None,
            inner: None,
            activation: None,
            grid: None,
        }
    }
}

/// Returns the role of every node.
pub(super) fn fuse(graph: &Graph, sites: &[SiteInfo], shapes: &[Shape]) -> Vec<Role> {
    let nodes = &graph.nodes;
    let readers = sites::readers(graph);
    let sole_reader = |node: usize| sites::only_reader(graph, &readers, ValueId::of_node(node));
    let rounding = |node: usize| {
        let next = sole_reader(node)?;
        let Op::FakeQuantise(grid) = nodes[next].op else {
            return None;
        };
        Some((next, grid))
    };
    let mut roles = vec![Role::Alone; nodes.len()];
    for (site, &SiteInfo { conv, norm, .. }) in sites.iter().enumerate() {
        let mut last = norm.unwrap_or(conv);
        let mut members = vec![conv];
        members.extend(norm);
        let mut group = Group::alone(site);
        // A sum of quantised values: the convolution's result is rounded before.
        let before = rounding(last).filter(|(next, _)| {
            sole_reader(*next).is_some_and(|add| {
                let other = matches!(nodes[add].op, Op::Add).then(|| other_summand(shapes, &nodes[add].inputs, *next));
                roles[add] == Role::Alone && other.flatten().is_some()
            })
        });
        if let Some((next, grid)) = before {
            group.inner = Some(grid);
            members.push(next);
            last = next;
        }
        if let Some(add) = sole_reader(last)
            && roles[add] == Role::Alone
            && matches!(nodes[add].op, Op::Add)
            && let Some(other) = other_summand(shapes, &nodes[add].inputs, last)
        {
            group.shortcut = Some(other);
            members.push(add);
            last = add;
        }
        if let Some(next) = sole_reader(last)
            && let Op::Activation(activation) = nodes[next].op
        {
            group.activation = Some(activation);
            members.push(next);
            last = next;
        }
        if let Some((next, grid)) = rounding(last) {
            group.grid = Some(grid);
            members.push(next);
            last = next;
        }
        for member in members {
            roles[member] = Role::Inside;
        }
        roles[last] = Role::Ends(group);
    }
    for (index, node) in nodes.iter().enumerate() {
        if roles[index] != Role::Alone || matches!(node.op, Op::FakeQuantise(_)) {
            continue;
        }
        let (mut last, mut activation, mut grid) = (index, None, None);
        if matches!(node.op, Op::Add | Op::BatchNorm(_) | Op::ChannelAffine { .. })
            && let Some(next) = sole_reader(last)
            && let Op::Activation(own) = nodes[next].op
        {
            roles[last] = Role::Inside;
            (last, activation) = (next, Some(own));
        }
        if let Some((next, own)) = rounding(last) {
            roles[last] = Role::Inside;
            (last, grid) = (next, Some(own));
        }
        if last != index {
            roles[last] = Role::Finishes {
                start: index,
                activation,
                grid,
            };
        }
    }
    roles
}

/// Returns the other operand of a sum with the output of `node`, if both have the same shape (no broadcast).
fn other_summand(shapes: &[Shape], inputs: &[ValueId], node: usize) -> Option<ValueId> {
    let ours = ValueId::of_node(node);
    let other = match *inputs {
        [left, right] if left == ours && right != ours => right,
        [left, right] if right == ours && left != ours => left,
        _ => return None,
    };
    // Executors store the image in another layout, so it cannot be a shortcut.
    (other != ValueId::IMAGE && shapes[ours.0] == shapes[other.0]).then_some(other)
}
