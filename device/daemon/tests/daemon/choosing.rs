//! Automatic choice of the task for each frame (`auto`).

use clr_engine::{Engine, EngineOptions};
use clr_onnx::Backbone;

use super::device::{Device, FRAMES, adapter, backbone, image, png, publisher, signed, signed_compact};
use crate::scenes;

#[test]
fn the_task_follows_the_frames_and_noise_is_unknown() {
    let engine = Engine::new(backbone().0.clone(), EngineOptions::default()).unwrap();
    let mut device = Device::new("");
    device.start();
    for task in 0..2 {
        device.push(&signed(&scenes::with_profile(&engine, task, 32))).unwrap();
    }
    device.switch("auto");
    for (task, first) in [(0, 200), (1, 300), (0, 400)] {
        // The switch takes a few frames. After it, only this task is chosen.
        let tasks: Vec<_> = (0..12)
            .map(|at| device.ask(&png(&scenes::image(task, first + at)))["task"].clone())
            .collect();
        let expected = format!("task-{task}");
        assert!(tasks[8..].iter().all(|task| *task == expected), "{expected}: {tasks:?}");
    }
    let status = device.status();
    assert!(status.auto && status.active_task.as_deref() == Some("task-0"));
    let unknown: Vec<_> = (0..12)
        .map(|at| device.ask(&png(&scenes::noise(at)))["unknown"] == true)
        .collect();
    assert!(unknown[8..].iter().all(|&unknown| unknown), "{unknown:?}");
    // A restart keeps automatic choice.
    device.stop();
    device.start();
    assert!(device.status().auto);
    // Naming a task ends the automatic choice.
    device.switch("task-1");
    assert_eq!(device.ask(&png(&scenes::image(0, 500)))["task"], "task-1");
    assert!(!device.status().auto);
}

#[test]
fn without_profiles_the_result_gives_the_reason() {
    let mut device = Device::new("");
    device.start();
    device.push(&signed(&adapter("birds", 1))).unwrap();
    device.switch("auto");
    let line = device.ask(&image(1));
    assert!(line["error"].as_str().unwrap().contains("profile"), "{line}");
}

#[test]
fn with_a_background_the_tasks_are_chosen_against_it_and_a_damaged_one_prevents_only_the_choice() {
    let (plain, _) = backbone();
    let mut device = Device::new("");
    let path = device.path("net.onnx");
    plain.save(&path).unwrap();
    let background = scenes::background(plain, 32, 1);
    std::fs::write(Backbone::background_path(&path), background.encode()).unwrap();
    device.configure_with(&path, FRAMES, &[publisher()]);
    device.start();
    for task in 0..2 {
        let adapter = scenes::with_profile_against(plain, &background, task, 32);
        device.push(&signed_compact(plain, &adapter)).unwrap();
    }
    device.switch("auto");
    for (task, first) in [(0, 200), (1, 300)] {
        let tasks: Vec<_> = (0..12)
            .map(|at| device.ask(&png(&scenes::image(task, first + at)))["task"].clone())
            .collect();
        let expected = format!("task-{task}");
        assert!(tasks[8..].iter().all(|task| *task == expected), "{expected}: {tasks:?}");
    }
    let unknown: Vec<_> = (0..12)
        .map(|at| device.ask(&png(&scenes::noise(at)))["unknown"] == true)
        .collect();
    assert!(unknown[8..].iter().all(|&unknown| unknown), "{unknown:?}");
    device.stop();
    let checked = |device: &Device| device.command(&["run", "--check-config"]).output().unwrap();
    let text = String::from_utf8(checked(&device).stdout).unwrap();
    assert!(text.contains(&background.id().to_string()), "{text}");
    std::fs::write(Backbone::background_path(&path), b"damaged").unwrap();
    let output = checked(&device);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("net.background"), "{error}");
    // The device starts without it: it chooses nothing, and classifies with a task that is named.
    device.start();
    let line = device.ask(&image(1));
    let error = line["error"].as_str().unwrap();
    assert!(
        error.contains("no task can be chosen") && error.contains("net.background"),
        "{error}"
    );
    let health = device.host(|client| client.health()).unwrap().unwrap();
    assert!(
        health.checks.iter().any(|check| check.text.contains("net.background")),
        "{health:?}"
    );
    device.switch("task-1");
    assert_eq!(device.ask(&png(&scenes::image(1, 500)))["task"], "task-1");
    device.stop();
    let store = device.command(&["check-store"]).output().unwrap();
    assert!(store.status.success(), "{store:?}");
}
