//! A backbone that is written and read again is equal to the original.

use clr_adapters::{ChannelOrder, Filter, Fit, Preprocessing};
use clr_onnx::{
    Activation, Backbone, BatchNorm, Conv, Coordinates, Graph, Node, Op, PadMode, Padding, Pool, Resize, ResizeMode,
    ResizeTarget, Rounding, Tensor, ValueId,
};

use crate::support::{backbone, head, ramp};

fn vector(length: usize) -> Tensor {
    Tensor::new([length], ramp(length))
}

pub(crate) fn conv(outputs: usize, inputs: usize, group: usize, kernel: usize, padding: Padding, bias: bool) -> Op {
    let weight = Tensor::new(
        [outputs, inputs / group, kernel, kernel],
        ramp(outputs * inputs / group * kernel * kernel),
    );
    Op::Conv(Conv {
        weight: weight.into(),
        bias: bias.then(|| vector(outputs)),
        stride: [1, 2],
        dilation: [1, 1],
        group,
        padding,
    })
}

/// Returns a graph with every operation, activation and padding.
pub(crate) fn everything() -> Graph {
    let mut nodes: Vec<Node> = Vec::new();
    let mut add = |name: &str, op: Op, inputs: &[usize]| {
        nodes.push(Node {
            name: name.into(),
            op,
            inputs: inputs.iter().map(|&value| ValueId(value)).collect(),
        });
        nodes.len()
    };
    let affine = |channels: usize| Op::ChannelAffine {
        scale: vector(channels),
        bias: vector(channels),
    };
    let norm = || BatchNorm {
        scale: vector(4),
        bias: vector(4),
        mean: vector(4),
        variance: vector(4),
        epsilon: 1e-3,
    };
    let pool = Pool {
        kernel: [3, 2],
        stride: [1, 1],
        padding: Padding::Explicit([1, 0, 1, 1]),
        ceil: true,
        count_include_pad: true,
    };
    let mut value = add("input scaling", affine(3), &[0]);
    value = add(
        "pad",
        Op::Pad {
            pads: [0, 1, 2, 3],
            mode: PadMode::Constant(-0.5),
        },
        &[value],
    );
    value = add("stem", conv(4, 3, 1, 3, Padding::SameUpper, true), &[value]);
    value = add("stem/norm", Op::BatchNorm(norm()), &[value]);
    let activations = [
        Activation::Relu,
        Activation::Clip { min: 0.0, max: 6.0 },
        Activation::Clip {
            min: -1.0,
            max: f32::INFINITY,
        },
        Activation::Clip {
            min: f32::NEG_INFINITY,
            max: 2.0,
        },
        Activation::LeakyRelu { alpha: 0.2 },
        Activation::Sigmoid,
        Activation::HardSigmoid { alpha: 0.25, beta: 0.5 },
        Activation::HardSwish,
        Activation::Silu,
    ];
    for (index, activation) in activations.into_iter().enumerate() {
        value = add(&format!("activation {index}"), Op::Activation(activation), &[value]);
    }
    value = add("slope", Op::PRelu { slope: vector(4) }, &[value]);
    let branch = add("depthwise", conv(4, 4, 4, 3, Padding::SameLower, false), &[value]);
    let other = add(
        "pointwise",
        conv(4, 4, 2, 1, Padding::Explicit([0; 4]), false),
        &[value],
    );
    let sum = add("sum", Op::Add, &[branch, other]);
    let squeezed = add("squeeze", Op::GlobalAveragePool, &[sum]);
    let flat = add("squeeze flat", Op::Flatten, &[squeezed]);
    let dense = add(
        "squeeze dense",
        Op::Dense {
            weight: Tensor::new([4, 4], ramp(16)),
            bias: vector(4),
        },
        &[flat],
    );
    let shifted = add("vector slope", Op::PRelu { slope: vector(4) }, &[dense]);
    let gate = add("gate", Op::Unflatten, &[shifted]);
    let gated = add("gated", Op::Mul, &[sum, gate]);
    let maximum = add(
        "max",
        Op::MaxPool(Pool {
            count_include_pad: false,
            ..pool
        }),
        &[gated],
    );
    let mean = add("mean", Op::AveragePool(pool), &[gated]);
    let both = add("both", Op::Concat, &[maximum, mean]);
    let pooled = add("pool", Op::GlobalAveragePool, &[both]);
    let features = add("flat", Op::Flatten, &[pooled]);
    let features = add("features affine", Op::PRelu { slope: vector(8) }, &[features]);
    Graph {
        input_channels: 3,
        nodes,
        features: ValueId(features),
    }
}

