//! MobileNetV2 (Sandler et al., 2018), width 1.
//!
//! Block `bN` is torchvision's `features.N`, whatever the tensors are named. Google's networks, as in Transformers, use
//! TensorFlow's SAME padding and ε = 10⁻³. Those of torchvision and timm pad by half the kernel and use ε = 10⁻⁵.

use super::architecture_spec::{ArchitectureSpec, ConvSpec, SpecBuilder};
use super::spelling::Spelling;
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

/// The spellings of torchvision's network.
pub(super) const SPELLINGS: &[Spelling] = &[Spelling::Original, Spelling::Timm, Spelling::Children, Spelling::Flat];

/// The spellings of Google's network.
pub(super) const TENSORFLOW_SPELLINGS: &[Spelling] = &[Spelling::Transformers];

/// Returns the network with the tensors named as in `spelling`. `tensorflow` selects Google's variant.
pub(super) fn spec(spelling: Spelling, tensorflow: bool) -> ArchitectureSpec {
    let mut builder = if tensorflow {
        SpecBuilder::new(1e-3, true)
    } else {
        SpecBuilder::new(1e-5, false)
    };
    let stem = ConvSpec {
        channels: [3, 32],
        kernel: 3,
        stride: 2,
        groups: 1,
    };
    let value = builder.conv_norm("stem", stem_names(spelling), stem, ValueId::IMAGE);
    let mut value = builder.activation("stem", RELU6, value);
    let mut channels = 32;
    let mut number = 1;
    for (stage, [expansion, outputs, repeats, stride]) in STAGES.into_iter().enumerate() {
        for repeat in 0..repeats {
            let block = Block {
                number,
                stage,
                repeat,
                spelling,
                expands: expansion != 1,
            };
            let stride = if repeat == 0 { stride } else { 1 };
            let widths = [channels, expansion * channels, outputs];
            value = inverted_residual(&mut builder, block, widths, stride, value);
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
    let value = builder.conv_norm("top", top_names(spelling, number), head, value);
    let value = builder.activation("top", RELU6, value);
    let classifier = match spelling {
        Spelling::Timm | Spelling::Transformers => "classifier",
        _ => "classifier.1",
    };
    builder.finish(value, 1280, classifier)
}

fn stem_names(spelling: Spelling) -> [String; 2] {
    match spelling {
        Spelling::Timm => ["conv_stem", "bn1"],
        Spelling::Transformers => ["conv_stem.first_conv.convolution", "conv_stem.first_conv.normalization"],
        Spelling::Children => ["0.0", "0.1"],
        _ => ["features.0.0", "features.0.1"],
    }
    .map(String::from)
}

fn top_names(spelling: Spelling, number: usize) -> [String; 2] {
    match spelling {
        Spelling::Timm => ["conv_head", "bn2"].map(String::from),
        Spelling::Transformers => ["conv_1x1.convolution", "conv_1x1.normalization"].map(String::from),
        Spelling::Children => ["0", "1"].map(|part| format!("{number}.{part}")),
        _ => ["0", "1"].map(|part| format!("features.{number}.{part}")),
    }
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

/// The convolutions of a block.
#[derive(Clone, Copy)]
enum Part {
    Expand,
    Depthwise,
    Project,
}

impl Block {
    /// Returns the names of the tensors of a convolution and its norm.
    fn names(self, part: Part) -> [String; 2] {
        let Self {
            number, stage, repeat, ..
        } = self;
        // The parts are numbered consecutively, so a missing first part shifts the others.
        let index = part as usize - usize::from(!self.expands);
        match self.spelling {
            Spelling::Timm => {
                let conv = match (part, self.expands) {
                    (Part::Expand, _) | (Part::Project, false) => "conv_pw",
                    (Part::Depthwise, _) => "conv_dw",
                    (Part::Project, true) => "conv_pwl",
                };
                [conv.to_owned(), format!("bn{}", index + 1)].map(|part| format!("blocks.{stage}.{repeat}.{part}"))
            }
            Spelling::Transformers => {
                let conv = match part {
                    Part::Expand => "expand_1x1",
                    Part::Depthwise => "conv_3x3",
                    Part::Project => "reduce_1x1",
                };
                // The block without expansion is part of the stem.
                let block = match number {
                    1 => "conv_stem".to_owned(),
                    _ => format!("layer.{}", number - 2),
                };
                ["convolution", "normalization"].map(|kind| format!("{block}.{conv}.{kind}"))
            }
            Spelling::Flat => [3 * index, 3 * index + 1].map(|part| format!("features.{number}.conv.{part}")),
            Spelling::Original | Spelling::Children => {
                let parts = match part {
                    Part::Project => [format!("{index}"), format!("{}", index + 1)],
                    _ => [format!("{index}.0"), format!("{index}.1")],
                };
                let features = if self.spelling == Spelling::Original {
                    "features."
                } else {
                    ""
                };
                parts.map(|part| format!("{features}{number}.conv.{part}"))
            }
        }
    }
}

/// Adds an inverted residual block: expand, depthwise, project. The channels are those of input, middle and output.
fn inverted_residual(
    builder: &mut SpecBuilder,
    block: Block,
    [inputs, middle, outputs]: [usize; 3],
    stride: usize,
    input: ValueId,
) -> ValueId {
    let number = block.number;
    let conv = |channels: [usize; 2], kernel, stride, groups| ConvSpec {
        channels,
        kernel,
        stride,
        groups,
    };
    let mut value = input;
    if block.expands {
        let name = format!("b{number}.expand");
        value = builder.conv_norm(&name, block.names(Part::Expand), conv([inputs, middle], 1, 1, 1), value);
        value = builder.activation(&name, RELU6, value);
    }
    let name = format!("b{number}.dw");
    let spec = conv([middle, middle], 3, stride, middle);
    value = builder.conv_norm(&name, block.names(Part::Depthwise), spec, value);
    value = builder.activation(&name, RELU6, value);
    let spec = conv([middle, outputs], 1, 1, 1);
    value = builder.conv_norm(&format!("b{number}.project"), block.names(Part::Project), spec, value);
    if stride == 1 && inputs == outputs {
        value = builder.plain(format!("b{number}.add"), Op::Add, vec![value, input]);
    }
    value
}
