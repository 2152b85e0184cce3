//! `clr quantize`: a backbone in 8-bit integers that every command takes, and refusals that say what to do.

use clr_onnx::Backbone;
use serde_json::Value;

use crate::fixtures::{Workbench, write_images};

/// Returns a workbench whose `data/` has enough images.
fn workbench() -> Workbench {
    let bench = Workbench::new();
    write_images(&bench.path("data"), 2, 20, 3);
    bench
}

fn quantize(bench: &Workbench, more: &[&str]) -> Value {
    let arguments = [&["quantize", "backbone.onnx", "--calibrate", "data", "--json"], more].concat();
    let output = bench.clr(&arguments).assert().success().get_output().stdout.clone();
    serde_json::from_slice(&output).unwrap()
}

#[test]
fn a_quantised_backbone_is_smaller_and_every_command_takes_it() {
    let bench = workbench();
    let train = [
        "train",
        "--backbone",
        "backbone.onnx",
        "data",
        "--recipe",
        "linear",
        "-o",
        "float.clr",
    ];
    bench.clr(&train).assert().success();
    let document = quantize(&bench, &["--adapter", "float.clr", "--data", "data"]);
    crate::promises::check_document("quantize", &document);
    assert_eq!(document["tasks"][0]["task"], "data");
    assert_eq!(document["backbone"], "backbone.int8.onnx");
    let float = Backbone::load(&bench.path("backbone.onnx")).unwrap();
    let backbone = Backbone::load(&bench.path("backbone.int8.onnx")).unwrap();
    assert!(backbone.is_quantised() && !float.is_quantised());
    assert_eq!(document["digest"], backbone.digest().to_string());
    assert_eq!(document["float_digest"], float.digest().to_string());
    assert_eq!(
        document["bytes"],
        std::fs::metadata(bench.path("backbone.int8.onnx")).unwrap().len()
    );
    assert!(
        10 * document["bytes"].as_u64().unwrap() <= 3 * document["float_bytes"].as_u64().unwrap(),
        "{document}"
    );
    assert_eq!(document["convolutions"], document["int8_convolutions"]);
    assert!(document["feature_error"].as_f64().unwrap() < 0.25, "{document}");
    let correction = &document["correction"];
    assert!(
        correction["after"].as_f64() <= correction["before"].as_f64(),
        "{document}"
    );

    let backbone = ["--backbone", "backbone.int8.onnx"];
    let train = [&["train"], &backbone[..], &["data", "--recipe", "linear"]].concat();
    bench.clr(&train).assert().success();
    let classify = [
        &["classify"],
        &backbone[..],
        &["--adapter", "data.clr", "data/kind-0/0.png"],
    ]
    .concat();
    bench.clr(&classify).assert().success();
    bench.clr(&["inspect", "backbone.int8.onnx"]).assert().success();
    let error = bench.refused(&[
        "classify",
        "--backbone",
        "backbone.onnx",
        "--adapter",
        "data.clr",
        "data/kind-0/0.png",
    ]);
    assert!(error.contains("backbone"), "{error}");
}

#[test]
fn equal_arguments_give_equal_files_and_another_seed_other_images() {
    let bench = workbench();
    let file = |name: &str, more: &[&str]| {
        quantize(&bench, &[&["-o", name, "--images", "16"], more].concat());
        std::fs::read(bench.path(name)).unwrap()
    };
    let first = file("a.onnx", &[]);
    assert!(first == file("b.onnx", &[]));
    assert!(first != file("c.onnx", &["--seed", "1"]));
}

#[test]
fn text_states_file_sizes_and_loss() {
    let bench = workbench();
    let output = bench
        .clr(&["quantize", "backbone.onnx", "--calibrate", "data"])
        .assert()
        .success()
        .get_output()
        .clone();
    let [text, log] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    for part in [
        "backbone.int8.onnx\t",
        "convolutions in int8",
        "relative error of the features",
        "same first class",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(log.contains("do not fit") && log.contains("hint: "), "{log}");
}

#[test]
fn what_cannot_be_quantised_is_refused_and_nothing_is_written() {
    let bench = workbench();
    quantize(&bench, &[]);
    let error = bench.refused(&["quantize", "backbone.int8.onnx", "--calibrate", "data"]);
    assert!(
        error.contains("backbone.int8.onnx") && error.contains("expected float weights"),
        "{error}"
    );
    let error = bench.refused(&[
        "quantize",
        "backbone.onnx",
        "--calibrate",
        "data",
        "-o",
        "backbone.onnx",
    ]);
    assert!(error.contains("both"), "{error}");
    std::fs::create_dir_all(bench.path("few")).unwrap();
    std::fs::copy(bench.path("data/kind-0/0.png"), bench.path("few/0.png")).unwrap();
    let error = bench.refused(&["quantize", "backbone.onnx", "--calibrate", "few", "-o", "few.onnx"]);
    assert!(
        error.contains("few") && error.contains("expected at least 10"),
        "{error}"
    );
    std::fs::rename(bench.path("data"), bench.path("test")).unwrap();
    std::fs::create_dir_all(bench.path("only")).unwrap();
    std::fs::rename(bench.path("test"), bench.path("only/test")).unwrap();
    let error = bench.refused(&["quantize", "backbone.onnx", "--calibrate", "only", "-o", "only.onnx"]);
    assert!(error.contains("training split"), "{error}");
    std::fs::rename(bench.path("only/test"), bench.path("data")).unwrap();
    let strict = [
        "quantize",
        "backbone.onnx",
        "--calibrate",
        "data",
        "-o",
        "strict.onnx",
        "--max-error",
        "0.0001",
    ];
    let error = bench.refused(&strict);
    assert!(
        error.contains("relative error of the features 0.") && error.contains("--force"),
        "{error}"
    );
    assert!(!bench.path("strict.onnx").exists() && !bench.path("few.onnx").exists());
}
