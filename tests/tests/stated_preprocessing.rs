//! Preprocessing is stated, recognised, or assumed with a warning. `--check-images` checks it.

use clr_onnx::proto::{ModelProto, StringStringEntryProto};
use prost::Message as _;
use serde_json::Value;

use crate::fixtures::{Workbench, lite0};

/// Returns a workbench with `raw.onnx`, the backbone as other tools would write it, and `labels.txt`.
fn bench() -> Workbench {
    let bench = Workbench::new();
    let mut model = ModelProto::decode(&lite0().to_bytes()[..]).unwrap();
    model.metadata_props.clear();
    std::fs::write(bench.path("raw.onnx"), model.encode_to_vec()).unwrap();
    let labels: Vec<String> = (0..10).map(|class| format!("kind-{class}")).collect();
    std::fs::write(bench.path("labels.txt"), format!("\u{feff}{}\r\n", labels.join("\r\n"))).unwrap();
    bench
}

/// Runs a command that must succeed. Returns the document on stdout and the text on stderr.
fn run(bench: &Workbench, arguments: &[&str]) -> (Value, String) {
    let output = bench.clr(arguments).arg("--json").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    (serde_json::from_slice(&output.stdout).unwrap(), stderr)
}

fn error(bench: &Workbench, arguments: &[&str]) -> String {
    let output = bench.clr(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
    stderr
}

#[test]
fn assumed_preprocessing_is_reported_with_a_hint_at_import_and_at_use() {
    let bench = bench();
    let (document, stderr) = run(&bench, &["import", "raw.onnx", "-o", "b.onnx"]);
    assert_eq!(document["preprocessing"]["assumed"].as_array().unwrap().len(), 4);
    assert_eq!(document["preprocessing"]["preset"], "imagenet");
    assert!(
        stderr.contains("assumed") && stderr.contains("--preset imagenet|tf"),
        "{stderr}"
    );
    let (document, stderr) = run(&bench, &["inspect", "b.onnx"]);
    assert_eq!(document["preprocessing_origins"]["normalisation"], "assumed");
    assert!(stderr.contains("assumed"), "{stderr}");
    let train = ["train", "-b", "b.onnx", "data", "--recipe", "linear", "-o", "t.clr"];
    assert!(run(&bench, &train).1.contains("assumed"));
}

#[test]
fn stated_preprocessing_applies_to_import_and_training() {
    let bench = bench();
    let options = [
        "--preset", "caffe", "--std", "2,2,2", "--crop", "stretch", "--filter", "bicubic",
    ];
    let (document, stderr) = run(
        &bench,
        &[&["import", "raw.onnx", "-o", "b.onnx"][..], &options].concat(),
    );
    assert!(!stderr.contains("assumed"), "{stderr}");
    let stated = &document["preprocessing"];
    assert_eq!(
        (&stated["channel_order"], &stated["filter"]),
        (&"bgr".into(), &"bicubic".into())
    );
    assert_eq!((&stated["fit"], &stated["std"][0]), (&"stretch".into(), &2.0.into()));
    assert_eq!(
        run(&bench, &["inspect", "b.onnx"]).0["preprocessing_origins"]["crop"],
        "option"
    );
    let train = [
        "train", "-b", "b.onnx", "data", "--recipe", "linear", "-o", "t.clr", "--preset", "unit", "--crop", "1",
    ];
    run(&bench, &train);
    let (adapter, _) = run(&bench, &["inspect", "t.clr"]);
    let text = adapter.to_string();
    assert!(
        text.contains("255.0") && text.contains("center-crop") && text.contains("rgb"),
        "{text}"
    );
}

#[test]
fn the_original_classifier_is_checked_as_eval_would_and_with_every_preset() {
    let bench = bench();
    let import = [
        "import",
        "raw.onnx",
        "-o",
        "b.onnx",
        "--labels",
        "labels.txt",
        "--check-images",
        "data",
    ];
    let (document, _) = run(&bench, &import);
    let check = &document["check"];
    assert_eq!((&check["images"], &check["labelled_by"]), (&16.into(), &"label".into()));
    let presets = check["presets"].as_array().unwrap();
    assert_eq!(presets.len(), 5);
    // The presets include the backbone's own preprocessing, with the same result.
    let own = presets.iter().find(|preset| preset["in_force"] == true).unwrap();
    assert_eq!(
        (&own["preset"], &own["top_1"]),
        (&"imagenet".into(), &check["in_force"]["top_1"])
    );
    let (eval, _) = run(
        &bench,
        &["eval", "-b", "b.onnx", "-a", "b.original.clr", "data", "--split", "all"],
    );
    let (expected, got) = (
        eval["accuracy"].as_f64().unwrap(),
        check["in_force"]["top_1_accuracy"].as_f64().unwrap(),
    );
    assert!((expected - got).abs() < 1e-6, "{expected} and {got}");
    // Without labels: confidence, no accuracy.
    let (document, _) = run(
        &bench,
        &["import", "raw.onnx", "-o", "c.onnx", "--check-images", "data/kind-0"],
    );
    assert_eq!(document["check"]["labelled_by"], Value::Null);
    assert_eq!(document["check"]["in_force"]["top_1_accuracy"], Value::Null);
    assert!(document["check"]["in_force"]["mean_confidence"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_check_without_images_or_classifier_is_an_error_and_writes_nothing() {
    let bench = bench();
    std::fs::create_dir(bench.path("empty")).unwrap();
    let text = error(
        &bench,
        &["import", "raw.onnx", "-o", "b.onnx", "--check-images", "empty"],
    );
    assert!(text.contains("empty") && text.contains("hint: "), "{text}");
    let mut model = ModelProto::decode(&lite0().to_bytes()[..]).unwrap();
    model.metadata_props = vec![StringStringEntryProto {
        key: Some("clr.classifier".to_owned()),
        value: Some("absent".to_owned()),
    }];
    std::fs::write(bench.path("features.onnx"), model.encode_to_vec()).unwrap();
    let text = error(
        &bench,
        &["import", "features.onnx", "-o", "b.onnx", "--check-images", "data"],
    );
    assert!(text.contains("no classifier") && text.contains("hint: "), "{text}");
    assert!(!bench.path("b.onnx").exists() && !bench.path("b.original.clr").exists());
}

#[test]
fn a_configuration_next_to_the_model_is_read() {
    let bench = bench();
    std::fs::create_dir(bench.path("hub")).unwrap();
    std::fs::copy(bench.path("raw.onnx"), bench.path("hub/model.onnx")).unwrap();
    let config = r#"{"pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "crop_pct": 0.95, "interpolation": "bicubic"}}"#;
    std::fs::write(bench.path("hub/config.json"), config).unwrap();
    let (document, stderr) = run(&bench, &["import", "hub/model.onnx", "-o", "b.onnx"]);
    assert_eq!(document["preprocessing"]["preset"], "tf");
    assert_eq!(document["preprocessing"]["origins"]["filter"], "config");
    assert!(!stderr.contains("assumed"), "{stderr}");
}

#[test]
fn swapped_height_and_width_are_detected() {
    let bench = bench();
    let (document, _) = run(&bench, &["import", "raw.onnx", "-o", "b.onnx", "--size", "32x64"]);
    assert_eq!(document["input"], serde_json::json!([32, 64]));
    let (_, stderr) = run(&bench, &["import", "b.onnx", "-o", "c.onnx", "--size", "64x32"]);
    assert!(
        stderr.contains("swapped") && stderr.contains("height 32, width 64"),
        "{stderr}"
    );
    let output = bench
        .clr(&["import", "raw.onnx", "-o", "c.onnx", "--size", "32x"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("HEIGHTxWIDTH"));
}
