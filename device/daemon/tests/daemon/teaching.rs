//! Teaching as a transaction: a refused class leaves no images and reports a reason, stored images can be listed and
//! removed, and no host can exceed the device's limits.

use std::time::{Duration, Instant};

use clr_adapters::{Adapter, Canary, Encoding, quantised};
use clr_engine::{Engine, EngineOptions};
use clr_onnx::RgbImage;
use clr_transfer::{ClientError, ExampleSelection, FailureCode, TeachPhase, TeachStatus, TunePhase, TuneRequest};

use super::device::{Device, TIMEOUT, adapter, backbone, image, png, signed};
use crate::scenes;

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Returns an image similar to the canary.
fn shown(index: u8) -> RgbImage {
    let mut image = scenes::image(0, 7);
    image.get_pixel_mut(1, 1).0[0] ^= index;
    image
}

/// Returns version 1 of `birds` with a canary and confident results. A new class close to the canary would change them.
fn with_canary() -> Adapter {
    let mut adapter = adapter("birds", 1);
    adapter.head.weight.iter_mut().for_each(|weight| *weight *= 20.0);
    let engine = Engine::new(backbone().0.clone(), EngineOptions::default()).unwrap();
    let served = quantised(&adapter, Encoding::Int8).unwrap();
    let image = shown(0);
    let answer = engine.classify(&engine.prepare(&served).unwrap(), &image).unwrap();
    let class = answer.best().unwrap().class;
    adapter.header.canaries = vec![Canary {
        size: [image.width() as u16, image.height() as u16],
        probability: answer.probabilities()[class],
        seed: None,
        pixels: image.into_raw(),
        class: class as u32,
    }];
    adapter
}

fn device() -> Device {
    let mut device = Device::new("[trial]\nframes = 1000\nlow_confidence = 0.0\n");
    device.start();
    device.push(&signed(&with_canary())).unwrap();
    device.host(|client| client.mark_good("birds")).unwrap();
    device.switch("birds");
    device
}

impl Device {
    fn teach(&self, label: &str, images: &[Vec<u8>]) -> Result<TeachStatus, ClientError> {
        self.host(|client| {
            let mut batch = client.begin_batch("birds", label)?;
            for image in images {
                client.add_to_batch(&mut batch, image)?;
            }
            client.finish_batch(&batch)
        })
    }

    fn stored(&self, label: &str) -> usize {
        let examples = self.host(|client| client.examples("birds")).unwrap();
        let of = examples
            .iter()
            .filter(|example| example.label.as_deref() == Some(label));
        of.count()
    }
}

fn robins() -> Vec<Vec<u8>> {
    (0..6).map(|index| png(&scenes::image(1, index))).collect()
}

fn copies() -> Vec<Vec<u8>> {
    (1..5).map(|index| png(&shown(index))).collect()
}

