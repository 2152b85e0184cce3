//! Every command supports the same features of an ONNX file: external weights, a chosen output, a stated size.

use clr_onnx::proto::{DimensionProto, GraphProto, ModelProto, StringStringEntryProto, ValueInfoProto};
use prost::Message as _;

use crate::fixtures::Workbench;

/// Changes the workbench's backbone and writes it under another name.
fn change(bench: &Workbench, name: &str, change: impl FnOnce(&mut ModelProto)) {
    let mut model = ModelProto::decode(&*std::fs::read(bench.path("backbone.onnx")).unwrap()).unwrap();
    change(&mut model);
    std::fs::write(bench.path(name), model.encode_to_vec()).unwrap();
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

/// Moves every float initialiser to another file, as exporters do. Returns the bytes of that file.
fn move_weights(model: &mut ModelProto, location: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for tensor in &mut graph(model).initializer {
        let raw = match tensor.raw_data.take().filter(|raw| !raw.is_empty()) {
            Some(raw) => raw,
            None => std::mem::take(&mut tensor.float_data)
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        };
        if raw.is_empty() {
            continue;
        }
        let entries = [
            ("location", location.to_owned()),
            ("offset", bytes.len().to_string()),
            ("length", raw.len().to_string()),
        ];
        tensor.data_location = Some(1);
        tensor.external_data = entries
            .map(|(key, value)| StringStringEntryProto {
                key: Some(key.into()),
                value: Some(value),
            })
            .into();
        bytes.extend(raw);
    }
    bytes
}

fn run(bench: &Workbench, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = bench.clr(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Every command that takes a backbone, called with `outside.onnx`.
const COMMANDS: [&[&str]; 7] = [
    &["inspect", "outside.onnx"],
    &["import", "outside.onnx", "-o", "again.onnx"],
    &["classify", "-b", "outside.onnx", "-a", "t.clr", "data/kind-0/0.png"],
    &["merge", "-b", "outside.onnx", "-a", "t.clr", "-o", "merged.onnx"],
    &["export", "-b", "outside.onnx", "-a", "t.clr", "-o", "exported.onnx"],
    &[
        "train",
        "-b",
        "outside.onnx",
        "data",
        "-o",
        "u.clr",
        "--recipe",
        "linear",
        "-q",
    ],
    &["eval", "-b", "outside.onnx", "-a", "u.clr", "data", "--split", "all"],
];

#[test]
fn every_command_reads_external_weights_and_names_missing_ones() {
    let bench = Workbench::new();
    bench.adapter("t.clr", "task");
    let mut weights = Vec::new();
    change(&bench, "outside.onnx", |model| {
        weights = move_weights(model, "outside.onnx.data");
    });
    std::fs::write(bench.path("outside.onnx.data"), &weights).unwrap();
    for command in COMMANDS {
        let (code, _, stderr) = run(&bench, command);
        assert_eq!(code, Some(0), "{command:?}: {stderr}");
    }
    let digest = |path: &str| {
        let (_, stdout, _) = run(&bench, &["inspect", "--json", path]);
        let document: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        document["digest"].as_str().unwrap().to_owned()
    };
    assert_eq!(digest("outside.onnx"), digest("backbone.onnx"));
    assert_eq!(digest("again.onnx"), digest("backbone.onnx"));

    std::fs::write(bench.path("outside.onnx.data"), &weights[..weights.len() - 1]).unwrap();
    for command in COMMANDS {
        let (code, _, stderr) = run(&bench, command);
        let named = stderr.contains("outside.onnx.data") && stderr.contains(&weights.len().to_string());
        assert!(
            code == Some(1) && named && stderr.contains("hint:"),
            "{command:?}: {stderr}"
        );
    }
}

/// Changes the model to one as other tools write it, with outputs for logits and features.
fn foreign(model: &mut ModelProto) {
    model.metadata_props.clear();
    let features = ValueInfoProto {
        name: Some("features".into()),
        ..ValueInfoProto::default()
    };
    graph(model).output.insert(0, features);
}

#[test]
fn an_output_is_chosen_automatically_or_by_name_and_the_destination_keeps_its_option() {
    let bench = Workbench::new();
    change(&bench, "two.onnx", foreign);
    for output in ["-o", "--output"] {
        let (code, _, stderr) = run(&bench, &["import", "two.onnx", output, "out.onnx"]);
        assert!(code == Some(0) && stderr.contains("`logits` is read"), "{stderr}");
        assert!(bench.path("out.original.clr").exists());
        std::fs::remove_file(bench.path("out.original.clr")).unwrap();
    }
    let (code, ..) = run(
        &bench,
        &["import", "two.onnx", "--output-name", "features", "-o", "body.onnx"],
    );
    assert!(code == Some(0) && !bench.path("body.original.clr").exists());
    let (code, _, stderr) = run(
        &bench,
        &["import", "two.onnx", "--output-name", "scores", "-o", "no.onnx"],
    );
    let listed = stderr.contains("`features`") && stderr.contains("`logits`") && stderr.contains("hint:");
    assert!(code == Some(1) && listed && !bench.path("no.onnx").exists(), "{stderr}");
}

#[test]
fn an_open_size_is_set_by_the_option_that_the_refusal_names() {
    let bench = Workbench::new();
    change(&bench, "open.onnx", |model| {
        model.metadata_props.clear();
        let tensor = graph(model).input[0]
            .r#type
            .as_mut()
            .unwrap()
            .tensor_type
            .as_mut()
            .unwrap();
        for (dim, name) in tensor
            .shape
            .as_mut()
            .unwrap()
            .dim
            .iter_mut()
            .skip(2)
            .zip(["height", "width"])
        {
            *dim = DimensionProto {
                dim_value: None,
                dim_param: Some(name.into()),
            };
        }
    });
    let (code, _, stderr) = run(&bench, &["import", "open.onnx", "-o", "out.onnx"]);
    assert!(
        code == Some(1) && stderr.contains("clr import open.onnx --size 224"),
        "{stderr}"
    );
    let (code, stdout, stderr) = run(&bench, &["import", "open.onnx", "--size", "32x48", "-o", "out.onnx"]);
    assert!(code == Some(0) && stdout.contains("32×48"), "{stdout}{stderr}");
}

#[test]
fn a_backbone_of_a_handful_of_features_is_refused_with_a_hint_that_works() {
    let bench = Workbench::new();
    // A regression of two values: a Relu after a dense layer is not the end of a classifier.
    change(&bench, "short.onnx", |model| {
        model.metadata_props.clear();
        let graph = graph(model);
        let classifier = graph.node.iter_mut().find(|node| node.output == ["logits"]).unwrap();
        classifier.output = vec!["values".into()];
        let names = [classifier.input[1].clone(), classifier.input[2].clone()];
        for tensor in graph
            .initializer
            .iter_mut()
            .filter(|tensor| names.contains(tensor.name.as_ref().unwrap()))
        {
            let row = tensor.dims.iter().skip(1).product::<i64>() as usize;
            tensor.dims[0] = 2;
            tensor.float_data.truncate(2 * row);
            if let Some(raw) = &mut tensor.raw_data {
                raw.truncate(8 * row);
            }
        }
        let relu = clr_onnx::proto::NodeProto {
            input: vec!["values".into()],
            output: vec!["logits".into()],
            op_type: Some("Relu".into()),
            ..Default::default()
        };
        graph.node.push(relu);
    });
    let (code, _, stderr) = run(&bench, &["import", "short.onnx", "-o", "out.onnx"]);
    assert!(
        code == Some(1) && stderr.contains("gives 2 feature(s), expected at least 8"),
        "{stderr}"
    );
    assert!(
        stderr.contains("clr import 'short.onnx' --output-name 'features'"),
        "{stderr}"
    );
    assert!(!bench.path("out.onnx").exists());
    let (code, _, stderr) = run(&bench, &["train", "-b", "short.onnx", "data", "-o", "u.clr"]);
    assert!(code == Some(1) && stderr.contains("--output-name"), "{stderr}");
    let (code, ..) = run(
        &bench,
        &["import", "short.onnx", "--output-name", "features", "-o", "out.onnx"],
    );
    assert_eq!(code, Some(0));
}
