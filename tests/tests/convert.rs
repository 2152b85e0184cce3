//! `clr convert`: an adapter of the float backbone becomes one of the quantised backbone, or is refused.

use clr_adapters::{Digest, SectionKind, decode};
use clr_onnx::Backbone;
use serde_json::Value;

use crate::fixtures::{Workbench, write_images};

/// Returns a workbench with a quantised backbone and an adapter of the float one.
fn workbench(recipe: &str) -> Workbench {
    let bench = Workbench::new();
    write_images(&bench.path("data"), 2, 20, 3);
    let quantize = ["quantize", "backbone.onnx", "--calibrate", "data"];
    bench.clr(&quantize).assert().success();
    let train = [
        "train",
        "--backbone",
        "backbone.onnx",
        "data",
        "--epochs",
        "2",
        "--recipe",
        recipe,
    ];
    bench.clr(&train).assert().success();
    bench
}

const CONVERT: [&str; 7] = [
    "convert",
    "data.clr",
    "data",
    "--backbone",
    "backbone.onnx",
    "--to",
    "backbone.int8.onnx",
];

#[test]
fn a_converted_adapter_keeps_its_size_and_runs_on_the_quantised_backbone() {
    for recipe in ["linear", "clr"] {
        let bench = workbench(recipe);
        let output = bench
            .clr(&[&CONVERT[..], &["--json", "--force"]].concat())
            .assert()
            .success();
        let document: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
        crate::promises::check_document("convert", &document);
        let [parent, file] = ["data.clr", "data.int8.clr"].map(|name| std::fs::read(bench.path(name)).unwrap());
        let quantised = Backbone::load(&bench.path("backbone.int8.onnx")).unwrap();
        let (before, after) = (decode(&parent).unwrap().adapter, decode(&file).unwrap().adapter);
        assert_eq!(after.header.backbone, quantised.digest());
        assert_eq!(after.header.version, before.header.version + 1);
        assert_eq!(after.header.parent, Some(Digest::of(&parent)));
        assert_eq!(
            (&after.header.labels, after.header.recipe),
            (&before.header.labels, before.header.recipe)
        );
        assert_eq!(after.header.canaries.len(), before.header.canaries.len());
        assert_eq!(
            after.header.class_features.is_some(),
            before.header.class_features.is_some()
        );
        let metrics = after.header.metrics.unwrap();
        let of = |key: &str| document["validation"][key].as_f64().unwrap() as f32;
        assert_eq!(
            (metrics.accuracy, metrics.quantised_accuracy),
            (of("accuracy"), of("converted_accuracy"))
        );
        // Profile and class features describe other features, and may be longer or shorter.
        let weights = |file: &[u8]| -> usize {
            let sections = decode(file).unwrap().sections.into_iter();
            let own = sections.filter(|section| section.kind <= SectionKind::HeadBias);
            own.map(|section| section.bytes).sum()
        };
        let (before, after) = (weights(&parent), weights(&file));
        assert!(after <= before + before / 50, "{recipe}: {before} and {after} bytes");
        let eval = [
            "eval",
            "--backbone",
            "backbone.int8.onnx",
            "--adapter",
            "data.int8.clr",
            "data",
            "--split",
            "val",
            "--json",
        ];
        let output = bench.clr(&eval).assert().success().get_output().stdout.clone();
        let eval: Value = serde_json::from_slice(&output).unwrap();
        assert_eq!(eval["accuracy"].as_f64().unwrap() as f32, metrics.quantised_accuracy);
    }
}

#[test]
fn what_does_not_belong_together_is_refused_and_nothing_is_written() {
    let bench = workbench("linear");
    let error = bench.refused(&[
        "convert",
        "data.clr",
        "data",
        "--backbone",
        "backbone.onnx",
        "--to",
        "backbone.onnx",
    ]);
    assert!(error.contains("expected a quantised backbone"), "{error}");
    let error = bench.refused(&[
        "convert",
        "data.clr",
        "data",
        "--backbone",
        "backbone.int8.onnx",
        "--to",
        "backbone.int8.onnx",
    ]);
    assert!(error.contains("data.clr") && error.contains("expected"), "{error}");
    let error = bench.refused(&[&CONVERT[..], &["-o", "data.clr"]].concat());
    assert!(error.contains("both"), "{error}");
    std::fs::rename(bench.path("data/kind-1"), bench.path("data/other")).unwrap();
    let error = bench.clr(&CONVERT).assert().failure().get_output().stderr.clone();
    let error = String::from_utf8(error).unwrap();
    assert!(
        error.contains("kind-0, kind-1") && error.contains("kind-0, other"),
        "{error}"
    );
    assert!(!bench.path("data.int8.clr").exists());
}
