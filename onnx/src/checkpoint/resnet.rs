//! ResNet (He et al., 2015), `ResNeXt` (Xie et al., 2016) and Wide ResNet (Zagoruyko and Komodakis, 2016), as in
//! torchvision.
//!
//! The stride of a bottleneck is in its 3×3 convolution. Layers have torchvision's names (`layer1.0.conv1`, `fc` …),
//! whatever the names of the tensors in the file.

use super::architecture_spec::{ArchitectureSpec, ConvSpec, SpecBuilder};
use super::spelling::Spelling;
use crate::{Activation, Op, ValueId};

/// One network of the family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    /// Blocks per stage.
    pub(super) blocks: [usize; 4],
    /// Whether blocks are bottlenecks, as in ResNet-50; otherwise basic blocks.
    pub(super) bottleneck: bool,
    /// Groups of a bottleneck's 3×3 convolution.
    pub(super) groups: usize,
    /// Channels of a bottleneck's 3×3 convolution in the first stage.
    pub(super) width: usize,
}

/// The naming schemes of this family. timm uses torchvision's names.
pub(super) const SPELLINGS: &[Spelling] = &[Spelling::Original, Spelling::Transformers, Spelling::Children];

/// Returns the network with the tensors named as in `spelling`.
pub(super) fn spec(variant: Variant, spelling: Spelling) -> ArchitectureSpec {
    let mut builder = SpecBuilder::new(1e-5, false);
    let stem = ConvSpec {
        channels: [3, 64],
        kernel: 7,
        stride: 2,
        groups: 1,
    };
    let names = match spelling {
        Spelling::Transformers => ["embedder.embedder.convolution", "embedder.embedder.normalization"],
        Spelling::Children => ["0", "1"],
        _ => ["conv1", "bn1"],
    };
    let value = builder.conv_norm("conv1", names.map(String::from), stem, ValueId::IMAGE);
    let value = builder.activation("conv1", Activation::Relu, value);
    let mut value = builder.max_pool("maxpool", value);
    let mut channels = 64;
    for (stage, repeats) in variant.blocks.into_iter().enumerate() {
        for repeat in 0..repeats {
            let stride = if stage > 0 && repeat == 0 { 2 } else { 1 };
            let block = Block {
                stage,
                repeat,
                spelling,
            };
            let convs = convs(variant, channels, stage, stride);
            value = residual(&mut builder, block, &convs, value);
            channels = convs[convs.len() - 1].channels[1];
        }
    }
    let classifier = match spelling {
        Spelling::Transformers => "classifier.1",
        Spelling::Children => "9",
        _ => "fc",
    };
    builder.finish(value, channels, classifier)
}

/// Returns the convolutions of a block that reads `from` channels.
fn convs(variant: Variant, from: usize, stage: usize, stride: usize) -> Vec<ConvSpec> {
    let conv = |from, to, kernel, stride, groups| ConvSpec {
        channels: [from, to],
        kernel,
        stride,
        groups,
    };
    let plain = 64 << stage;
    if variant.bottleneck {
        let width = variant.width << stage;
        vec![
            conv(from, width, 1, 1, 1),
            conv(width, width, 3, stride, variant.groups),
            conv(width, 4 * plain, 1, 1, 1),
        ]
    } else {
        vec![conv(from, plain, 3, stride, 1), conv(plain, plain, 3, 1, 1)]
    }
}

/// The place of a block, for its names.
#[derive(Clone, Copy)]
struct Block {
    stage: usize,
    repeat: usize,
    spelling: Spelling,
}

impl Block {
    fn name(self) -> String {
        format!("layer{}.{}", self.stage + 1, self.repeat)
    }

    /// Returns the names of the tensors of convolution `index` and its norm.
    fn conv(self, index: usize) -> [String; 2] {
        let Self { stage, repeat, .. } = self;
        match self.spelling {
            Spelling::Transformers => ["convolution", "normalization"]
                .map(|part| format!("encoder.stages.{stage}.layers.{repeat}.layer.{index}.{part}")),
            Spelling::Children => ["conv", "bn"].map(|part| format!("{}.{repeat}.{part}{}", stage + 4, index + 1)),
            _ => ["conv", "bn"].map(|part| format!("{}.{part}{}", self.name(), index + 1)),
        }
    }

    /// Returns the names of the tensors of the shortcut's convolution and norm.
    fn downsample(self) -> [String; 2] {
        let Self { stage, repeat, .. } = self;
        match self.spelling {
            Spelling::Transformers => ["convolution", "normalization"]
                .map(|part| format!("encoder.stages.{stage}.layers.{repeat}.shortcut.{part}")),
            Spelling::Children => ["0", "1"].map(|part| format!("{}.{repeat}.downsample.{part}", stage + 4)),
            _ => ["0", "1"].map(|part| format!("{}.downsample.{part}", self.name())),
        }
    }
}

fn residual(builder: &mut SpecBuilder, block: Block, convs: &[ConvSpec], input: ValueId) -> ValueId {
    let name = block.name();
    let mut value = input;
    for (index, &spec) in convs.iter().enumerate() {
        let conv = format!("{name}.conv{}", index + 1);
        value = builder.conv_norm(&conv, block.conv(index), spec, value);
        if index + 1 < convs.len() {
            value = builder.activation(&conv, Activation::Relu, value);
        }
    }
    let (from, to) = (convs[0].channels[0], convs[convs.len() - 1].channels[1]);
    let stride = convs.iter().map(|conv| conv.stride).product();
    let shortcut = if from == to && stride == 1 {
        input
    } else {
        let spec = ConvSpec {
            channels: [from, to],
            kernel: 1,
            stride,
            groups: 1,
        };
        builder.conv_norm(&format!("{name}.downsample"), block.downsample(), spec, input)
    };
    let sum = builder.plain(format!("{name}.add"), Op::Add, vec![value, shortcut]);
    builder.activation(&name, Activation::Relu, sum)
}
