//! MobileNetV2 (Sandler et al., 2018) on torchvision's names (`features.N.conv.…`, `classifier.1`).

use super::plan::{ConvSpec, Plan, Planner};
use crate::{Activation, Op, ValueId};

/// Expansion, channels, repeats and stride of the stages.
const STAGES: [[usize; 4]; 7] = [
    [1, 16, 1, 1],
    [6, 24, 2, 2],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
];

const RELU6: Activation = Activation::Clip { min: 0.0, max: 6.0 };

/// The network of width 1. Block `bN` is torchvision's `features.N`.
pub(super) fn plan() -> Plan {
    let mut plan = Planner::new(1e-5, false);
    let stem = ConvSpec {
        channels: [3, 32],
        kernel: 3,
        stride: 2,
        depthwise: false,
    };
    let value = plan.conv_norm(
        "stem",
        ["features.0.0", "features.0.1"].map(String::from),
        stem,
        ValueId::IMAGE,
    );
    let mut value = plan.activation("stem", RELU6, value);
    let mut channels = 32;
    let mut block = 1;
    for [expansion, outputs, repeats, stride] in STAGES {
        for repeat in 0..repeats {
            let stride = if repeat == 0 { stride } else { 1 };
            value = inverted_residual(
                &mut plan,
                block,
                [channels, expansion * channels, outputs],
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
    let value = plan.conv_norm(
        "top",
        [format!("features.{block}.0"), format!("features.{block}.1")],
        head,
        value,
    );
    let value = plan.activation("top", RELU6, value);
    plan.finish(value, 1280, "classifier.1")
}

/// Expand, depthwise, project; channels are those of the input, the middle and the output.
fn inverted_residual(
    plan: &mut Planner,
    block: usize,
    [inputs, middle, outputs]: [usize; 3],
    stride: usize,
    input: ValueId,
) -> ValueId {
    let names = |conv: &str, norm: &str| [conv, norm].map(|part| format!("features.{block}.conv.{part}"));
    let mut value = input;
    // torchvision numbers the parts of a block in order, so the first one missing shifts the rest.
    let mut part = 0;
    if middle != inputs {
        let name = format!("b{block}.expand");
        let spec = ConvSpec {
            channels: [inputs, middle],
            kernel: 1,
            stride: 1,
            depthwise: false,
        };
        value = plan.conv_norm(&name, names("0.0", "0.1"), spec, value);
        value = plan.activation(&name, RELU6, value);
        part = 1;
    }
    let name = format!("b{block}.dw");
    let spec = ConvSpec {
        channels: [middle, middle],
        kernel: 3,
        stride,
        depthwise: true,
    };
    value = plan.conv_norm(&name, names(&format!("{part}.0"), &format!("{part}.1")), spec, value);
    value = plan.activation(&name, RELU6, value);
    let spec = ConvSpec {
        channels: [middle, outputs],
        kernel: 1,
        stride: 1,
        depthwise: false,
    };
    let parts = names(&format!("{}", part + 1), &format!("{}", part + 2));
    value = plan.conv_norm(&format!("b{block}.project"), parts, spec, value);
    if stride == 1 && inputs == outputs {
        value = plan.plain(format!("b{block}.add"), Op::Add, vec![value, input]);
    }
    value
}
