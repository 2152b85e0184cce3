//! Groups of tasks that classify each frame together.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use clr_adapters::{Recipe, Trial};
use clr_transfer::TaskState;
use serde_json::Value;

use super::{
    device::{Device, TIMEOUT, adapter, backbone, free_port, image, never_confident, png, signed},
    http_client::http_get,
};
use crate::{promises::check_document, scenes, seeded};

/// Long trials, which no result ends.
const PATIENT: &str = "[trial]\nframes = 10000\nlow_confidence = 0.0\n";

/// Starts a device that serves version 1 of each of `tasks` as a group, all of them confirmed.
fn device_with(tasks: &[&str], extra: &str) -> Device {
    let device = Device::with_tasks(tasks, extra);
    for task in tasks {
        device.host(|client| client.mark_good(task)).unwrap();
    }
    device.group(tasks);
    device
}

impl Device {
    fn group(&self, tasks: &[&str]) {
        self.host(|client| client.switch_group(tasks)).unwrap();
    }

    fn selection(&self) -> Vec<String> {
        self.host(|client| client.selection()).unwrap().unwrap()
    }

    fn state(&self, task: &str) -> TaskState {
        self.list().into_iter().find(|one| one.task == task).unwrap().state
    }
}

/// Returns the names of the tasks of a line, one or several.
fn names(line: &Value) -> Vec<&str> {
    match line["tasks"].as_array() {
        Some(tasks) => tasks.iter().map(|task| task["task"].as_str().unwrap()).collect(),
        None => line["task"].as_str().into_iter().collect(),
    }
}

#[test]
fn the_results_of_a_group_are_bit_identical_to_those_of_each_task_alone() {
    let mut device = Device::new(PATIENT);
    device.start();
    let mut adapters = vec![adapter("helmet", 1), adapter("vest", 1)];
    // Tasks without sites, and with another input, for which the device reduces a large image less.
    for (task, recipe, side) in [
        ("boots", Recipe::Linear, 32),
        ("gloves", Recipe::Linear, 32),
        ("smoke", Recipe::Bn, 64),
    ] {
        let mut adapter = seeded::adapter(&backbone().0, recipe, task, 4, task.len() as u64);
        adapter.header.version = 1;
        adapter.header.preprocessing.height = side;
        adapter.header.preprocessing.width = side;
        adapters.push(adapter);
    }
    for adapter in &adapters {
        device.push(&signed(adapter)).unwrap();
    }
    let large = png(&clr_onnx::RgbImage::from_fn(420, 400, |x, y| {
        image::Rgb([(x * 7 + y) as u8, (y * 5) as u8, (x ^ y) as u8])
    }));
    let images = [image(1), image(2), large];
    let tasks = ["smoke", "helmet", "boots", "vest", "gloves"];
    let alone = tasks.map(|task| {
        device.switch(task);
        images.clone().map(|image| device.ask(&image))
    });
    device.group(&tasks);
    for (at, image) in images.iter().enumerate() {
        let line = device.ask(image);
        check_document("frame-group", &line);
        assert_eq!(names(&line), tasks);
        for (task, alone) in line["tasks"].as_array().unwrap().iter().zip(&alone) {
            for key in ["task", "version", "revision", "trial", "top", "confidence"] {
                assert_eq!(task[key], alone[at][key], "{key} of {}", task["task"]);
            }
        }
    }
    // One task alone has its own line again.
    device.host(|client| client.switch_group(&["vest"])).unwrap();
    check_document("frame", &device.ask(&images[0]));
}

