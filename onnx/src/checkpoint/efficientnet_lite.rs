//! EfficientNet-Lite.
//!
//! EfficientNet (Tan and Le, 2019) without squeeze-and-excitation, with `ReLU6`, and with a stem and a head of fixed
//! width. Google's weights need TensorFlow's SAME padding and ε = 10⁻³. These are the weights of the PyTorch port
//! (`_conv_stem`, `_blocks.N._depthwise_conv`, `_fc` …) and of timm's `tf_efficientnet_lite0`. timm's own
//! `efficientnet_lite0` has tensors of the same names and shapes, but pads by half the kernel and has ε = 10⁻⁵.

use super::architecture_spec::{ArchitectureSpec, ConvSpec, SpecBuilder};
use super::spelling::Spelling;
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

/// The spellings of Google's weights.
pub(super) const SPELLINGS: &[Spelling] = &[Spelling::Original, Spelling::Timm];

/// Naming scheme of timm's own weights.
pub(super) const TIMM_SPELLINGS: &[Spelling] = &[Spelling::Timm];

/// Scaling of a network, and properties that depend on the framework of its training.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    /// Width in tenths.
    pub(super) width: usize,
    /// Depth in tenths.
    pub(super) depth: usize,
    /// With SAME padding and ε = 10⁻³; otherwise symmetric padding and ε = 10⁻⁵.
    pub(super) tensorflow: bool,
}

/// Returns the network with the tensors named as in `spelling`.
pub(super) fn spec(variant: Variant, spelling: Spelling) -> ArchitectureSpec {
    let Variant {
        width,
        depth,
        tensorflow,
    } = variant;
    let mut builder = if tensorflow {
        SpecBuilder::new(1e-3, true)
    } else {
        SpecBuilder::new(1e-5, false)
    };
    let names = |original: [&str; 2], timm: [&str; 2]| {
        let names = if spelling == Spelling::Timm { timm } else { original };
        names.map(String::from)
    };
    let stem = ConvSpec {
        channels: [3, 32],
        kernel: 3,
        stride: 2,
        groups: 1,
    };
    let value = builder.conv_norm(
        "stem",
        names(["_conv_stem", "_bn0"], ["conv_stem", "bn1"]),
        stem,
        ValueId::IMAGE,
    );
    let mut value = builder.activation("stem", RELU6, value);
    let mut channels = 32;
    let mut number = 0;
    for (stage, [expansion, base, repeats, stride, kernel]) in STAGES.into_iter().enumerate() {
        let outputs = scaled_channels(base, width);
        let fixed = stage == 0 || stage == STAGES.len() - 1;
        let repeats = if fixed { repeats } else { (repeats * depth).div_ceil(10) };
        for repeat in 0..repeats {
            let stride = if repeat == 0 { stride } else { 1 };
            let block = Block {
                number,
                stage,
                repeat,
                spelling,
                expands: expansion != 1,
            };
            value = inverted_residual(
                &mut builder,
                block,
                [channels, expansion * channels, outputs],
                kernel,
                stride,
                value,
            );
            channels = outputs;
            number += 1;
        }
    }
    let head = ConvSpec {
        channels: [channels, 1280],
        kernel: 1,
        stride: 1,
        groups: 1,
    };
    let value = builder.conv_norm("top", names(["_conv_head", "_bn1"], ["conv_head", "bn2"]), head, value);
    let value = builder.activation("top", RELU6, value);
    let classifier = if spelling == Spelling::Timm {
        "classifier"
    } else {
        "_fc"
    };
    builder.finish(value, 1280, classifier)
}

/// The place of a block, for its names.
#[derive(Clone, Copy)]
struct Block {
    number: usize,
    stage: usize,
    repeat: usize,
    spelling: Spelling,
    expands: bool,
}

impl Block {
    /// Returns the names of the tensors of a convolution and its norm. `conv` and `norm` are the original names, `timm`
    /// is timm's name of the convolution.
    fn names(self, conv: &str, norm: usize, timm: &str) -> [String; 2] {
        let Self { stage, repeat, .. } = self;
        match self.spelling {
            // timm numbers the norms of a block consecutively from 1.
            Spelling::Timm => [timm.to_owned(), format!("bn{}", norm + usize::from(self.expands))]
                .map(|part| format!("blocks.{stage}.{repeat}.{part}")),
            _ => [conv.to_owned(), format!("_bn{norm}")].map(|part| format!("_blocks.{}.{part}", self.number)),
        }
    }
}

/// Adds an inverted residual block: expand, depthwise, project. The channels are those of input, middle and output.
fn inverted_residual(
    builder: &mut SpecBuilder,
    block: Block,
    [inputs, middle, outputs]: [usize; 3],
    kernel: usize,
    stride: usize,
    input: ValueId,
) -> ValueId {
    let number = block.number;
    let mut value = input;
    if block.expands {
        let name = format!("b{number}.expand");
        let spec = ConvSpec {
            channels: [inputs, middle],
            kernel: 1,
            stride: 1,
            groups: 1,
        };
        value = builder.conv_norm(&name, block.names("_expand_conv", 0, "conv_pw"), spec, value);
        value = builder.activation(&name, RELU6, value);
    }
    let name = format!("b{number}.dw");
    let spec = ConvSpec {
        channels: [middle, middle],
        kernel,
        stride,
        groups: middle,
    };
    value = builder.conv_norm(&name, block.names("_depthwise_conv", 1, "conv_dw"), spec, value);
    value = builder.activation(&name, RELU6, value);
    let spec = ConvSpec {
        channels: [middle, outputs],
        kernel: 1,
        stride: 1,
        groups: 1,
    };
    value = builder.conv_norm(
        &format!("b{number}.project"),
        block.names("_project_conv", 2, if block.expands { "conv_pwl" } else { "conv_pw" }),
        spec,
        value,
    );
    if stride == 1 && inputs == outputs {
        value = builder.plain(format!("b{number}.add"), Op::Add, vec![value, input]);
    }
    value
}

/// Returns `base · width / 10` rounded to a multiple of 8, but at least nine tenths of the exact value.
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
