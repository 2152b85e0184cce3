//! Quantisation of a backbone: 8-bit weights, and values on grids of 256 values, from the ranges that calibration
//! observed.
//!
//! 1. Norms are folded into the convolutions before them.
//! 2. Every value that a convolution reads, directly or through operations that keep its grid, gets a grid, and so do the
//!    operands of sums and concatenations between them.
//! 3. Weights are rounded symmetrically around zero, with one scale for each output channel.
//! 4. A clamp before a rounding is left out where the rounding clamps to the same range.
//! 5. The weights of the classifier are rounded in the same way, with one scale for each class. It computes in float.
//!
//! Everything that a task adds stays in float.

mod convert;
mod fold;
mod grids;
mod head;
mod places;
mod weights;

use std::collections::{BTreeMap, BTreeSet};

pub use convert::{ConversionError, convert_adapter};
pub use grids::{image_grid, range_grid};

use crate::{
    Activation, Backbone, Conv, Graph, Node, OnnxError, Op, Quantisation, Tensor, ValueId, bias_units::BiasUnits,
    rewrite::gamma, write::rounded_bias,
};

/// A backbone with folded norms, and the values that quantisation rounds.
#[derive(Clone, Debug)]
pub struct Quantiser {
    folded: Backbone,
    places: Vec<ValueId>,
    /// |γ| of the folded norms.
    bias_units: Option<BiasUnits>,
}

impl Quantiser {
    /// Folds the norms of `backbone`. The convolutions named in `float` and what only they read stay in float.
    ///
    /// # Errors
    /// [`OnnxError`] if a folded weight is not finite.
    pub fn new(backbone: &Backbone, float: &BTreeSet<String>) -> Result<Self, OnnxError> {
        let folded = backbone.with_graph(fold::fold_norms(backbone))?;
        let places = places::places(folded.graph(), float);
        let gammas = backbone.sites().iter().map(|site| gamma(backbone.graph(), site));
        Ok(Self {
            folded,
            places,
            bias_units: BiasUnits::new(&gammas.collect::<Vec<_>>()),
        })
    }

    /// Returns the float backbone with folded norms. It computes the same function as the original, up to rounding.
    pub fn folded(&self) -> &Backbone {
        &self.folded
    }

    /// Returns the values of [`Quantiser::folded`] that are rounded, in the graph's order.
    pub fn places(&self) -> &[ValueId] {
        &self.places
    }

    /// Returns the quantised backbone. `grids` has one grid for each of [`Quantiser::places`]. `shifts` are subtracted from
    /// the biases of convolutions, by node, `[O]`: the mean errors of their results (bias correction; Nagel et al. 2019,
    /// section 4.2).
    ///
    /// # Errors
    /// [`OnnxError`] if the number of grids or a shift does not fit, or if a scale is not a positive finite number.
    pub fn quantise(&self, grids: &[Quantisation], shifts: &BTreeMap<usize, Vec<f32>>) -> Result<Backbone, OnnxError> {
        if grids.len() != self.places.len() {
            let reason = format!("expected {} grids, got {}", self.places.len(), grids.len());
            return Err(OnnxError::Graph { reason });
        }
        let grids: BTreeMap<ValueId, Quantisation> = self.places.iter().copied().zip(grids.iter().copied()).collect();
        let mut build = Build {
            graph: self.folded.graph(),
            grids: &grids,
            shifts,
            nodes: Vec::new(),
            names: self.folded.graph().nodes.iter().map(|node| node.name.clone()).collect(),
            values: vec![ValueId::IMAGE],
            on_grid: vec![None],
        };
        build.run()?;
        let features = build.values[self.folded.graph().features.0];
        let backbone = self.folded.with_graph(Graph {
            input_channels: self.folded.graph().input_channels,
            nodes: build.nodes,
            features,
        })?;
        backbone
            .map_classifier(head::rounded)
            .with_bias_units(self.bias_units.clone())
    }
}

/// The quantised graph under construction.
struct Build<'a> {
    graph: &'a Graph,
    grids: &'a BTreeMap<ValueId, Quantisation>,
    shifts: &'a BTreeMap<usize, Vec<f32>>,
    nodes: Vec<Node>,
    names: BTreeSet<String>,
    /// The new value for each value of the graph.
    values: Vec<ValueId>,
    /// The grid of each new value.
    on_grid: Vec<Option<Quantisation>>,
}

impl Build<'_> {
    fn run(&mut self) -> Result<(), OnnxError> {
        if let Some(&grid) = self.grids.get(&ValueId::IMAGE) {
            self.values[0] = self.round("image", grid, ValueId::IMAGE);
        }
        for (index, node) in self.graph.nodes.iter().enumerate() {
            let value = ValueId::of_node(index);
            let grid = self.grids.get(&value).copied();
            let inputs: Vec<ValueId> = node.inputs.iter().map(|input| self.values[input.0]).collect();
            // The value that the rounding reads: a clamp that it makes superfluous is skipped.
            let before = match (&node.op, grid) {
                (Op::Activation(activation), Some(grid)) if covers(*activation, grid) => inputs[0],
                _ => {
                    let op = match &node.op {
                        Op::Conv(conv) => Op::Conv(self.convolution(index, conv, inputs[0])?),
                        other => other.clone(),
                    };
                    self.push(node.name.clone(), op, inputs)
                }
            };
            let after = match grid {
                Some(grid) => self.round(&node.name, grid, before),
                None => before,
            };
            self.values.push(after);
        }
        Ok(())
    }

    /// Returns the convolution with integer weights, if its input is on a grid, and with its corrected bias.
    fn convolution(&self, index: usize, conv: &Conv, input: ValueId) -> Result<Conv, OnnxError> {
        let mut conv = conv.clone();
        if let Some(shift) = self.shifts.get(&index) {
            conv.bias = Some(weights::shifted(&conv, shift).map_err(|reason| self.fault(index, reason))?);
        }
        if let Some(grid) = self.on_grid[input.0] {
            conv.weight = weights::quantised(&conv, grid).into();
            conv.bias = conv
                .bias
                .as_ref()
                .map(|bias| Tensor::new(bias.shape(), rounded_bias(&conv.weight, bias.data(), Some(grid))));
        }
        Ok(conv)
    }

    fn fault(&self, index: usize, reason: String) -> OnnxError {
        OnnxError::Node {
            node: self.graph.nodes[index].name.clone(),
            reason,
        }
    }

    fn round(&mut self, name: &str, grid: Quantisation, value: ValueId) -> ValueId {
        let mut wanted = format!("{name}.rounded");
        while !self.names.insert(wanted.clone()) {
            wanted.push('_');
        }
        self.push(wanted, Op::FakeQuantise(grid), vec![value])
    }

    fn push(&mut self, name: String, op: Op, inputs: Vec<ValueId>) -> ValueId {
        let node = Node { name, op, inputs };
        self.on_grid.push(node.grid(&self.on_grid));
        self.nodes.push(node);
        ValueId(self.nodes.len())
    }
}

/// Returns whether a rounding to `grid` after the activation makes the activation superfluous.
fn covers(activation: Activation, grid: Quantisation) -> bool {
    let [low, high] = grid.range();
    match activation {
        Activation::Relu => low >= 0.0,
        Activation::Clip { min, max } => low >= min && high <= max,
        _ => false,
    }
}
