//! Networks that read one channel: a conversion from colour to grey is added before them.

use clr_onnx::{Backbone, Graph, Op, Origin, Preset, StatedPreprocessing, ValueId};

use crate::support::{Model, info, int, ints, ramp};

/// A model with this input.
fn reading(dims: [i64; 3]) -> Model {
    let mut model = Model::bare(17);
    let dims = [None, Some(dims[0]), Some(dims[1]), Some(dims[2])];
    model.graph.input.push(info("x", &dims));
    model
}

/// A convolution of `from` and a classifier.
fn body(model: Model, from: &str) -> Backbone {
    let model = model
        .floats("w", &[9, 1, 3, 3], &ramp(81))
        .named("conv", "Conv", &[from, "w"], "c", &[ints("pads", &[1, 1, 1, 1])])
        .named("relu", "Relu", &["c"], "r", &[])
        .named("pool", "GlobalAveragePool", &["r"], "p", &[])
        .named("flat", "Flatten", &["p"], "f", &[])
        .floats("k", &[5, 9], &ramp(45))
        .floats("b", &[5], &ramp(5))
        .named("fc", "Gemm", &["f", "k", "b"], "y", &[int("transB", 1)])
        .output("y");
    model.load().unwrap_or_else(|error| panic!("{error}"))
}

fn plain() -> Backbone {
    body(reading([1, 8, 6]), "x")
}

#[test]
fn a_network_of_one_channel_takes_images_after_a_frozen_conversion() {
    let backbone = plain();
    let Graph {
        input_channels, nodes, ..
    } = backbone.graph();
    assert_eq!((*input_channels, nodes[0].name.as_str()), (3, "grey"));
    let Op::Conv(grey) = &nodes[0].op else {
        panic!("{:?}", nodes[0].op)
    };
    assert_eq!(grey.weight.shape(), [1, 3, 1, 1]);
    assert!((grey.weight.values().iter().sum::<f32>() - 1.0).abs() < 1e-6);
    assert_eq!(nodes[1].inputs, [ValueId(1)]);
    assert!(backbone.notes()[0].contains("0.587 G"), "{:?}", backbone.notes());
    // Every convolution is a site, including the conversion.
    assert_eq!((backbone.feature_count(), backbone.sites().len()), (9, 2));
    assert_eq!(
        [backbone.preprocessing().height, backbone.preprocessing().width],
        [8, 6]
    );
    // The colour normalisation is not assumed, and the origin states that the values are assumed.
    assert_eq!(
        (backbone.preprocessing().mean, backbone.preprocessing().std),
        ([0.0; 3], [255.0; 3])
    );
    assert_eq!(backbone.preprocessing_origins().normalisation, Origin::Assumed);
    let again = Backbone::from_bytes(&backbone.to_bytes(), "memory").unwrap();
    assert_eq!(again, backbone);
}

#[test]
fn the_layout_of_one_channel_makes_no_difference() {
    let last = reading([8, 6, 1]).named("t", "Transpose", &["x"], "v", &[ints("perm", &[0, 3, 1, 2])]);
    assert_eq!(body(last, "v").digest(), plain().digest());
}

#[test]
fn normalisation_of_grey_in_the_graph_becomes_preprocessing() {
    let inside = reading([1, 8, 6])
        .floats("m", &[], &[0.5])
        .named("sub", "Sub", &["x", "m"], "s", &[])
        .named("div", "Div", &["s", "m"], "v", &[]);
    let found = body(inside, "v");
    let stated = plain()
        .with_stated(&StatedPreprocessing::preset(Preset::Tf), Origin::Option)
        .unwrap();
    assert_eq!(found.digest(), stated.digest());
    assert_eq!(found.preprocessing().mean, stated.preprocessing().mean);
    assert_eq!(found.preprocessing().std, stated.preprocessing().std);
}
