//! Classification, switching and commands, also after a restart.

use std::{
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    time::{Duration, Instant},
};

use clr_engine::{Engine, EngineOptions};
use clr_transfer::{Slot, TaskState};
use rustix::process::Signal;

use crate::promises::{check_document, check_help};

use super::{
    device::{Device, TIMEOUT, adapter, backbone, exists, free_port, image, publisher, signed},
    http_client::http_get,
};

#[test]
fn results_equal_those_of_the_engine() {
    let mut device = Device::new("");
    device.start();
    let none = device.ask(&image(1));
    assert_eq!(
        (&none["schema"], &none["task"]),
        (&"clr.frame/1".into(), &serde_json::Value::Null)
    );
    assert_eq!(none["error"], "no task is active");

    let birds = adapter("birds", 1);
    let pushed = device.push(&signed(&birds)).unwrap();
    assert!(format!("{:?}", pushed.committed).contains("birds"));
    device.switch("birds");
    let line = device.ask(&image(2));
    assert_eq!(
        (&line["task"], &line["version"], &line["revision"]),
        (&"birds".into(), &1.into(), &0.into())
    );
    check_document("frame", &line);
    check_document("frame-without-answer", &none);
    assert!(line["latency_ms"].as_f64().unwrap() > 0.0);
    assert!(line["time"].as_str().unwrap().ends_with('Z'));

    let engine = Engine::new(backbone().0.clone(), EngineOptions::default()).unwrap();
    let file = clr_adapters::decode(&signed(&birds)).unwrap();
    let resident = engine.prepare(&file.adapter).unwrap();
    let decoded = clr_onnx::decode_image_bytes(&image(2), "image").unwrap();
    let answer = engine.classify(&resident, &decoded).unwrap();
    let best = answer.best().unwrap();
    assert_eq!(line["top"][0]["label"], best.label);
    assert_eq!(line["top"][0]["probability"].as_f64().unwrap() as f32, best.probability);
    assert_eq!(line["confidence"], line["top"][0]["probability"]);

    let broken = device.ask(b"no image");
    assert!(broken["error"].as_str().unwrap().contains("000002.png"), "{broken}");
    assert_eq!(device.ask(&image(2))["top"], line["top"]);
    device.stop();
    assert!(!exists(&device, "state/control.sock") && !exists(&device, "frames/000001.png"));
}

#[test]
fn the_task_and_its_adapters_survive_a_restart() {
    let mut device = Device::with_tasks(&["birds", "flowers"], "[trial]\nframes = 2\n");
    device.switch("flowers");
    let before = device.ask(&image(1));
    device.stop();
    device.start();
    let after = device.ask(&image(1));
    assert_eq!((&after["task"], &after["top"]), (&before["task"], &before["top"]));
    let tasks = device.list();
    let names: Vec<_> = tasks.iter().map(|task| (task.task.as_str(), task.active)).collect();
    assert_eq!(names, [("birds", false), ("flowers", true)]);
}

#[test]
fn frequent_switches_are_rarely_written_and_the_last_one_survives_a_restart() {
    let mut device = Device::with_tasks(&["birds", "flowers"], "");
    // Each write replaces the file, so its inode changes.
    let written = |device: &Device| std::fs::metadata(device.path("state/store/active")).unwrap().ino();
    device.switch("birds");
    let first = written(&device);
    for _ in 0..10 {
        device.switch("flowers");
        device.switch("birds");
    }
    device.switch("flowers");
    assert_eq!(device.ask(&image(1))["task"], "flowers");
    assert_eq!(written(&device), first);
    device.stop();
    assert_ne!(written(&device), first);
    device.start();
    assert_eq!(device.ask(&image(2))["task"], "flowers");
}

