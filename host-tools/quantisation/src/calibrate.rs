//! Calibration: the grid of every rounded value, from the ranges that the float backbone shows.

use clr_onnx::{Backbone, Op, Quantisation, Quantiser, Shape, ValueId, image_grid, range_grid};

use crate::{
    QuantisationError,
    images::Input,
    observe::{Observable, Statistics, used},
};

/// The grid of a value that is 0 in all images.
const ANY_GRID: Quantisation = Quantisation {
    scale: 1.0,
    zero_point: 0,
};

/// The folded float backbone and its statistics on the calibration images.
pub(crate) struct Calibration {
    pub(crate) folded: Backbone,
    pub(crate) sizes: Vec<[usize; 2]>,
    pub(crate) statistics: Statistics,
    /// Shapes of all values of the folded backbone, for each size.
    pub(crate) shapes: Vec<Vec<Shape>>,
}

/// Share of a value's numbers that are outside its range.
#[derive(Clone, Debug, PartialEq)]
pub struct Clipped {
    /// The node that computes the value.
    pub node: String,
    /// Fraction of the numbers on the held-out images.
    pub fraction: f64,
}

impl Calibration {
    /// Runs the folded backbone over the images.
    pub(crate) fn new(
        folded: &Backbone,
        sizes: &[[usize; 2]],
        inputs: &[Input],
        done: &mut dyn FnMut(usize),
    ) -> Result<Self, QuantisationError> {
        let statistics = Observable::new(folded, sizes)?.statistics(inputs, done);
        for (index, node) in folded.graph().nodes.iter().enumerate() {
            if !statistics.means[ValueId::of_node(index).0]
                .iter()
                .all(|mean| mean.is_finite())
            {
                return Err(QuantisationError::NotFinite {
                    node: node.name.clone(),
                });
            }
        }
        Ok(Self {
            folded: folded.clone(),
            sizes: sizes.to_vec(),
            statistics,
            shapes: sizes
                .iter()
                .map(|&[height, width]| folded.value_shapes(height, width))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Returns the grids of the values that `quantiser` rounds: the image's from its preprocessing, the others from the
    /// observed ranges.
    pub(crate) fn grids(&self, quantiser: &Quantiser) -> Vec<Quantisation> {
        let grid = |value: &ValueId| {
            let observed = self.statistics.ranges[value.0];
            let image = (*value == ValueId::IMAGE)
                .then(|| image_grid(self.folded.preprocessing()))
                .flatten();
            image
                .or_else(|| range_grid(observed[0], observed[1]))
                .unwrap_or(ANY_GRID)
        };
        quantiser.places().iter().map(grid).collect()
    }

    /// Returns the rounded values of which more than `least` are outside their range on `inputs`, with the largest first.
    pub(crate) fn clipped(
        &self,
        quantiser: &Quantiser,
        grids: &[Quantisation],
        inputs: &[Input],
        least: f64,
    ) -> Result<Vec<Clipped>, QuantisationError> {
        let nodes = &self.folded.graph().nodes;
        let mut places = vec![None; nodes.len() + 1];
        for (index, value) in quantiser.places().iter().enumerate() {
            places[value.0] = Some(index);
        }
        let each = Observable::new(&self.folded, &self.sizes)?.run(
            inputs,
            || vec![0.0; grids.len()],
            |fractions, value, shape, numbers| {
                if let Some(place) = places[value.0] {
                    fractions[place] = outside(grids[place], used(value, shape, numbers));
                }
            },
        );
        let mut clipped: Vec<Clipped> = quantiser
            .places()
            .iter()
            .enumerate()
            .map(|(place, value)| Clipped {
                node: value
                    .producer()
                    .map_or_else(|| "image".to_owned(), |node| nodes[node].name.clone()),
                fraction: each.iter().map(|fractions| fractions[place]).sum::<f64>() / inputs.len().max(1) as f64,
            })
            .filter(|clipped| clipped.fraction > least)
            .collect();
        clipped.sort_by(|a, b| b.fraction.total_cmp(&a.fraction));
        Ok(clipped)
    }
}

/// Returns the fraction of numbers that are more than half a step outside the range of the grid.
fn outside<'a>(grid: Quantisation, numbers: impl Iterator<Item = &'a [f32]>) -> f64 {
    let [low, high] = grid.range();
    let (low, high) = (low - 0.5 * grid.scale, high + 0.5 * grid.scale);
    let (mut clipped, mut count) = (0_usize, 0_usize);
    for numbers in numbers {
        count += numbers.len();
        clipped += numbers.iter().filter(|&&x| x < low || x > high).count();
    }
    clipped as f64 / count.max(1) as f64
}

/// Returns the number of convolutions of a graph with integer weights, and of all.
pub(crate) fn convolutions(backbone: &Backbone) -> [usize; 2] {
    let convolutions = backbone.graph().nodes.iter().filter_map(|node| match &node.op {
        Op::Conv(conv) => Some(conv.weight.int8().is_some()),
        _ => None,
    });
    convolutions.fold([0, 0], |[integer, all], own| [integer + usize::from(own), all + 1])
}
