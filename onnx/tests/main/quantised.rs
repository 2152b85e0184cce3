//! Files with quantised values and weights: written and read, and as other tools spell them.

use clr_onnx::{
    Activation, Backbone, Conv, ConvWeight, Graph, Node, Op, Padding, Pool, Quantisation, QuantisedTensor, Tensor,
    ValueId, proto::TensorProto,
};

use crate::support::{Model, backbone, float, head, int, ints, ramp};

fn grid(scale: f32, zero_point: u8) -> Quantisation {
    Quantisation { scale, zero_point }
}

/// Returns a quantised network: image, convolution with an integer bias, residual block, pool, features.
fn quantised() -> Graph {
    let weight = |outputs: usize, inputs: usize, group: usize| {
        let shape = [outputs, inputs / group, 3, 3];
        let values: Vec<i8> = (0..shape.iter().product::<usize>())
            .map(|at| (at * 37 % 255) as u8 as i8)
            .collect();
        let values: Vec<i8> = values.into_iter().map(|value| value.max(-127)).collect();
        QuantisedTensor::new(shape, values, ramp(outputs))
    };
    let conv = |weight: QuantisedTensor, group: usize, bias: Option<Tensor>| {
        Op::Conv(Conv {
            weight: weight.into(),
            bias,
            stride: [1; 2],
            dilation: [1; 2],
            group,
            padding: Padding::Explicit([1; 4]),
        })
    };
    let image = grid(1.0 / 128.0, 127);
    // Multiples of both scales, and a bias that is none.
    let steps: Vec<f32> = ramp(4).iter().map(|scale| scale * image.scale).collect();
    let exact: Vec<f32> = steps
        .iter()
        .zip([7.0, -70_000.0, 0.0, 1.0])
        .map(|(step, number)| step * number)
        .collect();
    let pool = Pool {
        kernel: [2; 2],
        stride: [2; 2],
        padding: Padding::Explicit([0; 4]),
        ceil: false,
        count_include_pad: false,
    };
    let ops: Vec<(&str, Op, &[usize])> = vec![
        ("image", Op::FakeQuantise(image), &[0]),
        ("stem", conv(weight(4, 3, 1), 1, Some(Tensor::new([4], exact))), &[1]),
        ("stem.round", Op::FakeQuantise(grid(0.5, 0)), &[2]),
        ("pool", Op::MaxPool(pool), &[3]),
        (
            "branch",
            conv(weight(4, 4, 4), 4, Some(Tensor::new([4], vec![0.3, 0.7, -0.1, 0.9]))),
            &[4],
        ),
        ("branch.round", Op::FakeQuantise(grid(0.25, 128)), &[5]),
        ("sum", Op::Add, &[6, 4]),
        ("relu", Op::Activation(Activation::Relu), &[7]),
        ("sum.round", Op::FakeQuantise(grid(0.75, 3)), &[8]),
        ("mean", Op::GlobalAveragePool, &[9]),
        ("flat", Op::Flatten, &[10]),
    ];
    let node = |(name, op, inputs): (&str, Op, &[usize])| Node {
        name: name.to_owned(),
        op,
        inputs: inputs.iter().map(|&value| ValueId(value)).collect(),
    };
    let nodes: Vec<Node> = ops.into_iter().map(node).collect();
    Graph {
        input_channels: 3,
        features: ValueId(nodes.len()),
        nodes,
    }
}

fn initialiser(model: Model, name: &str, kind: i32, dims: &[i64], raw: Vec<u8>) -> Model {
    let mut model = model;
    model.graph.initializer.push(TensorProto {
        dims: dims.to_vec(),
        data_type: Some(kind),
        raw_data: Some(raw),
        name: Some(name.into()),
        ..TensorProto::default()
    });
    model
}

/// Returns the constants of the networks below: scales, zero points, weights `[2, 3, 1, 1]` and a bias.
fn constants(signed: bool) -> Model {
    let kind = if signed { TensorProto::INT8 } else { TensorProto::UINT8 };
    let byte = |value: u8| vec![if signed { value.wrapping_sub(128) } else { value }];
    let mut model = Model::new(13)
        .floats("xs", &[], &[0.5])
        .floats("ws", &[2], &[0.25, 2.0])
        .floats("bs", &[2], &[0.125, 1.0])
        .floats("ys", &[], &[0.0625]);
    model = initialiser(model, "xz", kind, &[], byte(127));
    model = initialiser(model, "yz", kind, &[], byte(3));
    model = initialiser(model, "wz", TensorProto::INT8, &[2], vec![0; 2]);
    let weights = [1_i8, -2, 127, -127, 0, 5].map(|value| value as u8).to_vec();
    model = initialiser(model, "w8", TensorProto::INT8, &[2, 3, 1, 1], weights);
    let bias = [3_i32, -100_000].iter().flat_map(|value| value.to_le_bytes()).collect();
    initialiser(model, "b32", TensorProto::INT32, &[2], bias)
}

