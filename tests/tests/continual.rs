//! `clr continual`: runs, single jobs of a plan, reports, and errors.

use std::path::PathBuf;

use serde_json::Value;

use crate::{
    fixtures::{Workbench, write_images},
    promises::check_document,
};

/// Writes tasks with all splits, and returns the names of their folders, comma-separated.
fn write_tasks(bench: &Workbench) -> String {
    for (number, name) in ["first", "second"].into_iter().enumerate() {
        for (part, (split, images)) in [("train", 6), ("val", 3), ("test", 4)].into_iter().enumerate() {
            let seed = 10 * number as u64 + part as u64;
            write_images(&bench.path(name).join(split), 2, images, seed);
        }
    }
    "first,second".to_owned()
}

/// Arguments of a small run.
fn small<'a>(tasks: &'a str, methods: &'a str, output: &'a str) -> Vec<&'a str> {
    vec![
        "continual",
        "run",
        "--backbone",
        "backbone.onnx",
        "--tasks",
        tasks,
        "--methods",
        methods,
        "--preset",
        "smoke",
        "--size",
        "32",
        "--epochs",
        "1",
        "-o",
        output,
    ]
}

fn json(command: &mut assert_cmd::Command) -> Value {
    let output = command.arg("--json").assert().success().get_output().stdout.clone();
    serde_json::from_slice(&output).expect("a document")
}

#[test]
fn every_method_learns_two_tasks_and_appears_in_the_report() {
    let bench = Workbench::new();
    let tasks = write_tasks(&bench);
    let run = json(&mut bench.clr(&small(&tasks, "all", "results")));
    check_document("continual-run", &run);
    let methods = json(&mut bench.clr(&["continual", "methods"]));
    check_document("continual-methods", &methods);
    let count = methods["methods"].as_array().expect("methods").len();
    assert_eq!(run["jobs"].as_array().expect("jobs").len(), count);

    let report = json(&mut bench.clr(&["continual", "report", "results"]));
    check_document("continual-report", &report);
    assert_eq!(report["methods"].as_array().expect("methods").len(), count);
    for method in report["methods"].as_array().expect("methods") {
        let name = method["method"].as_str().expect("a name");
        if [
            "linear",
            "bn",
            "clr",
            "clr-full",
            "clr-default",
            "supsup",
            "eft",
            "ccll",
            "independent",
        ]
        .contains(&name)
        {
            assert_eq!(method["forgetting"]["mean"], 0.0, "{name}");
        }
    }
    for file in [
        "report.html",
        "report.json",
        "cells.csv",
        "first-task.svg",
        "all-tasks.svg",
        "accuracy-over-size.svg",
    ] {
        assert!(bench.path("results").join(file).is_file(), "{file}");
    }
    let page = std::fs::read_to_string(bench.path("results").join("report.html")).expect("the page");
    // Nothing is loaded from elsewhere.
    assert!(!page.contains("src=") && !page.contains("<link"), "{page}");
}

#[test]
fn runs_of_the_same_tasks_on_two_backbones_are_compared_and_others_refused() {
    let bench = Workbench::new();
    let tasks = write_tasks(&bench);
    std::fs::copy(bench.path("backbone.onnx"), bench.path("other.onnx")).expect("a second backbone");
    bench.clr(&small(&tasks, "linear,bn", "one")).assert().success();
    let mut other = small(&tasks, "linear", "two");
    other[3] = "other.onnx";
    bench.clr(&other).assert().success();
    let compared = json(&mut bench.clr(&["continual", "report", "one", "two", "-o", "both"]));
    check_document("continual-backbones", &compared);
    let names = compared["backbones"].as_array().expect("names");
    assert!(names.len() == 2 && names[0] != names[1], "{names:?}");
    assert_eq!(compared["methods"][1]["seeds"], serde_json::json!([1, 0]));
    let [linear, bn] = [&compared["methods"][0], &compared["methods"][1]];
    assert_eq!(linear["average_accuracy"][0], linear["average_accuracy"][1]);
    assert!(
        bn["average_accuracy"][0].is_object() && bn["average_accuracy"][1].is_null(),
        "{bn}"
    );
    for file in ["backbones.html", "backbones.json", "backbones.csv", "backbones.svg"] {
        assert!(bench.path("both").join(file).is_file(), "{file}");
    }

    let fails = |arguments: &[&str], expected: &str| {
        let failed = bench.clr(arguments).assert().failure();
        let stderr = String::from_utf8_lossy(&failed.get_output().stderr).into_owned();
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    };
    bench
        .clr(&small("second,first", "linear", "swapped"))
        .assert()
        .success();
    fails(
        &["continual", "report", "one", "swapped", "-o", "both"],
        r#"tasks: expected ["first", "second"], got ["second", "first"]"#,
    );
    fails(&["continual", "report", "one", "two"], "hint: name one with `--output`");
}

