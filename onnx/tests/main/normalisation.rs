//! A normalisation in the graph becomes preprocessing. The network is the same wherever the normalisation is done.

use clr_adapters::ChannelOrder;
use clr_onnx::{
    Backbone, Origin, Preset, StatedPreprocessing,
    proto::{NodeProto, StringStringEntryProto, TensorProto},
};
use prost::Message as _;

use crate::support::{Model, float, info, int, ints, ramp};

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Adds a small network that reads `from`: two convolutions and a classifier.
fn body(model: Model, from: &str) -> Model {
    model
        .floats("w1", &[4, 3, 3, 3], &ramp(108))
        .named("conv1", "Conv", &[from, "w1"], "c1", &[ints("pads", &[1, 1, 1, 1])])
        .named("relu1", "Relu", &["c1"], "a1", &[])
        .floats("w2", &[6, 4, 1, 1], &ramp(24))
        .named("conv2", "Conv", &["a1", "w2"], "c2", &[])
        .named("pool", "GlobalAveragePool", &["c2"], "p", &[])
        .named("flat", "Flatten", &["p"], "f", &[])
        .floats("fc.w", &[5, 6], &ramp(30))
        .floats("fc.b", &[5], &ramp(5))
        .named("fc", "Gemm", &["f", "fc.w", "fc.b"], "y", &[int("transB", 1)])
        .output("y")
}

fn plain() -> Backbone {
    load(body(Model::new(17), "x"))
}

fn load(model: Model) -> Backbone {
    model.load().unwrap_or_else(|error| panic!("{error}"))
}

/// A node with several outputs.
fn split(mut model: Model, input: &str, outputs: &[&str]) -> Model {
    model.graph.node.push(NodeProto {
        input: vec![input.to_owned()],
        output: outputs.iter().map(|&output| output.to_owned()).collect(),
        name: Some("split".to_owned()),
        op_type: Some("Split".to_owned()),
        attribute: vec![int("axis", 1)],
        domain: None,
    });
    model
}

fn kernel(rows: [[f32; 3]; 3]) -> Vec<f32> {
    rows.concat()
}