/// Returns a graph with the operations added after [`everything`], whose digest is pinned.
pub(crate) fn further() -> Graph {
    let mut nodes: Vec<Node> = Vec::new();
    let mut add = |name: &str, op: Op, inputs: &[usize]| {
        nodes.push(Node {
            name: name.into(),
            op,
            inputs: inputs.iter().map(|&value| ValueId(value)).collect(),
        });
        nodes.len()
    };
    let norm = || (vector(4), Tensor::new([4], [0.5, -0.25, 0.0, 2.0]), 1e-3);
    let mut value = add("stem", conv(4, 3, 1, 3, Padding::SameUpper, true), &[0]);
    let activations = [
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Tanh,
        Activation::Elu { alpha: 0.75 },
        Activation::Mish,
    ];
    for (index, activation) in activations.into_iter().enumerate() {
        value = add(&format!("activation {index}"), Op::Activation(activation), &[value]);
    }
    for (name, mode) in [
        ("reflect", PadMode::Reflect),
        ("edge", PadMode::Edge),
        ("wrap", PadMode::Wrap),
    ] {
        let pads = [1, 0, 0, 2];
        value = add(name, Op::Pad { pads, mode }, &[value]);
    }
    let (start, size, step) = ([1, 2], [6, 3], [1, 2]);
    value = add("crop", Op::Crop { start, size, step }, &[value]);
    let resizes = [
        (
            ResizeTarget::Size([7, 8]),
            ResizeMode::Bilinear,
            Coordinates::AlignCorners,
        ),
        (
            ResizeTarget::Scale([1.5, 2.0]),
            ResizeMode::Nearest(Rounding::Ceil),
            Coordinates::Asymmetric,
        ),
        (
            ResizeTarget::Scale([0.5, 0.5]),
            ResizeMode::Nearest(Rounding::PreferCeil),
            Coordinates::PytorchHalfPixel,
        ),
        (
            ResizeTarget::Size([6, 6]),
            ResizeMode::Nearest(Rounding::PreferFloor),
            Coordinates::HalfPixel,
        ),
        (
            ResizeTarget::Size([8, 8]),
            ResizeMode::Bilinear,
            Coordinates::HalfPixelSymmetric,
        ),
    ];
    for (index, (target, mode, coordinates)) in resizes.into_iter().enumerate() {
        let resize = Resize {
            target,
            mode,
            coordinates,
        };
        value = add(&format!("resize {index}"), Op::Resize(resize), &[value]);
    }
    value = add(
        "shuffle",
        Op::GatherChannels {
            index: [2, 0, 3, 1].into(),
        },
        &[value],
    );
    let left = add("left", Op::GatherChannels { index: [0, 2].into() }, &[value]);
    let right = add("right", Op::GatherChannels { index: [2, 3].into() }, &[value]);
    value = add("joined", Op::Concat, &[left, right]);
    let (scale, bias, epsilon) = norm();
    value = add("layer", Op::LayerNorm { scale, bias, epsilon }, &[value]);
    let (scale, bias, epsilon) = norm();
    value = add("response", Op::GlobalResponseNorm { scale, bias, epsilon }, &[value]);
    for groups in [1, 2, 4] {
        let (scale, bias, epsilon) = norm();
        let op = Op::GroupNorm {
            groups,
            scale,
            bias,
            epsilon,
        };
        value = add(&format!("groups {groups}"), op, &[value]);
    }
    let one = add("one", conv(1, 4, 1, 1, Padding::Explicit([0; 4]), false), &[value]);
    let one = add(
        "resized one",
        Op::Resize(Resize {
            target: ResizeTarget::Size([8, 8]),
            mode: ResizeMode::Bilinear,
            coordinates: Coordinates::HalfPixel,
        }),
        &[one],
    );
    value = add("spatial gate", Op::Mul, &[value, one]);
    let pooled = add("pool", Op::GlobalAveragePool, &[value]);
    let channels = |pads| Op::ChannelConv {
        kernel: vector(3),
        bias: 0.5,
        pads,
    };
    let along = add("along", channels([1, 1]), &[pooled]);
    let shares = add("shares", Op::Softmax { groups: 2 }, &[along]);
    let features = add("flat", Op::Flatten, &[shares]);
    let features = add("along features", channels([2, 0]), &[features]);
    let features = add("feature shares", Op::Softmax { groups: 4 }, &[features]);
    let (scale, bias, epsilon) = norm();
    let features = add("feature norm", Op::LayerNorm { scale, bias, epsilon }, &[features]);
    let features = add(
        "picked",
        Op::GatherChannels {
            index: [3, 1, 0].into(),
        },
        &[features],
    );
    Graph {
        input_channels: 3,
        nodes,
        features: ValueId(features),
    }
}

