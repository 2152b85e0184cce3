//! Which nodes become one step: a convolution with the norm, the sum with a shortcut and the activation that follow.

use clr_onnx::{Activation, Backbone, Op, Shape, SiteInfo, ValueId};

/// The nodes that one fused convolution replaces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Group {
    /// Index into the backbone's sites.
    pub site: usize,
    /// The other summand of the sum that was taken in.
    pub residual: Option<ValueId>,
    /// The activation that was taken in.
    pub activation: Option<Activation>,
}

/// What the walk over the nodes does at one of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Role {
    /// It is a step of its own.
    Alone,
    /// A group that ends later computes it.
    Inside,
    /// The last node of a group: the fused step stands here, where all that it reads is ready.
    Ends(Group),
}

/// Every node's role.
pub(super) fn group(backbone: &Backbone, shapes: &[Shape]) -> Vec<Role> {
    let nodes = &backbone.graph().nodes;
    let mut readers = vec![Vec::new(); nodes.len() + 1];
    for (index, node) in nodes.iter().enumerate() {
        for input in &node.inputs {
            readers[input.0].push(index);
        }
    }
    let features = backbone.graph().features;
    let sole_reader = |node: usize| match readers[node + 1].as_slice() {
        &[reader] if features != ValueId::of_node(node) => Some(reader),
        _ => None,
    };
    let mut roles = vec![Role::Alone; nodes.len()];
    for (site, info) in backbone.sites().iter().enumerate() {
        let &SiteInfo { conv, norm, .. } = info;
        let mut members = vec![conv];
        members.extend(norm);
        let mut group = Group {
            site,
            residual: None,
            activation: None,
        };
        if let Some(add) = sole_reader(members[members.len() - 1])
            && roles[add] == Role::Alone
            && matches!(nodes[add].op, Op::Add)
            && let Some(other) = other_summand(shapes, &nodes[add].inputs, members[members.len() - 1])
        {
            group.residual = Some(other);
            members.push(add);
        }
        if let Some(next) = sole_reader(members[members.len() - 1])
            && let Op::Activation(activation) = nodes[next].op
        {
            group.activation = Some(activation);
            members.push(next);
        }
        for &member in &members {
            roles[member] = Role::Inside;
        }
        roles[members[members.len() - 1]] = Role::Ends(group);
    }
    roles
}

/// The summand beside the one that `node` produces, if both have the same shape (no broadcast).
fn other_summand(shapes: &[Shape], inputs: &[ValueId], node: usize) -> Option<ValueId> {
    let ours = ValueId::of_node(node);
    let other = match *inputs {
        [left, right] if left == ours && right != ours => right,
        [left, right] if right == ours && left != ours => left,
        _ => return None,
    };
    // The picture is no block.
    (other != ValueId::IMAGE && shapes[ours.0] == shapes[other.0]).then_some(other)
}