/// Returns graphs that express the normalisation of `ImageNet` and others in various ways, each with the equivalent
/// preset.
fn spellings() -> Vec<(&'static str, Model, Preset)> {
    let new = || Model::new(17);
    let bytes = |values: [f32; 3]| values.map(|value| value * 255.0);
    let inverse = |values: [f32; 3]| values.map(|value| 1.0 / value);
    let shift = [0, 1, 2].map(|c| -MEAN[c] / STD[c]);
    let diagonal = |values: [f32; 3]| kernel([[values[0], 0., 0.], [0., values[1], 0.], [0., 0., values[2]]]);
    let caffe = [-103.939, -116.779, -123.68];
    vec![
        (
            "Sub, Div of 0–1",
            new()
                .floats("m", &[1, 3, 1, 1], &MEAN)
                .floats("s", &[1, 3, 1, 1], &STD)
                .node("Sub", &["x", "m"], "n", &[])
                .node("Div", &["n", "s"], "v", &[]),
            Preset::ImageNet,
        ),
        (
            "Sub, Div of bytes, constants [3, 1, 1]",
            new()
                .floats("m", &[3, 1, 1], &bytes(MEAN))
                .floats("s", &[3, 1, 1], &bytes(STD))
                .node("Sub", &["x", "m"], "n", &[])
                .node("Div", &["n", "s"], "v", &[]),
            Preset::ImageNet,
        ),
        (
            "Div by 255, Sub, Mul",
            new()
                .floats("r", &[], &[255.0])
                .floats("m", &[1, 3, 1, 1], &MEAN)
                .floats("s", &[1, 3, 1, 1], &inverse(STD))
                .node("Div", &["x", "r"], "u", &[])
                .node("Sub", &["u", "m"], "n", &[])
                .node("Mul", &["s", "n"], "v", &[]),
            Preset::ImageNet,
        ),
        (
            "Mul, Add",
            new()
                .floats("s", &[1, 3, 1, 1], &inverse(STD))
                .floats("b", &[1, 3, 1, 1], &shift)
                .node("Mul", &["x", "s"], "n", &[])
                .node("Add", &["b", "n"], "v", &[]),
            Preset::ImageNet,
        ),
        (
            "BatchNormalization",
            new()
                .floats("g", &[3], &[1.0; 3])
                .floats("b", &[3], &[0.0; 3])
                .floats("m", &[3], &MEAN)
                .floats("s", &[3], &STD.map(|value| value * value))
                .node(
                    "BatchNormalization",
                    &["x", "g", "b", "m", "s"],
                    "v",
                    &[float("epsilon", 0.0)],
                ),
            Preset::ImageNet,
        ),
        (
            "depthwise 1×1 convolution",
            new()
                .floats("k", &[3, 1, 1, 1], &inverse(STD))
                .floats("b", &[3], &shift)
                .node("Conv", &["x", "k", "b"], "v", &[int("group", 3)]),
            Preset::ImageNet,
        ),
        (
            "diagonal 1×1 convolution of bytes",
            new()
                .floats("k", &[3, 3, 1, 1], &diagonal(inverse(bytes(STD))))
                .floats("b", &[3], &shift)
                .node("Conv", &["x", "k", "b"], "v", &[]),
            Preset::ImageNet,
        ),
        (
            "Keras' Normalization with its constants not folded",
            new()
                .floats("m", &[3], &bytes(MEAN))
                .floats("variance", &[3], &bytes(STD).map(|value| value * value))
                .floats("epsilon", &[], &[1e-7])
                .integers("shape", &[4], &[1, -1, 1, 1])
                .node("Sqrt", &["variance"], "root", &[])
                .node("Max", &["root", "epsilon"], "s", &[])
                .node("Reshape", &["m", "shape"], "m4", &[])
                .node("Reshape", &["s", "shape"], "s4", &[])
                .node("Sub", &["x", "m4"], "n", &[])
                .node("Div", &["n", "s4"], "v", &[]),
            Preset::ImageNet,
        ),
        (
            "Keras' Rescaling to −1 … 1",
            new()
                .floats("s", &[1], &[1.0 / 127.5])
                .floats("b", &[], &[-1.0])
                .node("Mul", &["x", "s"], "n", &[])
                .node("Add", &["n", "b"], "v", &[]),
            Preset::Tf,
        ),
        (
            "2x − 1",
            new()
                .floats("s", &[], &[2.0])
                .floats("b", &[], &[1.0])
                .node("Mul", &["x", "s"], "n", &[])
                .node("Sub", &["n", "b"], "v", &[]),
            Preset::Tf,
        ),
        (
            "x / 255",
            new().floats("s", &[], &[255.0]).node("Div", &["x", "s"], "v", &[]),
            Preset::Unit,
        ),
        (
            "caffe by Gather and Add",
            new()
                .integers("i", &[3], &[2, 1, 0])
                .floats("m", &[1, 3, 1, 1], &caffe)
                .node("Gather", &["x", "i"], "g", &[int("axis", 1)])
                .node("Add", &["g", "m"], "v", &[]),
            Preset::Caffe,
        ),
        (
            "caffe by GatherND between transposes",
            new()
                .integers("i", &[3, 1], &[2, 1, 0])
                .floats("m", &[1, 3, 1, 1], &caffe)
                .node("Transpose", &["x"], "t", &[ints("perm", &[1, 0, 2, 3])])
                .node("GatherND", &["t", "i"], "g", &[int("batch_dims", 0)])
                .node("Transpose", &["g"], "u", &[ints("perm", &[1, 0, 2, 3])])
                .node("Add", &["u", "m"], "v", &[]),
            Preset::Caffe,
        ),
        (
            "caffe by Split and Concat",
            split(new(), "x", &["r", "g", "b"])
                .floats("m", &[1, 3, 1, 1], &caffe)
                .node("Concat", &["b", "g", "r"], "c", &[int("axis", 1)])
                .node("Add", &["c", "m"], "v", &[]),
            Preset::Caffe,
        ),
        (
            "caffe by a Slice backwards",
            new()
                .integers("start", &[1], &[-1])
                .integers("end", &[1], &[i64::MIN])
                .integers("axis", &[1], &[1])
                .integers("step", &[1], &[-1])
                .floats("m", &[1, 3, 1, 1], &caffe)
                .node("Slice", &["x", "start", "end", "axis", "step"], "c", &[])
                .node("Add", &["c", "m"], "v", &[]),
            Preset::Caffe,
        ),
        (
            "caffe by a convolution",
            new()
                .floats("k", &[3, 3, 1, 1], &kernel([[0., 0., 1.], [0., 1., 0.], [1., 0., 0.]]))
                .floats("b", &[3], &caffe)
                .node("Conv", &["x", "k", "b"], "v", &[]),
            Preset::Caffe,
        ),
        (
            "GoogLeNet's channels one by one, of an input normalised for ImageNet",
            (0..3)
                .fold(new(), |model, c| {
                    let [i, g, u, s, n, b, o] = ["i", "g", "u", "s", "n", "b", "o"].map(|part| format!("{part}{c}"));
                    model
                        .integers(&i, &[], &[c as i64])
                        .floats(&s, &[], &[STD[c] / 0.5])
                        .floats(&b, &[], &[(MEAN[c] - 0.5) / 0.5])
                        .node("Gather", &["x", &i], &g, &[int("axis", 1)])
                        .node("Unsqueeze", &[&g, "axes"], &u, &[])
                        .node("Mul", &[&u, &s], &n, &[])
                        .node("Add", &[&n, &b], &o, &[])
                })
                .integers("axes", &[1], &[1])
                .node("Concat", &["o0", "o1", "o2"], "v", &[int("axis", 1)]),
            Preset::Tf,
        ),
    ]
}