/// Returns the operations of `constants` followed by quantisation, convolution and quantisation.
fn expected() -> Vec<Op> {
    vec![
        Op::FakeQuantise(grid(0.5, 127)),
        Op::Conv(Conv {
            weight: QuantisedTensor::new([2, 3, 1, 1], vec![1_i8, -2, 127, -127, 0, 5], vec![0.25, 2.0]).into(),
            bias: Some(Tensor::new([2], vec![0.375, -100_000.0])),
            stride: [1; 2],
            dilation: [1; 2],
            group: 1,
            padding: Padding::Explicit([0; 4]),
        }),
        Op::FakeQuantise(grid(0.0625, 3)),
        Op::GlobalAveragePool,
        Op::Flatten,
    ]
}

fn qdq(model: Model) -> Model {
    model
        .node("QuantizeLinear", &["x", "xs", "xz"], "xq", &[])
        .node("DequantizeLinear", &["xq", "xs", "xz"], "xd", &[])
        .node("DequantizeLinear", &["w8", "ws", "wz"], "wd", &[int("axis", 0)])
        .node("DequantizeLinear", &["b32", "bs"], "bd", &[int("axis", 0)])
        .named("conv", "Conv", &["xd", "wd", "bd"], "c", &[])
        .node("QuantizeLinear", &["c", "ys", "yz"], "cq", &[])
        .node("DequantizeLinear", &["cq", "ys", "yz"], "cd", &[])
}

#[test]
fn reading_a_written_quantised_backbone_gives_the_same_graph_and_digest() {
    for classifier in [None, Some(head(4, 3))] {
        let original = backbone(quantised(), classifier);
        let read = Backbone::from_bytes(&original.to_bytes(), "x.onnx").unwrap();
        assert_eq!(read.graph(), original.graph());
        assert_eq!(read.digest(), original.digest());
    }
}

#[test]
fn weights_of_a_written_file_are_integers_and_so_is_a_bias_that_is_a_multiple_of_both_scales() {
    let bytes = backbone(quantised(), None).to_bytes();
    let model: clr_onnx::proto::ModelProto = prost::Message::decode(&bytes[..]).unwrap();
    let graph = model.graph.unwrap();
    let kind = |name: &str| {
        let tensor = graph
            .initializer
            .iter()
            .find(|tensor| tensor.name.as_deref() == Some(name));
        tensor.unwrap().data_type.unwrap()
    };
    assert_eq!([kind("stem.weight"), kind("branch.weight")], [TensorProto::INT8; 2]);
    assert_eq!(
        [kind("stem.bias"), kind("branch.bias")],
        [TensorProto::INT32, TensorProto::FLOAT]
    );
}

#[test]
fn every_integer_scale_and_zero_point_changes_the_digest() {
    let original = backbone(quantised(), None).digest();
    let digest = |change: &dyn Fn(&mut Graph)| {
        let mut graph = quantised();
        change(&mut graph);
        backbone(graph, None).digest()
    };
    let weight = |graph: &mut Graph, change: &dyn Fn(&mut Vec<i8>, &mut Vec<f32>)| {
        let Op::Conv(conv) = &mut graph.nodes[1].op else {
            panic!("no convolution")
        };
        let weight = conv.weight.int8().unwrap();
        let (mut values, mut scale) = (weight.values().to_vec(), weight.scale().to_vec());
        change(&mut values, &mut scale);
        conv.weight = QuantisedTensor::new(weight.shape(), values, scale).into();
    };
    let integer = digest(&|graph| weight(graph, &|values, _| values[50] += 1));
    let scale = digest(&|graph| weight(graph, &|_, scale| scale[3] *= 1.5));
    let step = digest(&|graph| graph.nodes[0].op = Op::FakeQuantise(grid(1.0 / 127.0, 127)));
    let zero_point = digest(&|graph| graph.nodes[0].op = Op::FakeQuantise(grid(1.0 / 128.0, 128)));
    let float = digest(&|graph| {
        let Op::Conv(conv) = &mut graph.nodes[1].op else {
            panic!("no convolution")
        };
        conv.weight = ConvWeight::Float(conv.weight.tensor());
    });
    let mut all = vec![original, integer, scale, step, zero_point, float];
    all.sort_by_key(ToString::to_string);
    all.dedup();
    assert_eq!(all.len(), 6);
}

