//! Errors name unreadable and vanished files with a suitable hint, and all other files are classified.

use std::{
    fs,
    io::{BufRead as _, BufReader, ErrorKind, Read as _},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    process::{Command, Output, Stdio},
};

use crate::fixtures::Workbench;

/// Id of the user `nobody`, who has no permissions.
const NOBODY: u32 = 65_534;

fn command(bench: &Workbench, arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("clr-under-test"));
    command
        .args(arguments)
        .current_dir(bench.path("."))
        .env("CLR_CACHE", bench.path("cache"))
        .env_remove("CLR_LOG")
        .env("NO_COLOR", "1");
    command
}

fn set_mode(bench: &Workbench, name: &str, mode: u32) {
    fs::set_permissions(bench.path(name), fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs `clr` as a user to whom permissions apply: `nobody` if the tests run as root. Returns `None` if that user
/// cannot run it.
fn bound(bench: &Workbench, arguments: &[&str]) -> Option<Output> {
    let mut command = command(bench, arguments);
    if fs::metadata(bench.path(".")).unwrap().uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    match command.output() {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            eprintln!("skipped: the user {NOBODY} cannot run the program in its folder");
            None
        }
        output => Some(output.unwrap()),
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn files_without_permission_are_reported_and_others_classified() {
    let bench = Workbench::new();
    bench.adapter("t.clr", "task");
    fs::copy(bench.path("backbone.onnx"), bench.path("closed.onnx")).unwrap();
    fs::create_dir(bench.path("data/closed")).unwrap();
    fs::copy(bench.path("data/kind-0/0.png"), bench.path("data/closed/0.png")).unwrap();
    fs::create_dir(bench.path("full")).unwrap();
    for (name, mode) in [
        (".", 0o755),
        ("backbone.onnx", 0o644),
        ("t.clr", 0o644),
        ("closed.onnx", 0),
        ("data/closed", 0),
        ("data/kind-0/1.png", 0),
        ("full", 0o555),
    ] {
        set_mode(&bench, name, mode);
    }

    let classify = ["classify", "-b", "backbone.onnx", "-a", "t.clr"];
    let Some(output) = bound(&bench, &[&classify[..], &["data"]].concat()) else {
        return;
    };
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("permission denied"), "{text}");
    assert!(
        text.contains("'data/kind-0/1.png'") && text.contains("'data/closed'"),
        "{text}"
    );
    assert_eq!(output.stdout.split(|&byte| byte == b'\n').count() - 1, 15, "{text}");

    for (arguments, named) in [
        (
            &[&classify[..], &["data/kind-0/1.png"]].concat()[..],
            "data/kind-0/1.png",
        ),
        (&["inspect", "closed.onnx"], "closed.onnx"),
        (
            &["import", "backbone.onnx", "-o", "full/n.onnx"],
            "cannot write 'full/n.onnx'",
        ),
    ] {
        let text = stderr(&bound(&bench, arguments).unwrap());
        let (error, hint) = text.split_once("\nhint: ").expect(&text);
        assert!(error.to_lowercase().contains("permission denied"), "{text}");
        assert!(error.contains(named) && hint.contains("`chmod`"), "{text}");
        assert!(!text.contains(".clr-"), "the temporary file's name is no help: {text}");
    }

    // The temporary folder can be removed again.
    set_mode(&bench, "data/closed", 0o755);
}

#[test]
fn an_image_that_vanishes_while_others_are_classified_is_reported() {
    const IMAGES: usize = 400;
    let bench = Workbench::new();
    bench.adapter("t.clr", "task");
    fs::create_dir(bench.path("many")).unwrap();
    // Long names, so that the output fills the pipe before the last image and the program has to wait for its reader.
    let name = |number: usize| format!("many/{number:0200}.png");
    for number in 0..IMAGES {
        fs::copy(bench.path("data/kind-0/0.png"), bench.path(&name(number))).unwrap();
    }
    let mut child = command(&bench, &["classify", "-b", "backbone.onnx", "-a", "t.clr", "many"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    answers.read_line(&mut text).unwrap();
    fs::remove_file(bench.path(&name(IMAGES - 1))).unwrap();
    answers.read_to_string(&mut text).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(text.lines().count(), IMAGES - 1);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains(&name(IMAGES - 1)) && text.contains("No such file"),
        "{text}"
    );
}
