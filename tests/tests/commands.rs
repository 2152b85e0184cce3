//! Every command runs on real files and gives its JSON document.

use serde_json::Value;

use crate::{
    fixtures::{Workbench, clr},
    promises::{check_document, check_help},
};

fn json(command: &mut assert_cmd::Command) -> Value {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"))
}

#[test]
fn a_task_is_trained_inspected_evaluated_classified_and_exported() {
    let bench = Workbench::new();
    let train = [
        "train",
        "--json",
        "-b",
        "backbone.onnx",
        "data",
        "-o",
        "t.clr",
        "--recipe",
        "clr",
        "--epochs",
        "1",
    ];
    let trained = json(bench.clr(&train).args(["--batch", "4", "--out-dir", "run"]));
    assert_eq!(trained["schema"], "clr.train/1");
    check_document("train", &trained);
    assert_eq!(trained["recipe"], "clr");
    assert!(trained["parity"]["largest_difference"].as_f64().unwrap() < 1e-3);
    assert_eq!(
        trained["bytes"].as_u64().unwrap(),
        std::fs::metadata(bench.path("t.clr")).unwrap().len()
    );
    for file in ["metrics.jsonl", "learning-curve.svg", "confusion.svg"] {
        assert!(
            std::fs::metadata(bench.path("run").join(file)).unwrap().len() > 100,
            "{file}"
        );
    }

    let adapter = json(&mut bench.clr(&["inspect", "--json", "t.clr"]));
    assert_eq!(adapter["schema"], "clr.inspect/2");
    check_document("inspect-adapter", &adapter);
    assert!(adapter.to_string().contains("kind-0"));
    let backbone = json(&mut bench.clr(&["inspect", "--json", "backbone.onnx"]));
    check_document("inspect-backbone", &backbone);

    let measured = json(&mut bench.clr(&[
        "eval",
        "--json",
        "-b",
        "backbone.onnx",
        "-a",
        "t.clr",
        "data",
        "--split",
        "all",
    ]));
    assert_eq!(measured["schema"], "clr.eval/1");
    check_document("eval", &measured);

    let classify = [
        "classify",
        "--json",
        "-b",
        "backbone.onnx",
        "-a",
        "t.clr",
        "-k",
        "2",
        "data/kind-0/0.png",
    ];
    let answer = json(&mut bench.clr(&classify));
    assert_eq!(answer["schema"], "clr.classify/1");
    check_document("classify", &answer);
    assert!(answer.to_string().contains("kind-1"));

    for command in ["export", "merge"] {
        let model = format!("{command}.onnx");
        let written = json(&mut bench.clr(&[command, "--json", "-b", "backbone.onnx", "-a", "t.clr", "-o", &model]));
        assert_eq!(written["schema"], format!("clr.{command}/1"));
        check_document(command, &written);
    }
    // A merged model is an ordinary network. It can be imported again, with the task's head as its classifier.
    let again = json(&mut bench.clr(&["import", "--json", "merge.onnx", "-o", "again.onnx"]));
    assert_eq!(again["schema"], "clr.import/1");
    check_document("import", &again);

    // Two adapters, each with a folder of images, to evaluate the selection of the task.
    let auto = [
        "eval",
        "--json",
        "-b",
        "backbone.onnx",
        "--auto",
        "-a",
        "t.clr",
        "-a",
        "t.clr",
        "data",
        "data",
    ];
    check_document(
        "eval-auto",
        &json(bench.clr(&auto).args(["--split", "all", "--limit", "2"])),
    );
}

#[test]
fn the_help_of_every_command_matches_its_snapshot() {
    check_help("clr", &|| {
        let mut program = std::process::Command::new(assert_cmd::cargo::cargo_bin!("clr-under-test"));
        program.env_remove("COLUMNS").env("NO_COLOR", "1");
        program
    });
}

#[test]
fn an_error_is_a_document_too() {
    let bench = Workbench::new();
    let output = bench.clr(&["inspect", "--json", "missing.clr"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["schema"], "clr.error/1");
    check_document("error", &document);
}

#[test]
fn given_networks_are_measured_and_unreadable_ones_skipped() {
    let bench = Workbench::new();
    std::fs::write(bench.path("broken.onnx"), b"not a network").unwrap();
    let arguments = [
        "bench",
        "--json",
        "--no-peers",
        "--quick",
        "--backbone",
        "broken.onnx",
        "backbone.onnx",
    ];
    let measure = ["--measure", "inference,training,loading,switching", "--adapters", "2"];
    let sizes = ["--step-sizes", "32", "--batch", "2", "-o", "bench.json"];
    let output = bench.clr(&arguments).args(measure).args(sizes).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    check_document("bench", &document);
    assert_eq!(document["failures"][0]["model"], "broken.onnx");
    let recipes: Vec<&str> = (document["inference"].as_array().unwrap().iter())
        .map(|row| row["recipe"].as_str().unwrap())
        .collect();
    assert_eq!(recipes, ["linear", "clr"]);
    assert!(document["training_step"][0]["ours"]["best"].as_f64().unwrap() > 0.0);
    let written: Value = serde_json::from_slice(&std::fs::read(bench.path("bench.json")).unwrap()).unwrap();
    assert_eq!(written, document);
}

/// Uses a stand-in for a Python without the packages of the peers.
#[cfg(unix)]
#[test]
fn a_peer_that_is_not_installed_is_left_out_with_the_command_that_installs_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Workbench::new();
    let python = bench.path("python");
    std::fs::write(
        &python,
        "#!/bin/sh\necho '{\"numpy\": \"2.4.6\", \"onnxruntime\": null, \"ncnn\": null}'\n",
    )
    .unwrap();
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
    let arguments = [
        "bench",
        "--json",
        "--quick",
        "--backbone",
        "backbone.onnx",
        "--measure",
        "inference",
        "--recipes",
        "linear",
    ];
    let output = bench.clr(&arguments).arg("--python").arg(&python).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("-m pip install ncnn pnnx"), "{stderr}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let missing: Vec<&str> = (document["not_installed"].as_array().unwrap().iter())
        .map(|peer| peer["peer"].as_str().unwrap())
        .collect();
    assert_eq!(missing, ["onnxruntime", "openvino", "ncnn", "mnn", "pytorch"]);
    assert!(document["inference"][0]["ratio"].is_null());
}