#[test]
fn a_job_of_a_plan_runs_alone_with_the_same_result() {
    let bench = Workbench::new();
    let tasks = write_tasks(&bench);
    let records = |results: &str| -> PathBuf { bench.path(results).join("jobs/er-0/records.jsonl") };
    bench.clr(&small(&tasks, "sgd,er", "together")).assert().success();
    let mut planned = small(&tasks, "sgd,er", "alone");
    planned.push("--plan-only");
    bench.clr(&planned).assert().success();
    assert!(!records("alone").exists());
    bench
        .clr(&["continual", "run", "--job", "1", "-o", "alone"])
        .assert()
        .success();
    let read = |results| std::fs::read_to_string(records(results)).expect("records");
    assert_eq!(read("alone"), read("together"));
    assert!(!bench.path("alone").join("jobs/sgd-0").exists());

    let missing = bench
        .clr(&["continual", "run", "--job", "7", "-o", "alone"])
        .assert()
        .failure();
    let stderr = String::from_utf8_lossy(&missing.get_output().stderr).into_owned();
    assert!(stderr.contains("hint: indices are 0 to 1"), "{stderr}");
}

#[test]
fn settings_are_chosen_on_other_tasks_and_used() {
    let bench = Workbench::new();
    let tasks = write_tasks(&bench);
    for (part, (split, images)) in [("train", 4), ("val", 3), ("test", 2)].into_iter().enumerate() {
        write_images(&bench.path("other").join(split), 2, images, 50 + part as u64);
    }
    let mut arguments = small(&tasks, "confit", "results");
    arguments.extend(["--tune", "other"]);
    bench.clr(&arguments).assert().success();
    let read = |name: &str| -> Value {
        let text = std::fs::read_to_string(bench.path("results").join(name)).expect(name);
        serde_json::from_str(&text).expect("a document")
    };
    let (tuning, plan) = (read("tuning.json"), read("plan.json"));
    let trials = tuning["trials"].as_array().expect("trials");
    assert_eq!(trials.len(), 2);
    let accuracy = |trial: &Value| trial["accuracy"].as_u64().expect("an accuracy");
    let chosen = trials
        .iter()
        .find(|trial| trial["settings"] == plan["jobs"][0]["settings"]);
    let chosen = accuracy(chosen.expect("settings that were tried"));
    assert!(trials.iter().all(|trial| accuracy(trial) <= chosen), "{trials:?}");

    // Other methods of this folder need trials as well.
    let refused = bench.clr(&small(&tasks, "ewc", "results")).assert().failure();
    let stderr = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(
        stderr.contains("the settings of `ewc` were not chosen") && stderr.contains("add `--tune other`"),
        "{stderr}"
    );
    // Methods without a choice do not.
    bench.clr(&small(&tasks, "linear", "results")).assert().success();

    let mut same = small(&tasks, "confit", "others");
    same.extend(["--tune", "second"]);
    let refused = bench.clr(&same).assert().failure();
    let stderr = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(stderr.contains("choose settings on other tasks"), "{stderr}");
}

#[test]
fn wrong_input_is_named_with_a_hint_and_results_are_never_mixed() {
    let bench = Workbench::new();
    let tasks = write_tasks(&bench);
    let fails = |arguments: &[&str], expected: &str| {
        let failed = bench.clr(arguments).assert().failure();
        let stderr = String::from_utf8_lossy(&failed.get_output().stderr).into_owned();
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    };
    fails(
        &small("first,missing", "sgd", "results"),
        "hint: `clr fetch signs --to .`",
    );
    // The folder has no test split.
    fails(&small("first,data", "linear", "other"), "test");
    fails(
        &small("first,first", "linear", "other"),
        "hint: rename one of the folders",
    );
    fails(&small(&tasks, "sdg", "results"), "expected `all` or some of sgd");
    fails(
        &["continual", "report", "nowhere"],
        "hint: give the output folder of `clr continual run`",
    );
    bench.clr(&small(&tasks, "linear", "results")).assert().success();
    let mut larger = small(&tasks, "linear", "results");
    larger.extend(["--images", "8"]);
    fails(&larger, "hint: use another output folder");
}
