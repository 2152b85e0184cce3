//! Health and metrics of the device, for monitoring systems, hosts and people.

use std::time::{Duration, Instant};

use clr_transfer::HealthState;

use super::{
    device::{Device, TIMEOUT, adapter, free_port, image, signed},
    http_client::http_get,
};

/// Waits until `/healthz` returns this status and a body that contains these words.
fn wait_for(port: u16, status: u16, words: &str) {
    let started = Instant::now();
    loop {
        let (got, body) = http_get(port, "/healthz");
        if got == status && body.contains(words) {
            return;
        }
        assert!(started.elapsed() < TIMEOUT, "expected {status} {words}: {got} {body}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn health_reports_each_fault_on_a_line_and_recovers() {
    let port = free_port();
    let mut device = Device::new(&format!("[http]\nlisten = '127.0.0.1:{port}'\n"));
    device.start();
    // Degraded: there is no task yet.
    wait_for(port, 200, "ok\ndegraded task: there is no task yet\n");
    device.push(&signed(&adapter("birds", 1))).unwrap();
    wait_for(port, 200, "degraded task: no task is active; tasks in memory: 1\n");
    device.switch("birds");
    device.ask(&image(1));
    wait_for(port, 200, "ok\n");
    assert_eq!(http_get(port, "/healthz").1, "ok\n");

    // The chosen task has no adapter.
    device.host(|client| client.mark_bad("birds")).unwrap();
    wait_for(port, 503, "failed task: cannot serve `birds`: its adapter was reverted");
    device.push(&signed(&adapter("birds", 2))).unwrap();
    device.switch("birds");
    wait_for(port, 200, "ok\n");
}

#[test]
fn the_json_form_contains_every_check_and_hosts_see_the_same() {
    let port = free_port();
    let device = Device::with_birds(&format!("[http]\nlisten = '127.0.0.1:{port}'\n"));
    wait_for(port, 200, "ok\n");
    let (status, text) = http_get(port, "/healthz?json");
    assert_eq!(status, 200);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&document["schema"], &document["status"]),
        (&"clr.health/1".into(), &"ok".into())
    );
    crate::promises::check_document("health", &document);
    let names: Vec<&str> = document["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["name"].as_str().unwrap())
        .collect();
    for name in ["inference", "source", "task", "store", "disk", "time"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    let health = device.host(|client| client.health()).unwrap().unwrap();
    assert_eq!(health.state, HealthState::Ok);
    let output = device.command(&["status"]).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["health"]["status"], "ok");
    assert_eq!(status["health"]["checks"].as_array().unwrap().len(), names.len());
}

#[test]
fn a_damaged_record_is_reported_while_another_task_serves() {
    let port = free_port();
    let mut device = Device::with_tasks(&["birds", "flowers"], &format!("[http]\nlisten = '127.0.0.1:{port}'\n"));
    device.switch("birds");
    device.stop();
    for entry in std::fs::read_dir(device.path("state/store/tasks")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().contains("flowers") {
            std::fs::write(path, "damaged").unwrap();
        }
    }
    device.start();
    wait_for(port, 200, "degraded store: ");
    assert_eq!(device.ask(&image(1))["task"], "birds");
}

/// A sample of the text format: name, raw labels, value.
type Sample = (String, String, f64);

/// Parses Prometheus' text format 0.0.4 and checks it: help and type occur once and before the samples of a name, names
/// are valid, labels are closed and escaped, and counters end in `_total`.
fn parse(page: &str) -> Vec<Sample> {
    let legal = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let (mut samples, mut known) = (Vec::new(), Vec::<String>::new());
    let (mut helped, mut typed) = (String::new(), String::new());
    assert!(page.ends_with('\n'));
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(legal(name) && text.ends_with('.'), "{line}");
            assert!(!known.iter().any(|known| known == name), "twice: {line}");
            known.push(name.to_owned());
            name.clone_into(&mut helped);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, helped);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(kind == "counter" || kind == "gauge", "{line}");
            name.clone_into(&mut typed);
        } else {
            let (head, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = head.split_once('{').map_or((head, ""), |(name, labels)| {
                (name, labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}")))
            });
            assert_eq!(name, typed, "{line}");
            for label in labels.split_terminator("\",") {
                let (key, text) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
                assert!(legal(key), "{line}");
                let text = text.strip_suffix('"').unwrap_or(text);
                assert!(!text.replace("\\\\", "").replace("\\\"", "").contains('"'), "{line}");
            }
            samples.push((name.to_owned(), labels.to_owned(), value.parse().unwrap()));
        }
    }
    samples
}

#[test]
fn metrics_are_valid_and_count_refusals_reverts_and_learning() {
    let port = free_port();
    let task = "a \"task\" \\ of birds";
    let mut device = Device::new(&format!("[http]\nlisten = '127.0.0.1:{port}'\n"));
    device.start();
    device.push(&signed(&adapter(task, 1))).unwrap();
    device.switch(task);
    device.ask(&image(1));
    device.host(|client| client.switch("no such task")).unwrap_err();
    device.push(b"no adapter").unwrap_err();
    let mut unsigned = signed(&adapter(task, 2));
    unsigned.truncate(unsigned.len() - 1);
    device.push(&unsigned).unwrap_err();
    device.host(|client| client.mark_bad(task)).unwrap();
    let samples = parse(&http_get(port, "/metrics").1);
    let value = |name: &str, labels: &str| {
        let found = samples
            .iter()
            .find(|sample| sample.0 == name && sample.1.contains(labels));
        found.map_or_else(|| panic!("no {name} {{{labels}}} among {samples:?}"), |sample| sample.2)
    };
    assert!(value("clr_requests_refused_total", "code=\"no-task\",number=\"512\"") >= 1.0);
    assert!(value("clr_requests_refused_total", "code=\"refused\"") >= 1.0);
    assert!(value("clr_frames_answered_total", "task=\"a \\\"task\\\" \\\\ of birds\"") >= 1.0);
    assert!(value("clr_last_frame_age_seconds", "") < TIMEOUT.as_secs_f64());
    assert!(value("clr_state_disk_free_bytes", "") > 0.0);
    assert_eq!(value("clr_up", ""), 1.0);
    assert_eq!(value("clr_health", "check=\"inference\""), 0.0);
    assert!(value("clr_uptime_seconds", "") > 0.0);
    assert!(value("clr_resident_memory_bytes", "") > 1e6);
}