#[test]
fn doctor_finds_a_leak_between_splits() {
    let bench = Workbench::new();
    for split in ["train", "val", "test"] {
        crate::fixtures::write_images(&bench.path("leaky").join(split), 2, 4, 8);
    }
    let output = bench.clr(&["doctor", "--json", "leaky"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema"], "clr.doctor/1");
    check_document("doctor", &report);
    bench.clr(&["doctor", "data"]).assert().code(0);
}

#[test]
fn the_list_of_fetch_needs_no_connection() {
    let list = json(clr().args(["fetch", "--json"]));
    assert_eq!(list["schema"], "clr.fetch/1");
    check_document("fetch-list", &list);
    for name in ["lite0", "fashion", "solar-cells", "climate"] {
        assert!(list.to_string().contains(name), "{name}");
    }
}

#[test]
fn usage_errors_exit_with_two_and_completions_are_written() {
    clr().args(["train", "--no-such-flag"]).assert().code(2);
    clr()
        .args(["completions", "bash"])
        .assert()
        .success()
        .stdout(predicates::str::contains("clr"));
}

#[test]
fn a_key_pair_signs_and_verifies_and_a_device_refuses_altered_files() {
    let bench = Workbench::new();
    let adapter = crate::fixtures::random_adapter(crate::fixtures::lite0(), clr_adapters::Recipe::Bn, "birds", 3, 1);
    let file = clr_adapters::encode(&adapter, clr_adapters::Encoding::Int8).unwrap();
    std::fs::write(bench.path("birds.clr"), &file).unwrap();
    for name in ["fleet", "stranger"] {
        let key = json(&mut bench.clr(&["keygen", "--json", "-o", name]));
        assert_eq!(key["schema"], "clr.keygen/1");
        check_document("keygen", &key);
    }
    bench.clr(&["keygen", "-o", "fleet"]).assert().code(1);
    let verify = |file: &str, key: &str| {
        bench
            .clr(&["verify", "--key", key, file])
            .output()
            .unwrap()
            .status
            .code()
    };
    assert_eq!(verify("birds.clr", "fleet.pub"), Some(1));

    let sign = [
        "sign",
        "--json",
        "--key",
        "fleet.key",
        "--release",
        "4",
        "--expires",
        "90",
        "birds.clr",
    ];
    let signed = json(bench.clr(&sign).args(["-o", "signed.clr"]));
    assert_eq!(signed["files"][0]["version"], 4);
    check_document("sign", &signed);
    assert_eq!(std::fs::read(bench.path("birds.clr")).unwrap(), file);
    assert_eq!(verify("signed.clr", "fleet.pub"), Some(0));
    assert_eq!(verify("signed.clr", "stranger.pub"), Some(1));
    assert_eq!(verify("signed.clr", signed["key"].as_str().unwrap()), Some(0));
    let signed = std::fs::read(bench.path("signed.clr")).unwrap();
    let decoded = clr_adapters::decode(&signed).unwrap();
    assert_eq!(
        decoded.adapter.sites,
        clr_adapters::quantised(&adapter, clr_adapters::Encoding::Int8)
            .unwrap()
            .sites
    );

    let mut altered = signed;
    altered[100] ^= 1;
    std::fs::write(bench.path("altered.clr"), altered).unwrap();
    let report = bench
        .clr(&["verify", "--json", "--key", "fleet.pub", "altered.clr"])
        .output()
        .unwrap();
    assert_eq!(report.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert!(report["files"][0]["refusal"].as_str().unwrap().contains("checksum"));
    check_document("verify-refused", &report);
    let report = json(&mut bench.clr(&["verify", "--json", "--key", "fleet.pub", "signed.clr"]));
    check_document("verify", &report);
    let inspected = json(&mut bench.clr(&["inspect", "--json", "signed.clr"]));
    assert_eq!(inspected["signature"]["class"], "publisher");
}