#[test]
fn further_operations_survive_writing_and_reading() {
    for classifier in [None, Some(head(3, 5))] {
        let written = backbone(further(), classifier);
        assert_eq!(written.graph(), &further());
        let read = Backbone::from_bytes(&written.to_bytes(), "memory").unwrap_or_else(|error| panic!("{error}"));
        for (read, written) in read.graph().nodes.iter().zip(&written.graph().nodes) {
            assert_eq!(read, written);
        }
        assert_eq!(read, written);
        assert_eq!(read.digest(), written.digest());
        assert_eq!(read.to_bytes(), written.to_bytes());
    }
}

#[test]
fn every_operation_survives_writing_and_reading() {
    for classifier in [None, Some(head(8, 5))] {
        let written = backbone(everything(), classifier);
        let read = Backbone::from_bytes(&written.to_bytes(), "memory").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read, written);
        assert_eq!(read.digest(), written.digest());
        assert_eq!(read.to_bytes(), written.to_bytes());
        assert_eq!(written.graph(), &everything());
    }
}

#[test]
fn preprocessing_labels_and_name_travel_in_the_file() {
    let preprocessing = Preprocessing {
        height: 10,
        width: 12,
        fit: Fit::CenterCrop { fraction: 0.9 },
        filter: Filter::Bicubic,
        channel_order: ChannelOrder::Bgr,
        mean: [127.1, 126.2, 125.3],
        std: [58.395, 1e-3, 3.3],
    };
    let labels: Vec<String> = ["cat", "dog \"x\"", "été"].map(String::from).to_vec();
    let written = Backbone::new(
        "my net",
        everything(),
        Some(head(8, 3)),
        Some(labels.clone()),
        preprocessing.clone(),
    )
    .unwrap();
    let read = Backbone::from_bytes(&written.to_bytes(), "other/name.onnx").unwrap();
    assert_eq!(
        (read.name(), read.labels(), read.preprocessing()),
        ("my net", Some(&labels[..]), &preprocessing)
    );
    assert!(read.notes().is_empty(), "{:?}", read.notes());
}

#[test]
fn a_last_dense_layer_that_is_not_a_classifier_stays_in_the_graph() {
    let mut graph = everything();
    let op = Op::Dense {
        weight: Tensor::new([2, 8], ramp(16)),
        bias: vector(2),
    };
    graph.nodes.push(Node {
        name: "embedding".into(),
        op,
        inputs: vec![graph.features],
    });
    graph.features = ValueId(graph.nodes.len());
    let written = backbone(graph, None);
    assert_eq!(Backbone::from_bytes(&written.to_bytes(), "memory").unwrap(), written);
}

#[test]
fn names_that_clash_with_the_files_own_are_kept() {
    let names = [
        "image",
        "logits",
        "features",
        "classifier",
        "image.weight",
        "x.sigmoid",
        "x",
    ];
    let mut nodes: Vec<Node> = names
        .iter()
        .enumerate()
        .map(|(index, &name)| Node {
            name: name.into(),
            op: conv(3, 3, 1, 1, Padding::SameUpper, true),
            inputs: vec![ValueId(index)],
        })
        .collect();
    nodes[6].op = Op::Activation(Activation::Silu);
    nodes.push(Node {
        name: "pool".into(),
        op: Op::GlobalAveragePool,
        inputs: vec![ValueId(7)],
    });
    nodes.push(Node {
        name: "flat".into(),
        op: Op::Flatten,
        inputs: vec![ValueId(8)],
    });
    let written = backbone(
        Graph {
            input_channels: 3,
            nodes,
            features: ValueId(9),
        },
        Some(head(3, 2)),
    );
    assert_eq!(Backbone::from_bytes(&written.to_bytes(), "memory").unwrap(), written);
}

#[test]
fn saving_replaces_the_file_atomically_and_leaves_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backbone.onnx");
    std::fs::write(&path, b"an older file").unwrap();
    let written = backbone(everything(), None);
    written.save(&path).unwrap();
    assert_eq!(Backbone::load(&path).unwrap(), written);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let error = written
        .save(&folder.path().join("no/such/folder.onnx"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("no/such/folder.onnx"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn damaged_metadata_is_an_error_that_names_the_key() {
    use clr_onnx::proto::ModelProto;
    use prost::Message as _;
    let mut model = ModelProto::decode(&backbone(everything(), None).to_bytes()[..]).unwrap();
    model.metadata_props[0].value = Some("{".into());
    let error = Backbone::from_bytes(&model.encode_to_vec(), "memory")
        .unwrap_err()
        .to_string();
    assert!(error.contains("metadata `clr.preprocessing`"), "{error}");
}