#[test]
fn quantised_values_and_weights_are_read_with_signed_and_unsigned_bytes() {
    for signed in [false, true] {
        assert_eq!(
            qdq(constants(signed)).output("cd").ops(),
            expected(),
            "signed: {signed}"
        );
    }
}

#[test]
fn a_zero_point_may_be_missing() {
    let model = constants(false)
        .node("QuantizeLinear", &["x", "xs"], "xq", &[])
        .node("DequantizeLinear", &["xq", "xs"], "xd", &[])
        .node("DequantizeLinear", &["w8", "ws"], "wd", &[int("axis", 0)])
        .named("conv", "Conv", &["xd", "wd"], "c", &[]);
    let ops = model.output("c").ops();
    assert_eq!(ops[0], Op::FakeQuantise(grid(0.5, 0)));
    assert!(matches!(&ops[1], Op::Conv(conv) if conv.weight.int8().is_some()));
}

#[test]
fn operators_on_integers_are_read_as_the_float_operators_between_quantisations() {
    let conv = |model: Model, domain: &str| {
        let mut model = model
            .node("QuantizeLinear", &["x", "xs", "xz"], "xq", &[])
            .named(
                "conv",
                "QLinearConv",
                &["xq", "xs", "xz", "w8", "ws", "wz", "ys", "yz", "b32"],
                "cq",
                &[],
            )
            .node("DequantizeLinear", &["cq", "ys", "yz"], "cd", &[]);
        model.graph.node[1].domain = Some(domain.to_owned());
        model
    };
    for domain in ["", "ai.onnx"] {
        assert_eq!(conv(constants(true), domain).output("cd").ops(), expected());
    }
    let microsoft = |model: Model, op: &str, inputs: &[&str], output: &str| {
        let mut model = model.node(op, inputs, output, &[]);
        model.graph.node.last_mut().unwrap().domain = Some("com.microsoft".to_owned());
        model
    };
    let model = conv(constants(false), "");
    let model = microsoft(
        model,
        "QLinearAdd",
        &["cq", "ys", "yz", "cq", "ys", "yz", "xs", "xz"],
        "aq",
    );
    let model = microsoft(
        model,
        "QLinearConcat",
        &["ys", "yz", "aq", "xs", "xz", "cq", "ys", "yz"],
        "tq",
    );
    let model = microsoft(model, "QLinearGlobalAveragePool", &["tq", "ys", "yz", "xs", "xz"], "gq");
    let ops = model
        .node("DequantizeLinear", &["gq", "xs", "xz"], "gd", &[])
        .output("gd")
        .ops();
    let rest: Vec<&str> = ops[3..].iter().map(Op::name).collect();
    let round = "QuantizeLinear and DequantizeLinear";
    assert_eq!(
        rest,
        ["Add", round, "Concat", round, "GlobalAveragePool", round, "Flatten"]
    );
}

