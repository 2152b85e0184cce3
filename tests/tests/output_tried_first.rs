//! A command whose result cannot be written fails before the work starts, and existing files stay unchanged.

use crate::fixtures::Workbench;

/// Runs a command that must fail before its work starts. Returns its message.
fn refused(bench: &Workbench, arguments: &[&str]) -> String {
    let output = bench.clr(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
    assert!(
        stderr.contains("cannot write") && stderr.contains("hint: "),
        "{arguments:?}: {stderr}"
    );
    assert!(
        !stderr.contains("epoch") && !stderr.contains("panicked"),
        "{arguments:?}: {stderr}"
    );
    stderr
}

const TRAIN: [&str; 6] = ["train", "-b", "backbone.onnx", "data", "--recipe", "linear"];

#[test]
fn every_command_tests_its_output_before_the_work() {
    let bench = Workbench::new();
    bench.adapter("t.clr", "task");
    std::fs::create_dir(bench.path("folder")).unwrap();
    std::fs::write(bench.path("file"), "old").unwrap();
    let mut before = names(&bench);
    for output in ["folder", "folder/", "file/t.clr", "/dev/null", "/proc/t.clr"] {
        refused(&bench, &[&TRAIN[..], &["-o", output]].concat());
        refused(&bench, &["import", "backbone.onnx", "-o", output]);
        refused(&bench, &["merge", "-b", "backbone.onnx", "-a", "t.clr", "-o", output]);
        refused(&bench, &["export", "-b", "backbone.onnx", "-a", "t.clr", "-o", output]);
        refused(&bench, &["bench", "--quick", "--no-peers", "-o", output]);
        // No device is needed at this address, because the command tests the output file before it connects.
        refused(
            &bench,
            &["pull", "task", "--from", "tcp:127.0.0.1:9", "-o", output, "--force"],
        );
    }
    for option in ["--out-dir", "--resume"] {
        refused(&bench, &[&TRAIN[..], &["-o", "n.clr", option, "file"]].concat());
    }
    refused(&bench, &["demo", "--output", "file"]);
    before.sort();
    assert_eq!(names(&bench), before);
    assert_eq!(std::fs::read(bench.path("file")).unwrap(), b"old");
}

#[test]
fn a_missing_folder_is_created_only_together_with_the_result() {
    let bench = Workbench::new();
    let train = |data, output| ["train", "-b", "backbone.onnx", data, "--recipe", "linear", "-o", output];
    assert!(
        !bench
            .clr(&train("nowhere", "new/deep/t.clr"))
            .output()
            .unwrap()
            .status
            .success()
    );
    assert!(!bench.path("new").exists());
    let output = bench.clr(&train("data", "new/deep/t.clr")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(bench.path("new/deep/t.clr").is_file());
}

#[test]
fn a_key_pair_is_written_completely_or_not_at_all() {
    let bench = Workbench::new();
    std::fs::write(bench.path("fleet.pub"), "old").unwrap();
    assert!(!bench.clr(&["keygen", "-o", "fleet"]).output().unwrap().status.success());
    assert!(!bench.path("fleet.key").exists());
    assert_eq!(std::fs::read(bench.path("fleet.pub")).unwrap(), b"old");
}

fn names(bench: &Workbench) -> Vec<String> {
    let entries = std::fs::read_dir(bench.path(".")).unwrap().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
