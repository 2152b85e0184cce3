//! Outputs of blocks: the narrow values between which a network widens.

use std::collections::HashSet;

use super::{Program, StepOp};
use crate::{Op, ValueId};

/// Maximum width of the last value, relative to the one before. Wider ones expand for the classifier only.
const LAST: usize = 2;

impl Program {
    /// Returns the number of block statistics: two for each channel of every block output.
    #[must_use]
    pub fn block_statistics(&self) -> usize {
        let outputs = self.block_outputs().into_iter();
        outputs.map(|value| 2 * self.shapes[value.0].channels()).sum()
    }

    /// Returns the outputs of blocks, in execution order: feature maps before the global pool through which the whole
    /// computation passes, one for each sequence of equal width, without those that the next one narrows again. In an
    /// inverted residual network these are the linear bottlenecks, in a ResNet the last sum of each width. Their
    /// widths do not depend on the input size. Empty if no map is read alone.
    #[must_use]
    pub fn block_outputs(&self) -> Vec<ValueId> {
        let mut live = HashSet::from([ValueId::IMAGE]);
        // Width and last value of each sequence.
        let mut runs: Vec<(usize, ValueId)> = Vec::new();
        for step in &self.steps {
            live.insert(step.output);
            for last in &step.last_uses {
                live.remove(last);
            }
            // The rounded image is no result of the network.
            let image = step.inputs == [ValueId::IMAGE] && matches!(step.op, StepOp::Node(Op::FakeQuantise(_)));
            if live.len() > 1 || image {
                continue;
            }
            let shape = self.shapes[step.output.0];
            let pooled = matches!(step.op, StepOp::Node(Op::GlobalAveragePool));
            if pooled || shape.spatial().is_none() {
                break;
            }
            match runs.last_mut() {
                Some((width, value)) if *width == shape.channels() => *value = step.output,
                _ => runs.push((shape.channels(), step.output)),
            }
        }
        let mut kept: Vec<(usize, ValueId)> = (runs.windows(2))
            .filter(|pair| pair[0].0 < pair[1].0)
            .map(|pair| pair[0])
            .collect();
        if let Some(&last) = runs.last()
            && kept.last().is_none_or(|(width, _)| last.0 <= LAST * width)
        {
            kept.push(last);
        }
        kept.into_iter().map(|(_, value)| value).collect()
    }
}