#[test]
fn every_form_of_normalisation_gives_the_digest_of_the_network_without_it() {
    let expected = plain();
    for (what, model, preset) in spellings() {
        let got = load(body(model, "v"));
        assert_eq!(
            Preset::of(got.preprocessing()),
            Some(preset),
            "{what}: {:?}",
            got.preprocessing()
        );
        assert_eq!(got.graph(), expected.graph(), "{what}");
        assert_eq!(got.digest(), expected.digest(), "{what}");
        let origins = got.preprocessing_origins();
        assert_eq!(origins.normalisation, Origin::Graph, "{what}");
        assert_eq!(origins.crop, Origin::Assumed, "{what}");
    }
}

#[test]
fn an_input_of_bytes_is_cast_and_normalised() {
    let cast = |mut model: Model| {
        let mut input = info("x", &[None, Some(3), Some(8), Some(8)]);
        if let Some(tensor) = input.r#type.as_mut().and_then(|kind| kind.tensor_type.as_mut()) {
            tensor.elem_type = Some(TensorProto::UINT8);
        }
        model.graph.input = vec![input];
        model.node("Cast", &["x"], "f32", &[int("to", 1)])
    };
    let bare = load(body(cast(Model::new(17)), "f32"));
    assert_eq!(Preset::of(bare.preprocessing()), Some(Preset::Bytes));
    assert_eq!(bare.preprocessing_origins().normalisation, Origin::Graph);
    assert_eq!(bare.digest(), plain().digest());
    let scaled = cast(Model::new(17))
        .floats("s", &[], &[255.0])
        .node("Div", &["f32", "s"], "v", &[]);
    assert_eq!(Preset::of(load(body(scaled, "v")).preprocessing()), Some(Preset::Unit));
}

#[test]
fn channels_last_are_normalised_and_transposed() {
    let mut model = Model::new(17)
        .floats("m", &[3], &MEAN.map(|value| value * 255.0))
        .floats("s", &[1, 1, 1, 3], &STD.map(|value| value * 255.0))
        .node("Sub", &["x", "m"], "n", &[])
        .node("Div", &["n", "s"], "d", &[])
        .node("Transpose", &["d"], "v", &[ints("perm", &[0, 3, 1, 2])]);
    model.graph.input = vec![info("x", &[None, Some(8), Some(8), Some(3)])];
    let got = load(body(model, "v"));
    assert_eq!(Preset::of(got.preprocessing()), Some(Preset::ImageNet));
    assert_eq!(got.digest(), plain().digest());
}