#[test]
fn switches_between_groups_under_load_never_mix_tasks() {
    let mut device = device_with(&["boots", "helmet", "vest"], "");
    let groups: [&[&str]; 4] = [&["helmet", "vest"], &["vest", "boots"], &["boots"], &["vest", "helmet"]];
    let done = AtomicBool::new(false);
    for seed in 0..3 {
        device.show(&image(seed));
    }
    let mut seen = vec![0; groups.len()];
    let socket = device.path("state/control.sock");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let endpoint = clr_transfer::Endpoint::Unix(socket.display().to_string());
            let clock = clr_transfer::SystemClock::new();
            let mut client = endpoint.client(&clock, endpoint.options());
            for group in groups.iter().cycle() {
                client.switch_group(group).unwrap();
                if done.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        for seed in 3..203 {
            let line = device.answer();
            device.show(&image(seed));
            let tasks = names(&line);
            // The group before the first switch.
            if tasks == ["boots", "helmet", "vest"] {
                continue;
            }
            let group = groups.iter().position(|group| *group == tasks);
            seen[group.unwrap_or_else(|| panic!("{line}"))] += 1;
            let results = line["tasks"].as_array().map_or(1, Vec::len);
            assert_eq!(results, tasks.len());
            assert!(!line.to_string().contains("error"), "{line}");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(seen.iter().filter(|&&count| count > 0).count() > 1, "{seen:?}");
}

#[test]
fn a_group_survives_a_restart_and_a_configured_one_takes_precedence() {
    let mut device = device_with(&["boots", "helmet", "vest"], "");
    device.group(&["vest", "helmet"]);
    let before = device.ask(&image(1));
    device.stop();
    device.start();
    assert_eq!(device.selection(), ["vest", "helmet"]);
    assert_eq!(device.ask(&image(1))["tasks"], before["tasks"]);
    // A removed task leaves the group, also after a restart.
    device.host(|client| client.remove("vest")).unwrap();
    assert_eq!(device.ask(&image(1))["task"], "helmet");
    device.stop();
    let source = "[source]\nkind = 'directory'\npath = 'frames'\ndelete = true\n";
    device.start();
    assert_eq!(device.selection(), ["helmet"]);
    device.stop();
    device.configure(
        &format!("task = ['helmet', 'boots']\n{source}"),
        &[super::device::publisher()],
    );
    device.start();
    assert_eq!(device.selection(), ["helmet", "boots"]);
    assert_eq!(names(&device.ask(&image(1))), ["helmet", "boots"]);
    device.stop();
}

#[test]
fn an_update_of_one_task_serves_at_once_and_its_trial_counts_only_its_own_frames() {
    let mut device = device_with(&["helmet", "vest"], "");
    let before = device.ask(&image(1));
    let mut second = adapter("helmet", 2);
    second.header.trial = Some(Trial {
        frames: 3,
        max_latency_ms: Some(60_000),
        low_confidence: 0.0,
        max_low_confidence_fraction: 1.0,
    });
    device.push(&signed(&second)).unwrap();
    // The other task's trial is longer.
    device.push(&signed(&adapter("vest", 2))).unwrap();
    for left in (1..=3).rev() {
        assert_eq!(device.state("helmet"), TaskState::OnTrial { frames_left: left });
        let line = device.ask(&image(1));
        for task in line["tasks"].as_array().unwrap() {
            assert_eq!((&task["version"], &task["trial"]), (&2.into(), &true.into()));
        }
        assert_ne!(line["tasks"][0]["top"], before["tasks"][0]["top"]);
    }
    device.wait_until("confirmation", |device| device.state("helmet") == TaskState::Confirmed);
    assert_eq!(device.state("vest"), TaskState::OnTrial { frames_left: 97 });
    let line = device.ask(&image(1));
    assert_eq!(line["tasks"][0]["trial"], false);
    assert_eq!(line["tasks"][1]["trial"], true);
}

#[test]
fn an_adapter_that_fails_its_trial_is_reverted_alone() {
    let mut device = device_with(&["helmet", "vest"], "");
    let before = device.ask(&image(1));
    device.push(&signed(&never_confident("helmet"))).unwrap();
    device.push(&signed(&adapter("vest", 2))).unwrap();
    let mut last = Value::Null;
    for _ in 0..3 {
        last = device.ask(&image(1));
        assert_eq!(last["tasks"][0]["version"], 2);
    }
    let after = device.ask(&image(1));
    assert_eq!(after["tasks"][0], before["tasks"][0]);
    assert_eq!(
        after["tasks"][1], last["tasks"][1],
        "version 2 of the other task serves"
    );
    let reverts = device.status().reverts;
    assert!(reverts.len() == 1 && reverts[0].task == "helmet", "{reverts:?}");
    assert_eq!(device.state("vest"), TaskState::OnTrial { frames_left: 96 });
}

#[test]
fn a_latency_bound_that_is_exceeded_reverts_only_its_own_task() {
    let mut device = device_with(&["helmet", "vest"], PATIENT);
    let mut slow = adapter("helmet", 2);
    slow.header.trial = Some(Trial {
        frames: 3,
        max_latency_ms: Some(0),
        low_confidence: 0.0,
        max_low_confidence_fraction: 1.0,
    });
    device.push(&signed(&slow)).unwrap();
    device.push(&signed(&adapter("vest", 2))).unwrap();
    for _ in 0..3 {
        assert_eq!(device.ask(&image(1))["tasks"][0]["version"], 2);
    }
    let line = device.ask(&image(1));
    assert_eq!(
        (&line["tasks"][0]["version"], &line["tasks"][1]["version"]),
        (&1.into(), &2.into())
    );
    assert!(device.status().reverts[0].reason.contains("0 ms"));
}

#[test]
fn a_trial_is_judged_by_the_latency_of_its_task_alone() {
    let mut device = device_with(&["helmet"], PATIENT);
    let alone = device.ask(&image(1))["latency_ms"].as_f64().unwrap();
    // A task that takes hundreds of times as long, because of its input.
    let mut slow = seeded::adapter(&backbone().0, Recipe::Linear, "scene", 3, 1);
    slow.header.version = 1;
    slow.header.preprocessing.height = 640;
    slow.header.preprocessing.width = 640;
    device.push(&signed(&slow)).unwrap();
    device.group(&["scene", "helmet"]);
    let together = device.ask(&image(1))["latency_ms"].as_f64().unwrap();
    assert!(together > 8.0 * alone, "{alone} ms alone, {together} ms together");
    let mut second = adapter("helmet", 2);
    second.header.trial = Some(Trial {
        frames: 3,
        max_latency_ms: Some((together / 2.0) as u32),
        low_confidence: 0.0,
        max_low_confidence_fraction: 1.0,
    });
    device.push(&signed(&second)).unwrap();
    for _ in 0..3 {
        device.ask(&image(1));
    }
    device.wait_until("confirmation", |device| device.state("helmet") == TaskState::Confirmed);
    assert!(device.status().reverts.is_empty());
}

#[test]
fn non_finite_results_revert_one_task_within_the_frame_and_leave_the_others() {
    let mut device = device_with(&["helmet", "vest"], PATIENT);
    let before = device.ask(&image(1));
    let mut infinite = adapter("helmet", 2);
    // The weights are finite, as the format requires, but their products are not.
    infinite.head.weight.fill(f32::MAX);
    device.push(&signed(&infinite)).unwrap();
    let line = device.ask(&image(1));
    assert_eq!(
        line["tasks"], before["tasks"],
        "the previous adapter classifies the frame"
    );
    assert_eq!(device.status().reverts[0].task, "helmet");
}

#[test]
fn a_task_that_loses_its_only_adapter_is_reported_and_serves_again_once_it_has_one() {
    let port = free_port();
    let http = format!("{PATIENT}[http]\nlisten = '127.0.0.1:{port}'\n");
    let mut device = Device::with_tasks(&["helmet", "vest"], &http);
    device.host(|client| client.mark_good("vest")).unwrap();
    device.group(&["helmet", "vest"]);
    let before = device.ask(&image(1));
    device.host(|client| client.mark_bad("helmet")).unwrap();
    for restart in [false, true] {
        if restart {
            device.stop();
            device.start();
        }
        let line = device.ask(&image(1));
        check_document("frame-group-without-answer", &line);
        let (lost, kept) = (&line["tasks"][0], &line["tasks"][1]);
        assert_eq!(
            (&lost["task"], &lost["version"]),
            (&"helmet".into(), &Value::Null),
            "{line}"
        );
        assert!(lost["error"].as_str().unwrap().contains("was reverted"), "{line}");
        assert_eq!(*kept, before["tasks"][1]);
        let (status, text) = http_get(port, "/healthz");
        assert!(
            status == 503 && text.contains("cannot serve `helmet`: its adapter was reverted"),
            "{text}"
        );
        assert_eq!(device.selection(), ["helmet", "vest"]);
        assert_eq!(device.status().active_task.as_deref(), Some("vest"));
    }
    let page = http_get(port, "/metrics").1;
    assert!(page.contains("clr_frames_answered_total{task=\"vest\"} 1\n"), "{page}");
    assert!(page.contains("clr_frames_failed_total 1\n"), "{page}");
    device.push(&signed(&adapter("helmet", 2))).unwrap();
    let line = device.ask(&image(1));
    assert_eq!(line["tasks"][0]["version"], 2, "{line}");
    assert_eq!(line["tasks"][1], before["tasks"][1]);
    assert_eq!(http_get(port, "/healthz").0, 200);
}

#[test]
fn an_invalid_group_changes_nothing_and_the_message_has_a_hint() {
    let mut device = device_with(&["helmet", "vest"], "");
    let run = |arguments: &[&str]| device.command(arguments).output().unwrap();
    for (tasks, part) in [
        (&["helmet", "helmet"][..], "`helmet` twice"),
        (&["helmet", "auto"], "`auto` is in a list"),
        (&["helmet", "fish"], "fish"),
    ] {
        let mut arguments = vec!["switch"];
        arguments.extend(tasks);
        let refused = run(&arguments);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(3), "{text}");
        assert!(text.contains(part) && text.contains("hint:"), "{text}");
    }
    assert_eq!(run(&["switch"]).status.code(), Some(2));
    let too_many: Vec<String> = (0..17).map(|at| at.to_string()).collect();
    let refused = device.host(|client| client.switch_group(&too_many)).unwrap_err();
    assert!(refused.to_string().contains("at most 16"), "{refused}");
    assert_eq!(device.selection(), ["helmet", "vest"]);
    assert_eq!(names(&device.ask(&image(1))), ["helmet", "vest"]);
    // Valid commands show the group.
    let run = |arguments: &[&str]| device.command(arguments).output().unwrap();
    assert!(run(&["switch", "vest", "helmet"]).status.success());
    let status: Value = serde_json::from_slice(&run(&["status"]).stdout).unwrap();
    assert_eq!(status["selection"], serde_json::json!(["vest", "helmet"]));
    assert_eq!(status["active_task"], "vest");
    assert!(device.list().iter().all(|task| task.active));
}

#[test]
fn an_unreadable_image_is_reported_for_each_task() {
    let mut device = device_with(&["helmet", "vest"], "");
    let line = device.ask(b"no image");
    assert_eq!(names(&line), ["helmet", "vest"]);
    for task in line["tasks"].as_array().unwrap() {
        assert!(task["error"].as_str().unwrap().contains("000000.png"), "{line}");
    }
    let frames = device.status().frames;
    assert_eq!((frames.served, frames.failed), (0, 1));
}

#[test]
fn frames_of_a_group_are_stored_for_each_of_its_tasks() {
    let mut device = device_with(&["helmet", "vest"], "[tuning]\nmax_frames = 2\nframe_interval = 1\n");
    let stored = |device: &Device, task: &str| device.host(|client| client.examples(task)).unwrap().len();
    let started = std::time::Instant::now();
    while stored(&device, "helmet") < 2 || stored(&device, "vest") < 2 {
        assert!(started.elapsed() < TIMEOUT, "{}", device.log());
        device.ask(&image(started.elapsed().as_millis() as u64));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((stored(&device, "helmet"), stored(&device, "vest")), (2, 2));
}

#[test]
#[cfg(feature = "tuning")]
fn a_class_can_be_taught_to_one_task_of_a_group_that_serves() {
    let mut device = device_with(&["helmet", "vest"], PATIENT);
    let before = device.ask(&image(1));
    let taught = device.host(|client| {
        let mut batch = client.begin_batch("helmet", "visitor")?;
        for index in 0..6 {
            client.add_to_batch(&mut batch, &png(&scenes::image(1, index)))?;
        }
        client.finish_batch(&batch)
    });
    let taught = taught.unwrap();
    assert_eq!(taught.phase, clr_transfer::TeachPhase::Taught, "{taught:?}");
    let line = device.ask(&png(&scenes::image(1, 9)));
    let helmet = &line["tasks"][0];
    assert!(helmet["top"].to_string().contains("visitor"), "{line}");
    assert_eq!((&helmet["revision"], &helmet["trial"]), (&1.into(), &true.into()));
    assert_eq!(device.ask(&image(1))["tasks"][1], before["tasks"][1]);
}