#[test]
fn operators_that_move_bytes_are_read_between_quantisation_and_dequantisation() {
    let pool = [ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
    let model = qdq(constants(true))
        .node("MaxPool", &["cq"], "pq", &pool)
        .integers("shape", &[2], &[0, -1])
        .node("Reshape", &["pq", "shape"], "rq", &[])
        .node("DequantizeLinear", &["rq", "ys", "yz"], "rd", &[])
        .output("rd");
    let ops = model.ops();
    assert!(matches!(ops[3..], [Op::MaxPool(_), Op::Flatten]), "{:?}", &ops[3..]);
}

#[test]
fn a_value_that_is_quantised_again_with_the_same_scale_is_rounded_once() {
    let pool = [ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
    let model = qdq(constants(true))
        .node("MaxPool", &["cd"], "p", &pool)
        .node("QuantizeLinear", &["p", "ys", "yz"], "pq", &[])
        .node("DequantizeLinear", &["pq", "ys", "yz"], "pd", &[])
        .output("pd");
    let ops = model.ops();
    assert!(
        matches!(ops[3..], [Op::MaxPool(_), Op::GlobalAveragePool, Op::Flatten]),
        "{:?}",
        &ops[3..]
    );
}

#[test]
fn weights_that_a_file_quantises_itself_are_integers() {
    let model = constants(false)
        .floats("w", &[2, 3, 1, 1], &[0.25, -0.5, 1000.0, -254.0, 0.9, 10.0])
        .node("QuantizeLinear", &["x", "xs", "xz"], "xq", &[])
        .node("DequantizeLinear", &["xq", "xs", "xz"], "xd", &[])
        .node("QuantizeLinear", &["w", "ws", "wz"], "wq", &[int("axis", 0)])
        .node("DequantizeLinear", &["wq", "ws", "wz"], "wd", &[int("axis", 0)])
        .named("conv", "Conv", &["xd", "wd"], "c", &[])
        .output("c");
    let ops = model.ops();
    let Op::Conv(conv) = &ops[1] else { panic!("{ops:?}") };
    assert_eq!(conv.weight.int8().unwrap().values(), [1, -2, 127, -127, 0, 5]);
}

#[test]
fn weights_that_are_no_symmetric_integers_run_in_float_and_a_note_says_so() {
    let weights = |zero_point: u8| {
        let mut model = constants(false).floats("one", &[], &[0.5]);
        model = initialiser(model, "uz", TensorProto::UINT8, &[], vec![zero_point]);
        model = initialiser(
            model,
            "u8",
            TensorProto::UINT8,
            &[2, 3, 1, 1],
            vec![129, 126, 255, 1, 128, 133],
        );
        model
            .node("QuantizeLinear", &["x", "xs", "xz"], "xq", &[])
            .node("DequantizeLinear", &["xq", "xs", "xz"], "xd", &[])
            .node("DequantizeLinear", &["u8", "one", "uz"], "wd", &[])
            .named("conv", "Conv", &["xd", "wd"], "c", &[])
            .output("c")
            .load()
            .unwrap()
    };
    let weight = |backbone: &Backbone| match &backbone.graph().nodes[1].op {
        Op::Conv(conv) => conv.weight.clone(),
        other => panic!("{other:?}"),
    };
    let symmetric = weights(128);
    assert_eq!(weight(&symmetric).int8().unwrap().values(), [1, -2, 127, -127, 0, 5]);
    let asymmetric = weights(100);
    assert_eq!(weight(&asymmetric).values()[..3], [14.5, 13.0, 77.5]);
    let note = |backbone: &Backbone| backbone.notes().iter().any(|note| note.contains("run in float"));
    assert_eq!([note(&symmetric), note(&asymmetric)], [false, true]);
}

#[test]
fn quantisation_that_cannot_be_read_is_refused_with_its_reason() {
    let load = |nodes: &[(&str, &[&str], &[clr_onnx::proto::AttributeProto])]| {
        let mut model = constants(false)
            .floats("other", &[], &[0.75])
            .floats("nothing", &[], &[0.0])
            .floats("many", &[3], &[0.5, 0.5, 0.5]);
        model = initialiser(model, "z3", TensorProto::UINT8, &[3], vec![0; 3]);
        for (index, (op, inputs, attributes)) in nodes.iter().enumerate() {
            model = model.node(op, inputs, &format!("v{index}"), attributes);
        }
        let last = format!("v{}", nodes.len() - 1);
        model.conv().node("Add", &["x", &last], "s", &[]).output("s").error()
    };
    let q = "QuantizeLinear";
    let d = "DequantizeLinear";
    for (nodes, reason) in [
        (
            vec![(q, &["x", "xs", "xz"][..], &[][..]), (d, &["v0", "other", "xz"], &[])],
            "expected the scale",
        ),
        (
            vec![(q, &["x", "xs", "xz"], &[]), (d, &["v0", "xs", "yz"], &[])],
            "expected the scale",
        ),
        (
            vec![(q, &["x", "nothing", "xz"], &[])],
            "expected a positive finite number",
        ),
        (vec![(q, &["x", "many", "z3"], &[])], "one for all channels"),
        (
            vec![(q, &["x", "xs", "xz"], &[int("block_size", 2)])],
            "blocks of 2 values",
        ),
        (vec![(q, &["x", "xs"], &[int("output_dtype", 5)])], "output_dtype 5"),
        (vec![(d, &["x", "xs", "xz"], &[])], "expected integers"),
        (
            vec![(q, &["x", "xs", "xz"], &[float("scale", 1.0)])],
            "attribute `scale`",
        ),
    ] {
        let text = load(&nodes);
        assert!(text.contains(reason), "{reason}: {text}");
    }
}