#[test]
fn images_from_standard_input_are_classified_to_the_last() {
    let mut device = Device::with_source("[source]\nkind = 'stdin'\nlatest = false\n", "");
    device.start();
    device.push(&signed(&adapter("birds", 1))).unwrap();
    device.switch("birds");
    for seed in 0..5 {
        device.stdin().write_all(&image(seed)).unwrap();
    }
    device.close_stdin();
    for frame in 0..5 {
        assert_eq!(device.answer()["frame"], frame.to_string());
    }
    assert!(
        device.wait().success(),
        "the end of the source is the end of the device"
    );
}

#[test]
fn metrics_and_health_are_served_and_follow_the_frames() {
    let port = free_port();
    let mut device = Device::new(&format!("[http]\nlisten = '127.0.0.1:{port}'\n"));
    device.start();
    device.push(&signed(&adapter("birds", 1))).unwrap();
    device.switch("birds");
    for seed in 0..3 {
        device.ask(&image(seed));
    }
    let started = Instant::now();
    loop {
        let (status, text) = http_get(port, "/metrics");
        assert_eq!(status, 200);
        if text.contains("clr_frames_answered_total{task=\"birds\"} 3\n") {
            assert!(
                text.contains("\nclr_tasks 1\n") && text.contains("\nclr_tasks_on_trial 1\n"),
                "{text}"
            );
            break;
        }
        assert!(started.elapsed() < TIMEOUT, "{text}");
    }
    assert_eq!(http_get(port, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(http_get(port, "/other").0, 404);
}

#[test]
fn commands_change_what_serves_and_are_refused_with_a_reason() {
    let mut device = Device::new("[trial]\nframes = 1000\n");
    device.start();
    device.push(&signed(&adapter("birds", 1))).unwrap();
    device.host(|client| client.mark_good("birds")).unwrap();
    device.switch("birds");
    let first = device.ask(&image(1));
    device.push(&signed(&adapter("birds", 2))).unwrap();
    let second = device.ask(&image(1));
    assert_eq!((&second["version"], &second["trial"]), (&2.into(), &true.into()));
    device.host(|client| client.mark_good("birds")).unwrap();
    device.host(|client| client.rollback("birds")).unwrap();
    let back = device.ask(&image(1));
    assert_eq!((&back["version"], &back["top"]), (&1.into(), &first["top"]));

    let file = signed(&adapter("birds", 1));
    let pulled = device
        .host(|client| client.pull("birds", Slot::Serving, 1 << 20, &mut |_| {}))
        .unwrap();
    assert!(pulled.bytes == file);
    let unknown = device.host(|client| client.switch("fish")).unwrap_err().to_string();
    assert!(unknown.contains("fish") && unknown.contains("birds"), "{unknown}");
    device.host(|client| client.remove("birds")).unwrap();
    assert!(device.list().iter().all(|task| task.state == TaskState::Empty));
    assert_eq!(device.ask(&image(1))["task"], serde_json::Value::Null);
    // The highest version is kept after the removal, so an old version is still refused.
    let old = device.push(&file).unwrap_err().to_string();
    assert!(old.contains("confirmed"), "{old}");
}

#[test]
fn a_reloaded_configuration_changes_the_trusted_keys() {
    let mut device = Device::new("");
    let source = "[source]\nkind = 'directory'\npath = 'frames'\n";
    device.configure(source, &[]);
    device.start();
    let file = signed(&adapter("birds", 1));
    let refused = device.push(&file).unwrap_err().to_string();
    assert!(refused.contains("not trusted"), "{refused}");
    device.configure(source, &[publisher()]);
    device.signal(Signal::HUP);
    let started = Instant::now();
    while device.push(&file).is_err() {
        assert!(started.elapsed() < TIMEOUT, "{}", device.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    // A broken configuration changes nothing.
    std::fs::write(device.path("device.toml"), "backbone = 7\n").unwrap();
    device.signal(Signal::HUP);
    device.switch("birds");
    assert_eq!(device.status().active_task.as_deref(), Some("birds"));
}

#[test]
fn a_second_device_on_the_same_store_is_refused_with_the_firsts_pid() {
    let mut device = Device::new("");
    device.start();
    let second = device.command(&["run"]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let message = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        message.contains(&device.pid().as_raw_nonzero().to_string()),
        "{message}"
    );
    // The first process still listens.
    device.status();
    device.stop();
    let sound = device.command(&["verify"]).output().unwrap();
    assert!(sound.status.success(), "{}", String::from_utf8_lossy(&sound.stdout));
}

#[test]
fn the_command_line_reaches_the_device_through_its_socket() {
    let mut device = Device::new("");
    device.start();
    device.push(&signed(&adapter("birds", 1))).unwrap();
    let run = |arguments: &[&str]| device.command(arguments).output().unwrap();
    assert!(run(&["switch", "birds"]).status.success());
    let status: serde_json::Value = serde_json::from_slice(&run(&["status"]).stdout).unwrap();
    assert_eq!(
        (&status["schema"], &status["device"], &status["active_task"]),
        (&"clr.device/1".into(), &"test".into(), &"birds".into())
    );
    assert!(status["memory"]["resident_bytes"].as_u64().unwrap() > 1_000_000);
    let list: serde_json::Value = serde_json::from_slice(&run(&["list"]).stdout).unwrap();
    assert_eq!(
        (&list["schema"], &list["tasks"][0]["task"]),
        (&"clr.device/1".into(), &"birds".into())
    );
    check_document("clr-device-status", &status);
    check_document("clr-device-list", &list);
    assert_eq!(run(&["switch", "fish"]).status.code(), Some(3));
    // A reader may close the pipe early.
    for command in ["status", "list"] {
        let mut child = device
            .command(&[command])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    std::fs::write(device.path("robin.png"), image(9)).unwrap();
    let teach = ["teach", "--task", "birds", "--label", "robin", "robin.png", "robin.png"];
    // While a publisher's version is on trial, teaching is refused and leaves no images.
    let refused = run(&teach);
    assert_eq!(refused.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("on trial"));
    assert!(device.host(|client| client.examples("birds")).unwrap().is_empty());
    assert!(run(&["mark-good", "birds"]).status.success());
    let taught = run(&teach);
    let said = String::from_utf8_lossy(&taught.stdout).into_owned();
    assert!(
        said.contains("1 images added") && said.contains("1 already stored"),
        "{said}"
    );
    let document = |arguments: &[&str]| serde_json::from_slice(&run(arguments).stdout).unwrap();
    check_document("clr-device-example-tasks", &document(&["examples"]));
    check_document("clr-device-examples", &document(&["examples", "birds"]));
    check_document("clr-device-hosts", &document(&["hosts"]));
    check_document(
        "clr-device-tune-check",
        &document(&["tune", "--task", "birds", "--check"]),
    );
    let audit = std::fs::read_to_string(device.path("state/audit/0.jsonl")).unwrap();
    let mut lines = audit
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut commit = lines.find(|line| line["command"] == "commit").unwrap();
    // The field is only present after requests that changed nothing.
    commit.as_object_mut().unwrap().remove("reads");
    check_document("audit", &commit);
    assert!(run(&["run", "--check-config"]).status.success());
    assert_eq!(run(&["run", "--no-such"]).status.code(), Some(2));
    // Over standard input and output, as through ssh.
    let endpoint = format!(
        "exec:CLR_DEVICE_CONFIG={} {} {} stdio",
        device.path("device.toml").display(),
        std::env::var("CLR_TEST_RUNNER").unwrap_or_default(),
        env!("CARGO_BIN_EXE_clr-device")
    );
    let endpoint: clr_transfer::Endpoint = endpoint.parse().unwrap();
    let clock = clr_transfer::SystemClock::default();
    let mut client = endpoint.client(&clock, endpoint.options());
    assert_eq!(client.status().unwrap().device, "test");
}

#[test]
fn the_help_of_every_device_command_matches_its_snapshot() {
    let device = Device::new("");
    check_help("clr-device", &|| {
        let mut program = device.command(&[]);
        for variable in ["COLUMNS", "CLR_DEVICE_CONFIG", "CLR_DEVICE_SOCKET"] {
            program.env_remove(variable);
        }
        program
    });
}
