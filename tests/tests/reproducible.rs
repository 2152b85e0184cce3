//! Equal seed, data and thread count give a byte-identical adapter file.

use clr_adapters::{Recipe, decode};

use crate::fixtures::{Workbench, learn, lite0};

#[test]
fn the_same_seed_gives_the_same_file() {
    let first = learn(lite0(), Recipe::Clr, 2, 5);
    let second = learn(lite0(), Recipe::Clr, 2, 5);
    assert_eq!(first.bytes, second.bytes);
    let other = learn(lite0(), Recipe::Clr, 2, 6);
    assert_ne!(first.bytes, other.bytes);
}

/// Kills the program when its resume file has been written, and starts it again.
#[test]
fn a_killed_training_resumes_and_gives_the_same_adapter() {
    let bench = Workbench::new();
    let run = |output: &str, more: &[&str]| {
        let program = bench.clr(&[]).get_program().to_owned();
        let fixed = "train -q -b backbone.onnx data --recipe clr --epochs 12 --batch 2 --threads 1 --encoding f32 -o";
        let mut command = std::process::Command::new(program);
        command
            .current_dir(bench.path(""))
            .args(fixed.split(' '))
            .arg(output)
            .args(more);
        command.stdout(std::process::Stdio::null());
        command
    };
    assert!(run("whole.clr", &[]).status().unwrap().success());

    let resume = ["--resume", "state"];
    let mut child = run("resumed.clr", &resume).spawn().unwrap();
    let kept = || std::fs::read_dir(bench.path("state")).is_ok_and(|mut folder| folder.next().is_some());
    while !kept() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().unwrap();
    assert!(
        !child.wait().unwrap().success(),
        "the run ended before it could be killed"
    );
    assert!(kept() && !bench.path("resumed.clr").exists());
    assert!(run("resumed.clr", &resume).status().unwrap().success());

    let read = |name: &str| decode(&std::fs::read(bench.path(name)).unwrap()).unwrap().adapter;
    let (whole, resumed) = (read("whole.clr"), read("resumed.clr"));
    assert_eq!(whole.sites, resumed.sites);
    assert_eq!(whole.head, resumed.head);
}
