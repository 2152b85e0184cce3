//! EfficientNet-Lite, on the names of its PyTorch port (`_conv_stem`, `_blocks.N._depthwise_conv`, `_fc` …).
//!
//! EfficientNet (Tan and Le, 2019) without squeeze-excite, with `ReLU6`, and with stem and head of fixed width; TensorFlow's
//! SAME padding and ε = 10⁻³.

use super::plan::{ConvSpec, Plan, Planner};
use crate::{Activation, Op, ValueId};

/// Expansion, channels, repeats, stride and kernel of the seven stages of Lite0.
const STAGES: [[usize; 5]; 7] = [
    [1, 16, 1, 1, 3],
    [6, 24, 2, 2, 3],
    [6, 40, 2, 2, 5],
    [6, 80, 3, 2, 3],
    [6, 112, 3, 1, 5],
    [6, 192, 4, 2, 5],
    [6, 320, 1, 1, 3],
];

const RELU6: Activation = Activation::Clip { min: 0.0, max: 6.0 };

/// The network scaled by `width` and `depth`, both in tenths (Lite0: 10 and 10).
pub(super) fn plan(width: usize, depth: usize) -> Plan {
    let mut plan = Planner::new(1e-3, true);
    let stem = ConvSpec {
        channels: [3, 32],
        kernel: 3,
        stride: 2,
        depthwise: false,
    };
    let value = plan.conv_norm("stem", ["_conv_stem", "_bn0"].map(String::from), stem, ValueId::IMAGE);
    let mut value = plan.activation("stem", RELU6, value);
    let mut channels = 32;
    let mut block = 0;
    for (stage, [expansion, base, repeats, stride, kernel]) in STAGES.into_iter().enumerate() {
        let outputs = scaled_channels(base, width);
        let fixed = stage == 0 || stage == STAGES.len() - 1;
        let repeats = if fixed { repeats } else { (repeats * depth).div_ceil(10) };
        for repeat in 0..repeats {
            let stride = if repeat == 0 { stride } else { 1 };
            value = inverted_residual(
                &mut plan,
                block,
                [channels, expansion * channels, outputs],
                kernel,
                stride,
                value,
            );
            channels = outputs;
            block += 1;
        }
    }
    let head = ConvSpec {
        channels: [channels, 1280],
        kernel: 1,
        stride: 1,
        depthwise: false,
    };
    let value = plan.conv_norm("top", ["_conv_head", "_bn1"].map(String::from), head, value);
    let value = plan.activation("top", RELU6, value);
    plan.finish(value, 1280, "_fc")
}

/// Expand, depthwise, project; channels are those of the input, the middle and the output.
fn inverted_residual(
    plan: &mut Planner,
    block: usize,
    [inputs, middle, outputs]: [usize; 3],
    kernel: usize,
    stride: usize,
    input: ValueId,
) -> ValueId {
    let names = |conv: &str, norm: &str| [format!("_blocks.{block}.{conv}"), format!("_blocks.{block}.{norm}")];
    let mut value = input;
    if middle != inputs {
        let name = format!("b{block}.expand");
        let spec = ConvSpec {
            channels: [inputs, middle],
            kernel: 1,
            stride: 1,
            depthwise: false,
        };
        value = plan.conv_norm(&name, names("_expand_conv", "_bn0"), spec, value);
        value = plan.activation(&name, RELU6, value);
    }
    let name = format!("b{block}.dw");
    let spec = ConvSpec {
        channels: [middle, middle],
        kernel,
        stride,
        depthwise: true,
    };
    value = plan.conv_norm(&name, names("_depthwise_conv", "_bn1"), spec, value);
    value = plan.activation(&name, RELU6, value);
    let spec = ConvSpec {
        channels: [middle, outputs],
        kernel: 1,
        stride: 1,
        depthwise: false,
    };
    value = plan.conv_norm(
        &format!("b{block}.project"),
        names("_project_conv", "_bn2"),
        spec,
        value,
    );
    if stride == 1 && inputs == outputs {
        value = plan.plain(format!("b{block}.add"), Op::Add, vec![value, input]);
    }
    value
}

/// `base · width / 10` to the nearest multiple of 8, but not below nine tenths of it.
fn scaled_channels(base: usize, width: usize) -> usize {
    let tenths = base * width;
    let rounded = ((tenths + 40) / 80 * 8).max(8);
    if rounded * 100 < tenths * 9 {
        rounded + 8
    } else {
        rounded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_round_as_the_reference_rounds_them() {
        let widths = |width| STAGES.map(|[_, base, ..]| scaled_channels(base, width));
        assert_eq!(widths(10), [16, 24, 40, 80, 112, 192, 320]);
        assert_eq!(widths(11), [16, 24, 48, 88, 120, 208, 352]);
        assert_eq!(widths(12), [24, 32, 48, 96, 136, 232, 384]);
    }
}