fn code(refused: Result<impl std::fmt::Debug, ClientError>) -> (FailureCode, String) {
    match refused {
        Err(ClientError::Refused(failure)) => (failure.code, failure.to_string()),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Images of a refused class must not remain, because every later attempt would fail.
#[test]
fn a_refused_class_leaves_no_images_names_the_similar_class_and_the_next_one_is_taught() {
    let mut device = device();
    let before = device.ask(&image(1));
    let refused = device.teach("copy", &copies()).unwrap();
    assert_eq!(refused.phase, TeachPhase::Refused, "{refused:?}");
    let (known, message) = (refused.looks_like.unwrap(), refused.message.unwrap());
    assert!(message.contains(&format!("looks like `{known}`")), "{message}");
    assert!(!message.contains("backbone") && refused.hint.is_some());
    assert_eq!(device.stored("copy"), 0);
    assert_eq!(device.ask(&image(1))["top"], before["top"]);
    assert!(device.list()[0].last_revert.is_none());

    let taught = device.teach("robin", &robins()).unwrap();
    assert_eq!(taught.phase, TeachPhase::Taught, "{taught:?}");
    assert_eq!(device.stored("robin"), 6);
    assert_eq!(device.list()[0].labels, 4);
}

#[test]
fn a_tuning_run_removes_a_refused_class_too_and_continues() {
    let device = device();
    for image in copies() {
        device.host(|client| client.teach("birds", "copy", &image)).unwrap();
    }
    for image in robins() {
        device.host(|client| client.teach("birds", "robin", &image)).unwrap();
    }
    device
        .host(|client| client.tune(&TuneRequest::prototype("birds")))
        .unwrap();
    let status = device
        .host(|client| client.follow_tuning(POLL_INTERVAL, &mut |_| ()))
        .unwrap();
    assert_eq!(status.phase, TunePhase::Promoted, "{status:?}");
    assert!(status.message.unwrap().contains("looks like"));
    assert_eq!((device.stored("copy"), device.stored("robin")), (0, 6));
}

#[test]
fn a_class_is_taught_without_classes_that_other_hosts_are_still_sending() {
    let device = device();
    // Another host has sent its first image.
    device
        .host(|client| client.teach("birds", "wren", &png(&scenes::image(2, 0))))
        .unwrap();
    assert_eq!(device.teach("robin", &robins()).unwrap().phase, TeachPhase::Taught);
    assert_eq!((device.list()[0].labels, device.stored("wren")), (4, 1));
}

#[test]
fn images_stored_before_a_kill_can_be_taught_after_the_restart() {
    let mut device = device();
    for image in robins().iter().take(3) {
        device.host(|client| client.teach("birds", "robin", image)).unwrap();
    }
    device.kill();
    device.start();
    let taught = device.teach("robin", &robins()).unwrap();
    assert_eq!((taught.phase, taught.images), (TeachPhase::Taught, 6), "{taught:?}");
}

#[test]
fn an_image_gets_its_previous_label_back_when_the_class_is_refused() {
    let device = device();
    assert_eq!(device.teach("robin", &robins()).unwrap().phase, TeachPhase::Taught);
    let mut images = copies();
    device
        .host(|client| client.teach("birds", "robin", &images[0]))
        .unwrap();
    images.truncate(3);
    let refused = device.teach("copy", &images).unwrap();
    assert_eq!(refused.phase, TeachPhase::Refused, "{refused:?}");
    assert_eq!((device.stored("copy"), device.stored("robin")), (0, 7));
}

#[test]
fn labels_that_differ_only_in_case_or_spaces_are_refused_with_the_known_one() {
    let device = device();
    assert_eq!(device.teach("Robin red", &robins()).unwrap().phase, TeachPhase::Taught);
    for label in ["robin red", "Robin  Red", "Robin red ", " "] {
        let (code, text) = code(device.host(|client| client.teach("birds", label, &png(&scenes::image(1, 9)))));
        assert_eq!(code, FailureCode::EXAMPLES, "{label}: {text}");
        assert!(label == " " || text.contains("Robin red"), "{text}");
    }
    let again = device.teach("Robin red", &[png(&scenes::image(1, 9))]).unwrap();
    assert_eq!((again.phase, again.images), (TeachPhase::Taught, 7), "{again:?}");
}

#[test]
fn stored_images_are_listed_read_and_removed() {
    let device = device();
    let images = robins();
    device.teach("robin", &images).unwrap();
    // A task that only has one image is listed too.
    device
        .host(|client| client.teach("ghost", "x", &png(&scenes::image(2, 0))))
        .unwrap();
    let tasks = device.host(|client| client.example_tasks()).unwrap();
    let seen: Vec<_> = tasks
        .iter()
        .map(|task| (task.task.as_str(), task.images, task.serves))
        .collect();
    assert_eq!(seen, [("birds", 6, true), ("ghost", 1, false)]);

    let examples = device.host(|client| client.examples("birds")).unwrap();
    assert_eq!(examples.len(), 6);
    assert!(
        examples
            .iter()
            .all(|example| example.added.is_some() && example.bytes > 0)
    );
    let first = examples[0].id;
    let read = device
        .host(|client| client.pull_example("birds", first, 1 << 20, &mut |_| {}))
        .unwrap();
    assert!(images.contains(&read.bytes));

    let one = ExampleSelection::Image(first);
    let removed = device
        .host(|client| client.remove_examples("birds", one.clone()))
        .unwrap();
    assert_eq!((removed.images, removed.without_images.len()), (1, 0));
    let (code, text) = code(device.host(|client| client.remove_examples("birds", one)));
    assert_eq!(code, FailureCode::NO_FILE, "{text}");
    let rest = ExampleSelection::Label("robin".to_owned());
    let removed = device.host(|client| client.remove_examples("birds", rest)).unwrap();
    assert_eq!((removed.images, removed.without_images), (5, vec!["robin".to_owned()]));
    // The class remains until the publisher's original is restored.
    assert_eq!(device.list()[0].labels, 4);
    device.host(|client| client.mark_good("birds")).unwrap();
    device.host(|client| client.restore("birds")).unwrap();
    assert_eq!(device.list()[0].labels, 3);
}

#[test]
fn a_taught_class_is_removed_and_the_task_is_bit_for_bit_as_before() {
    let mut device = device();
    let before = device.ask(&image(1));
    device.teach("robin", &robins()).unwrap();
    device
        .teach(
            "wren",
            &(0..6).map(|index| png(&scenes::image(2, index))).collect::<Vec<_>>(),
        )
        .unwrap();
    let with_wren = device.ask(&image(1));
    let remove = |device: &Device, label: &str| device.host(|client| client.remove_class("birds", label));

    assert_eq!(remove(&device, "robin").unwrap().images, 6);
    assert_eq!((device.stored("robin"), device.stored("wren")), (0, 6));
    assert_eq!(device.list()[0].labels, 4);
    let command = device.command(&["remove-class", "birds", "wren"]).output().unwrap();
    let removed: serde_json::Value = serde_json::from_slice(&command.stdout).unwrap();
    assert_eq!(removed["images"], 6, "{command:?}");
    let after = device.ask(&image(1));
    assert_eq!((&after["class"], &after["top"]), (&before["class"], &before["top"]));
    assert_ne!(with_wren["top"], before["top"], "the classes had no effect");

    // It can be taught again, under the same name.
    assert_eq!(device.teach("wren", &robins()).unwrap().phase, TeachPhase::Taught);
    let (known, text) = code(remove(&device, "robin"));
    assert_eq!(known, FailureCode::TUNING, "{text}");
    assert!(
        text.contains("has no class `robin`") && text.contains("hint: "),
        "{text}"
    );
    let (refused, text) = code(remove(&device, &with_canary().header.labels[0]));
    assert_eq!(refused, FailureCode::TUNING, "{text}");
    assert!(text.contains("comes with the publisher's adapter"), "{text}");
    assert_eq!((device.list()[0].labels, device.stored("wren")), (4, 6));
    let (absent, text) = code(device.host(|client| client.remove_class("ghost", "x")));
    assert_eq!(absent, FailureCode::NO_TASK, "{text}");
}

#[test]
fn a_class_that_is_taught_again_is_learned_from_all_its_images_and_survives_a_refusal() {
    let mut device = device();
    assert_eq!(device.teach("robin", &robins()).unwrap().phase, TeachPhase::Taught);
    let few = device.ask(&png(&scenes::image(1, 20)));
    let others: Vec<Vec<u8>> = (6..9).map(|index| png(&scenes::image(1, index))).collect();
    let again = device.teach("robin", &others).unwrap();
    assert_eq!((again.phase, again.images), (TeachPhase::Taught, 9), "{again:?}");
    let more = device.ask(&png(&scenes::image(1, 20)));
    assert_ne!(more["top"], few["top"]);
    let revision = device.list()[0].revision;
    // The same images again change nothing.
    device.teach("robin", &robins()).unwrap();
    assert_eq!(device.list()[0].revision, revision);
    assert_eq!(device.ask(&png(&scenes::image(1, 20)))["top"], more["top"]);

    // If every image of the class is one of a known class, the class stays as it was.
    let all = ExampleSelection::Label("robin".to_owned());
    device.host(|client| client.remove_examples("birds", all)).unwrap();
    let refused = device.teach("robin", &copies()).unwrap();
    assert_eq!(refused.phase, TeachPhase::Refused, "{refused:?}");
    assert_eq!((device.list()[0].labels, device.stored("robin")), (4, 0));
    assert_eq!(device.ask(&png(&scenes::image(1, 20)))["top"], more["top"]);
}

/// A request for all memory and 4,294,967,295 steps must be refused.
#[test]
fn no_request_exceeds_the_devices_own_bounds() {
    let device = device();
    device.teach("robin", &robins()).unwrap();
    let request = |memory, steps, seconds| TuneRequest {
        task: "birds".to_owned(),
        memory,
        steps,
        seconds,
    };
    for asked in [
        request(Some(u64::MAX), None, None),
        request(None, Some(u32::MAX), None),
        request(None, None, Some(u32::MAX)),
    ] {
        for refused in [
            device.host(|client| client.tune(&asked)),
            device.host(|client| client.tune_check(&asked)).map(drop),
        ] {
            let (code, text) = code(refused);
            assert_eq!(code, FailureCode::BUDGET, "{text}");
            assert!(text.contains("hint: "), "{text}");
        }
    }
    assert!(!device.host(|client| client.tune_status()).unwrap().phase.is_running());
}

#[test]
fn a_run_ends_at_the_devices_time_limit_and_is_not_resumed() {
    let mut device = Device::with_birds(
        "[trial]\nframes = 1000\nlow_confidence = 0.0\n[tuning]\nseconds = 2\nsteps = 1000000\nmemory = 4000000000\n",
    );
    device.teach("robin", &robins()).unwrap();
    let long = TuneRequest {
        task: "birds".to_owned(),
        steps: Some(1_000_000),
        memory: Some(4_000_000_000),
        ..TuneRequest::default()
    };
    device.host(|client| client.tune(&long)).unwrap();
    let started = Instant::now();
    let status = device
        .host(|client| client.follow_tuning(POLL_INTERVAL, &mut |_| ()))
        .unwrap();
    assert_eq!(status.phase, TunePhase::Stopped, "{status:?}");
    assert!(started.elapsed() < TIMEOUT);
    device.stop();
    device.start();
    assert!(!device.host(|client| client.tune_status()).unwrap().phase.is_running());
}

#[test]
fn tuning_reports_its_obstacles_beforehand() {
    let device = Device::with_birds("[trial]\nlow_confidence = 0.0\n[tuning]\nmemory = 4000000000\n");
    device.teach("robin", &robins()).unwrap();
    let request = TuneRequest {
        task: "birds".to_owned(),
        memory: Some(4_000_000_000),
        ..TuneRequest::default()
    };
    let outlook = device.host(|client| client.tune_check(&request)).unwrap();
    let robin = outlook.classes.iter().find(|class| class.label == "robin").unwrap();
    assert_eq!((robin.images, robin.held_out, robin.learned), (6, 1, true));
    assert!(
        outlook.judges < outlook.judges_needed && outlook.plan.is_some(),
        "{outlook:?}"
    );
    let blocking = outlook.lacks.iter().find(|lack| lack.blocks).unwrap();
    assert!(blocking.hint.contains("frames = 100"), "{blocking:?}");
    let (code, _) = code(device.host(|client| {
        client.tune_check(&TuneRequest {
            task: "ghost".to_owned(),
            ..request.clone()
        })
    }));
    assert_eq!(code, FailureCode::NO_TASK);
}
