//! ResNet-18, -34 and -50 (He et al., 2015; the stride of a bottleneck on its 3×3 convolution) on torchvision's names
//! (`layer1.0.conv1`, `fc` …).

use super::plan::{ConvSpec, Plan, Planner};
use crate::{Activation, Op, ValueId};

/// The network with `blocks` per stage; `bottleneck` as in ResNet-50, basic blocks otherwise.
pub(super) fn plan(blocks: [usize; 4], bottleneck: bool) -> Plan {
    let mut plan = Planner::new(1e-5, false);
    let stem = ConvSpec {
        channels: [3, 64],
        kernel: 7,
        stride: 2,
        depthwise: false,
    };
    let value = plan.conv_norm("conv1", ["conv1", "bn1"].map(String::from), stem, ValueId::IMAGE);
    let value = plan.activation("conv1", Activation::Relu, value);
    let mut value = plan.max_pool("maxpool", value);
    let mut channels = 64;
    let expansion = if bottleneck { 4 } else { 1 };
    for (stage, repeats) in blocks.into_iter().enumerate() {
        let width = 64 << stage;
        for repeat in 0..repeats {
            let stride = if stage > 0 && repeat == 0 { 2 } else { 1 };
            let name = format!("layer{}.{repeat}", stage + 1);
            let outputs = width * expansion;
            // Input and output channels, kernel and stride of the block's convolutions.
            let convs = if bottleneck {
                vec![
                    (channels, width, 1, 1),
                    (width, width, 3, stride),
                    (width, outputs, 1, 1),
                ]
            } else {
                vec![(channels, width, 3, stride), (width, width, 3, 1)]
            };
            value = residual(&mut plan, &name, &convs, value);
            channels = outputs;
        }
    }
    plan.finish(value, channels, "fc")
}

fn residual(plan: &mut Planner, block: &str, convs: &[(usize, usize, usize, usize)], input: ValueId) -> ValueId {
    let mut value = input;
    for (index, &(from, to, kernel, stride)) in convs.iter().enumerate() {
        let name = format!("{block}.conv{}", index + 1);
        let spec = ConvSpec {
            channels: [from, to],
            kernel,
            stride,
            depthwise: false,
        };
        value = plan.conv_norm(&name, [name.clone(), format!("{block}.bn{}", index + 1)], spec, value);
        if index + 1 < convs.len() {
            value = plan.activation(&name, Activation::Relu, value);
        }
    }
    let (from, to) = (convs[0].0, convs[convs.len() - 1].1);
    let stride = convs.iter().map(|conv| conv.3).product();
    let shortcut = if from == to && stride == 1 {
        input
    } else {
        let spec = ConvSpec {
            channels: [from, to],
            kernel: 1,
            stride,
            depthwise: false,
        };
        let names = [format!("{block}.downsample.0"), format!("{block}.downsample.1")];
        plan.conv_norm(&format!("{block}.downsample"), names, spec, input)
    };
    let sum = plan.plain(format!("{block}.add"), Op::Add, vec![value, shortcut]);
    plan.activation(block, Activation::Relu, sum)
}
