//! Small networks, parameters and images with reproducible values.

use clr_onnx::{Backbone, BatchNorm, Conv, Graph, Node, Op, Padding, Pool, Program, Tensor, ValueId};

use crate::{Executable, ExecutableOptions, SiteParameters};

/// Reproducible values in ±1.
pub(super) struct Noise(u64);

impl Noise {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn value(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(super) fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.value()).collect()
    }

    pub(super) fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let values = self.values(shape.iter().product());
        Tensor::new(shape.to_vec(), values)
    }
}

/// Rows and columns of the images.
pub(super) const SIZE: [usize; 2] = [9, 7];
/// Number of channels after the first convolution: more than a block, and not a multiple of it.
pub(super) const CHANNELS: usize = 20;

/// A graph under construction.
pub(super) struct Builder {
    pub(super) nodes: Vec<Node>,
    pub(super) noise: Noise,
}

impl Builder {
    /// Creates a graph that starts with the convolution `conv0` from the image to [`CHANNELS`] channels.
    pub(super) fn new(seed: u64) -> Self {
        let noise = Noise::new(seed);
        let nodes = Vec::new();
        let mut builder = Self { nodes, noise };
        let first = builder.conv(3, CHANNELS, [3, 3], 1);
        builder.push(first, &[ValueId::IMAGE]);
        builder
    }

    /// The last value.
    pub(super) fn last(&self) -> ValueId {
        ValueId(self.nodes.len())
    }

    pub(super) fn conv(&mut self, from: usize, to: usize, kernel: [usize; 2], group: usize) -> Op {
        let fan = ((from / group * kernel[0] * kernel[1]) as f32).sqrt();
        let shape = [to, from / group, kernel[0], kernel[1]];
        let weight: Vec<f32> = (self.noise.tensor(&shape).data().iter())
            .map(|value| 1.7 * value / fan)
            .collect();
        Op::Conv(Conv {
            weight: Tensor::new(shape.to_vec(), weight).into(),
            bias: Some(self.noise.tensor(&[to])),
            stride: [1, 1],
            dilation: [1, 1],
            group,
            padding: Padding::Explicit([kernel[0] / 2, kernel[1] / 2, kernel[0] / 2, kernel[1] / 2]),
        })
    }

    pub(super) fn norm(&mut self, channels: usize) -> Op {
        let positive = |tensor: &Tensor| {
            let values: Vec<f32> = tensor.data().iter().map(|value| value.abs() + 0.5).collect();
            Tensor::new(tensor.shape(), values)
        };
        Op::BatchNorm(BatchNorm {
            scale: positive(&self.noise.tensor(&[channels])),
            bias: self.noise.tensor(&[channels]),
            mean: self.noise.tensor(&[channels]),
            variance: positive(&self.noise.tensor(&[channels])),
            epsilon: 1e-3,
        })
    }

    pub(super) fn push(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        let name = match op {
            Op::Conv(_) => format!("conv{}", self.nodes.len()),
            _ => format!("node{}", self.nodes.len()),
        };
        let inputs = inputs.to_vec();
        self.nodes.push(Node { name, op, inputs });
        self.last()
    }

    /// Adds a 1×1 convolution, the mean over the map, and the features.
    pub(super) fn finish(mut self, channels: usize) -> (Backbone, Executable) {
        let conv = self.conv(channels, 10, [1, 1], 1);
        let last = self.last();
        let conv = self.push(conv, &[last]);
        let pooled = self.push(Op::GlobalAveragePool, &[conv]);
        self.push(Op::Flatten, &[pooled]);
        self.finish_with_features()
    }

    /// The features are the last value.
    pub(super) fn finish_with_features(self) -> (Backbone, Executable) {
        let graph = Graph {
            input_channels: 3,
            features: self.last(),
            nodes: self.nodes,
        };
        let preprocessing = Backbone::default_preprocessing(SIZE[0] as u32, SIZE[1] as u32);
        let backbone = Backbone::new("test", graph, None, None, preprocessing).unwrap();
        let program = Program::lower(&backbone, SIZE).unwrap();
        let executable = Executable::new(&program, &ExecutableOptions::new(&program)).unwrap();
        (backbone, executable)
    }
}

/// A window of `kernel` with a stride of 2.
pub(super) fn window(kernel: usize) -> Pool {
    Pool {
        kernel: [kernel, kernel],
        stride: [2, 2],
        padding: Padding::Explicit([1, 0, 1, 1]),
        ceil: true,
        count_include_pad: false,
    }
}

/// Returns a trained CLR layer close to the identity, for use after the scale of the backbone's own epilogue.
pub(super) fn kernel_site(noise: &mut Noise, channels: usize) -> (Vec<f32>, Vec<f32>) {
    let weights = (0..channels * 9).map(|at| f32::from(u8::from(at % 9 == 4)) + 0.2 * noise.value());
    (weights.collect(), noise.values(channels))
}

/// Returns the parameters of all sites: CLR layers at the sites in `trained`, and the backbone's own elsewhere.
pub(super) fn sites(
    backbone: &Backbone,
    executable: &Executable,
    trained: &[usize],
    noise: &mut Noise,
) -> Vec<SiteParameters> {
    let mut sites = executable.frozen_parameters();
    for &site in trained {
        let (weights, bias) = kernel_site(noise, backbone.sites()[site].channels);
        sites[site] = SiteParameters::kernel(&weights, &bias).with_gradient(true);
    }
    sites
}

/// Returns the site with its blocks moved by `step` times `direction`.
pub(super) fn moved(site: &SiteParameters, direction: &[f32], step: f32) -> SiteParameters {
    let blocks = site
        .blocks
        .iter()
        .zip(direction)
        .map(|(value, direction)| value + step * direction);
    SiteParameters {
        blocks: blocks.collect(),
        ..site.clone()
    }
}
