//! `SqueezeNet` 1.1 (Iandola et al., 2016) from the `NumPy` arrays of the package `ndf`.
//!
//! The pickle is a dictionary of a kernel `[kh, kw, I, O]` and a bias `[O]` per convolution. Convolutions have
//! TensorFlow's SAME padding, the max-pools have none. There are no norms. The last convolution, 1×1 and followed by a
//! global average, is the classifier: the average of its outputs is its output on the average of its inputs.

use std::collections::HashMap;

use clr_adapters::{Filter, Fit, Head, Preprocessing};
use clr_onnx::{Activation, Backbone, Conv, Graph, Node, NumpyArray, Op, Padding, Pool, Preset, Tensor, ValueId};

use crate::FetchError;

/// Number, squeezed channels, and channels of each of the two expanding convolutions of the fire modules.
const FIRES: [[usize; 3]; 8] = [
    [2, 16, 64],
    [3, 16, 64],
    [4, 32, 128],
    [5, 32, 128],
    [6, 48, 192],
    [7, 48, 192],
    [8, 64, 256],
    [9, 64, 256],
];

/// The fire modules that precede a max-pool.
const POOLED: [usize; 2] = [3, 5];

/// Length of the features.
const FEATURES: usize = 512;

/// Number of ImageNet's classes.
const CLASSES: usize = 1000;

/// Builds the backbone with its classifier from the pickle in the package `origin`.
///
/// # Errors
/// [`FetchError`] if the pickle is not a dictionary of plain arrays, or if an array is missing or has another shape.
pub(crate) fn backbone(
    name: &str,
    pickle: &[u8],
    origin: &str,
    labels: Option<Vec<String>>,
) -> Result<Backbone, FetchError> {
    let arrays = clr_onnx::numpy_arrays(pickle, origin)?;
    let arrays = arrays.into_iter().map(|array| (array.name.clone(), array)).collect();
    let mut network = Network {
        weights: Weights { arrays, origin },
        nodes: Vec::new(),
    };
    let value = network.convolution("conv1", [3, 64], 3, 2, ValueId::IMAGE)?;
    let mut value = network.max_pool("pool1", value);
    let mut channels = 64;
    for [number, squeezed, expanded] in FIRES {
        value = network.fire(number, [channels, squeezed, expanded], value)?;
        channels = 2 * expanded;
        if POOLED.contains(&number) {
            value = network.max_pool(&format!("pool{number}"), value);
        }
    }
    let value = network.push("pool", Op::GlobalAveragePool, vec![value]);
    let features = network.push("flatten", Op::Flatten, vec![value]);
    let classifier = Head {
        features: FEATURES,
        weight: network.weights.kernel("conv10", [FEATURES, CLASSES], 1)?,
        bias: network.weights.values("conv10.1", &[CLASSES])?,
    };
    let graph = Graph {
        input_channels: 3,
        nodes: network.nodes,
        features,
    };
    Ok(Backbone::new(name, graph, Some(classifier), labels, preprocessing())?)
}

/// Returns Caffe's evaluation: shorter side to 256, centre crop of 227 × 227, BGR, 0 to 255 minus the mean of ImageNet.
fn preprocessing() -> Preprocessing {
    Preprocessing {
        height: 227,
        width: 227,
        fit: Fit::CenterCrop {
            fraction: 227.0 / 256.0,
        },
        filter: Filter::Bilinear,
        channel_order: Preset::Caffe.channel_order(),
        mean: Preset::Caffe.mean(),
        std: Preset::Caffe.std(),
    }
}

/// The arrays by name.
struct Weights<'a> {
    arrays: HashMap<String, NumpyArray<'a>>,
    origin: &'a str,
}

impl Weights<'_> {
    /// Returns the values of the array `name` of this shape, in its order.
    fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, FetchError> {
        let array = self.arrays.get(name).filter(|array| array.shape == shape);
        array.and_then(NumpyArray::to_f32).ok_or_else(|| {
            let got = self.arrays.get(name).map_or("nothing".to_owned(), |array| {
                format!("{} {:?}", array.element, array.shape)
            });
            FetchError::content(
                self.origin,
                format!("array `{name}`: expected f4 {shape:?}, got {got}\nhint: only ndf 0.1.4 has these weights"),
            )
        })
    }

    /// Returns the kernel of the convolution `name` as `[O, I, k, k]`.
    fn kernel(&self, name: &str, [inputs, outputs]: [usize; 2], side: usize) -> Result<Vec<f32>, FetchError> {
        let values = self.values(&format!("{name}.0"), &[side, side, inputs, outputs])?;
        let place = |output, input, position| values[(position * inputs + input) * outputs + output];
        Ok((0..outputs)
            .flat_map(|output| (0..inputs).map(move |input| (output, input)))
            .flat_map(|(output, input)| (0..side * side).map(move |position| place(output, input, position)))
            .collect())
    }
}

/// The network under construction.
struct Network<'a> {
    weights: Weights<'a>,
    nodes: Vec<Node>,
}

impl Network<'_> {
    fn push(&mut self, name: impl Into<String>, op: Op, inputs: Vec<ValueId>) -> ValueId {
        let name = name.into();
        self.nodes.push(Node { name, op, inputs });
        ValueId::of_node(self.nodes.len() - 1)
    }

    /// Adds a convolution from `channels[0]` to `channels[1]` channels, and its `ReLU`.
    fn convolution(
        &mut self,
        name: &str,
        channels: [usize; 2],
        side: usize,
        stride: usize,
        input: ValueId,
    ) -> Result<ValueId, FetchError> {
        let [inputs, outputs] = channels;
        let kernel = self.weights.kernel(name, channels, side)?;
        let bias = self.weights.values(&format!("{name}.1"), &[outputs])?;
        let conv = Conv {
            weight: Tensor::new([outputs, inputs, side, side], kernel).into(),
            bias: Some(Tensor::new([outputs], bias)),
            stride: [stride; 2],
            dilation: [1, 1],
            group: 1,
            padding: Padding::SameUpper,
        };
        let value = self.push(name, Op::Conv(conv), vec![input]);
        Ok(self.push(format!("{name}.act"), Op::Activation(Activation::Relu), vec![value]))
    }

    /// Adds a 1×1 convolution, followed by a 1×1 and a 3×3 convolution whose outputs are concatenated.
    fn fire(&mut self, number: usize, channels: [usize; 3], input: ValueId) -> Result<ValueId, FetchError> {
        let [inputs, squeezed, expanded] = channels;
        let name = |part: &str| format!("fire{number}/{part}");
        let squeeze = self.convolution(&name("squeeze1x1"), [inputs, squeezed], 1, 1, input)?;
        let pixels = self.convolution(&name("expand1x1"), [squeezed, expanded], 1, 1, squeeze)?;
        let windows = self.convolution(&name("expand3x3"), [squeezed, expanded], 3, 1, squeeze)?;
        Ok(self.push(format!("fire{number}"), Op::Concat, vec![pixels, windows]))
    }

    /// Adds a 3×3 max-pool with stride 2 and without padding.
    fn max_pool(&mut self, name: &str, input: ValueId) -> ValueId {
        let pool = Pool {
            kernel: [3, 3],
            stride: [2, 2],
            padding: Padding::Explicit([0; 4]),
            ceil: false,
            count_include_pad: false,
        };
        self.push(name, Op::MaxPool(pool), vec![input])
    }
}

#[cfg(test)]
mod tests;