#[test]
fn other_operations_than_normalisations_stay_in_the_graph() {
    // Three graphs without a normalisation to move: a trained norm on an input that is already normalised, a second
    // reader of the image, and a learned mixture of the channels.
    let norm = Model::new(17)
        .floats("s", &[1, 3, 1, 1], &[0.9, 1.2, 1.1])
        .floats("b", &[1, 3, 1, 1], &[0.05, -0.1, 0.02])
        .node("Mul", &["x", "s"], "n", &[])
        .node("Add", &["n", "b"], "v", &[]);
    let second = Model::new(17)
        .floats("s", &[], &[255.0])
        .node("Div", &["x", "s"], "d", &[])
        .node("Relu", &["x"], "r", &[])
        .node("Add", &["d", "r"], "v", &[]);
    let mixture = Model::new(17)
        .floats("k", &[3, 3, 1, 1], &ramp(9))
        .node("Conv", &["x", "k"], "v", &[]);
    for model in [norm, second, mixture] {
        let got = load(body(model, "v"));
        assert!(got.graph().nodes.len() > plain().graph().nodes.len());
        assert_eq!(got.preprocessing_origins().assumed().len(), 4);
        assert_eq!(Preset::of(got.preprocessing()), Some(Preset::ImageNet));
    }
}

#[test]
fn stated_values_are_applied_before_those_of_the_graph() {
    let double = || {
        let model = Model::new(17)
            .floats("s", &[], &[2.0])
            .floats("b", &[], &[1.0])
            .node("Mul", &["x", "s"], "n", &[])
            .node("Sub", &["n", "b"], "v", &[]);
        load(body(model, "v"))
    };
    // The preset to which the graph is equivalent is not applied a second time.
    let tf = double()
        .with_stated(&StatedPreprocessing::preset(Preset::Tf), Origin::Option)
        .unwrap();
    assert_eq!(Preset::of(tf.preprocessing()), Some(Preset::Tf));
    assert_eq!(tf.preprocessing_origins().normalisation, Origin::Option);
    // Images of BGR in 0–1 into the graph.
    let stated = StatedPreprocessing {
        channel_order: Some(ChannelOrder::Bgr),
        ..StatedPreprocessing::default()
    };
    let bgr = double().with_stated(&stated, Origin::Option).unwrap();
    assert_eq!(bgr.preprocessing().channel_order, ChannelOrder::Bgr);
    assert_eq!(bgr.preprocessing().mean, [127.5; 3]);
}

#[test]
fn origins_are_read_back_and_a_written_backbone_is_not_normalised_again() {
    let (_, model, _) = spellings().remove(0);
    let imported = load(body(model, "v"));
    let again = Backbone::from_bytes(&imported.to_bytes(), "again.onnx").unwrap();
    assert_eq!(again, imported);
    assert_eq!(again.preprocessing_origins(), imported.preprocessing_origins());
    assert_eq!(again.digest(), imported.digest());
    assert_eq!(
        plain().preprocessing_origins().assumed(),
        ["normalisation", "channel order", "crop", "filter"]
    );
}

/// Returns the error for a file with these metadata entries.
fn metadata_error(entries: &[(&str, &str)]) -> String {
    let mut model = body(Model::new(17), "x").proto();
    model.metadata_props = entries
        .iter()
        .map(|&(key, value)| StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
        })
        .collect();
    match Backbone::from_bytes(&model.encode_to_vec(), "net.onnx") {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn unknown_keys_and_fields_of_the_metadata_are_reported() {
    let json = serde_json::to_string(plain().preprocessing()).unwrap();
    assert_eq!(
        metadata_error(&[("clr.preprocessing", &json), ("author", "someone")]),
        ""
    );
    let error = metadata_error(&[("clr.preprocesing", &json)]);
    assert!(
        error.contains("`clr.preprocesing`") && error.contains("hint: "),
        "{error}"
    );
    let more = json.replacen('{', r#"{"gamma":2.2,"#, 1);
    let error = metadata_error(&[("clr.preprocessing", &more)]);
    assert!(
        error.contains("`clr.preprocessing`") && error.contains("gamma"),
        "{error}"
    );
    let crop = json.replacen(r#""fraction""#, r#""zoom":1,"fraction""#, 1);
    assert!(crop != json && metadata_error(&[("clr.preprocessing", &crop)]).contains("zoom"));
    let error = metadata_error(&[("clr.classifier", "perhaps")]);
    assert!(error.contains("perhaps"), "{error}");
    let error = metadata_error(&[("clr.labels", "[]"), ("clr.labels", "[]")]);
    assert!(error.contains("twice"), "{error}");
    let error = metadata_error(&[("clr.preprocessing_origins", r#"{"normalisation":"guessed"}"#)]);
    assert!(error.contains("guessed"), "{error}");
}
