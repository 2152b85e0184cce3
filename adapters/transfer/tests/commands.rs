//! Requests and replies end to end; incompatible versions; a delta.

use clr_adapters::delta;
use clr_transfer::{
    ClientError, Committed, Decoder, Digest, ExampleSelection, ExampleSummary, FailureCode, Health, HealthState, Kind,
    Request, Response, Session, SessionLimits, Status,
};

use crate::{
    garbage::{frame, raw_frame, replies},
    line::{Faults, Random, with_client},
    memory_device::MemoryDevice,
};

#[test]
fn a_long_list_is_paged_sorted_and_complete() {
    let device = MemoryDevice::default();
    // An interpreter takes minutes for more.
    let count = if cfg!(miri) { 9 } else { 300 };
    for task in 0..count {
        device
            .0
            .lock()
            .unwrap()
            .tasks
            .insert(format!("task {task:03}"), Digest([task as u8; 32]));
    }
    let (tasks, ..) = with_client(&device, 512, |_| Faults::default(), |client| client.list().unwrap());
    assert_eq!(tasks.len(), count);
    assert!(tasks.is_sorted_by(|a, b| a.task < b.task));
    assert_eq!(tasks[7].digest, Digest([7; 32]));
    assert_eq!(
        tasks[7].last_revert.as_ref().unwrap().len(),
        256,
        "long reasons are cut"
    );
}

#[test]
fn stored_images_are_listed_in_pages_read_by_digest_and_removed() {
    let device = MemoryDevice::default();
    let count: u32 = if cfg!(miri) { 9 } else { 200 };
    let image = b"an image".to_vec();
    {
        let mut kept = device.0.lock().unwrap();
        kept.examples = (0..count)
            .map(|index| ExampleSummary {
                id: Digest::of(&index.to_le_bytes()),
                label: (index % 4 > 0).then(|| "robin".to_owned()),
                bytes: 8,
                added: Some(1_800_000_000),
            })
            .collect();
        kept.files.insert(Digest::of(&image), image.clone());
    }
    let (examples, ..) = with_client(
        &device,
        512,
        |_| Faults::default(),
        |client| client.examples("birds").unwrap(),
    );
    assert_eq!(examples.len(), count as usize);
    assert!(examples.is_sorted_by(|a, b| a.id < b.id));
    let id = Digest::of(&image);
    let (pulled, ..) = with_client(
        &device,
        512,
        |_| Faults::default(),
        |client| client.pull_example("birds", id).unwrap(),
    );
    assert_eq!(pulled.bytes, image);
    let (removed, ..) = with_client(
        &device,
        512,
        |_| Faults::default(),
        |client| client.remove_examples("birds", ExampleSelection::Frames).unwrap(),
    );
    assert_eq!(removed.images, count.div_ceil(4));
    let label = device.0.lock().unwrap().examples[0].label.clone().unwrap();
    let (removed, ..) = with_client(
        &device,
        512,
        |_| Faults::default(),
        |client| [(); 2].map(|()| client.remove_class("birds", &label).map(|removed| removed.images)),
    );
    assert!(removed[0].as_ref().is_ok_and(|images| *images > 0), "{removed:?}");
    assert!(
        removed[1]
            .as_ref()
            .is_err_and(|error| error.to_string().contains("no class")),
        "{removed:?}"
    );
}

#[test]
fn the_status_survives_the_wire_and_json() {
    let device = MemoryDevice::with_task("birds", b"x");
    let (status, ..) = with_client(&device, 512, |_| Faults::default(), |client| client.status().unwrap());
    assert_eq!(status.device, "memory");
    let json = serde_json::to_string(&status).unwrap();
    assert!(
        json.contains(&format!("\"backbone\":\"{}\"", "07".repeat(32))),
        "{json}"
    );
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
}

#[test]
fn an_old_device_reports_no_health_and_a_newer_one_within_the_caps() {
    let device = MemoryDevice::default();
    let (health, ..) = with_client(&device, 512, |_| Faults::default(), |client| client.health());
    assert_eq!(health.unwrap(), None);
    let mut known = Health::default();
    known.push("source", HealthState::Ok, "a frame 0.2 s ago");
    known.push("disk", HealthState::Failed, &"full ".repeat(1000));
    known.push("time", HealthState::Degraded, "never set");
    device.0.lock().unwrap().health = Some(known);
    let (health, ..) = with_client(&device, 512, |_| Faults::default(), |client| client.health());
    let health = health.unwrap().unwrap();
    assert_eq!((health.state, health.checks.len()), (HealthState::Failed, 3));
    assert_eq!(health.checks[1].text.len(), 512, "long texts are cut");
    let json = serde_json::to_value(&health).unwrap();
    assert_eq!(
        (&json["status"], &json["checks"][2]["state"]),
        (&"failed".into(), &"degraded".into())
    );
}

#[test]
fn the_device_is_notified_of_every_failed_request() {
    let device = MemoryDevice::default();
    let (..) = with_client(
        &device,
        512,
        |_| Faults::default(),
        |client| {
            client.rollback("cats").unwrap_err();
            client.status().unwrap();
            client.health().unwrap();
        },
    );
    let refused = device.0.lock().unwrap().refused.clone();
    assert_eq!(
        refused,
        [("rollback", FailureCode::NO_TASK), ("health", FailureCode::UNSUPPORTED)]
    );
}

#[test]
fn a_refusal_reaches_the_host_with_code_and_hint() {
    let device = MemoryDevice::default();
    let (answer, ..) = with_client(&device, 512, |_| Faults::default(), |client| client.rollback("cats"));
    let Err(ClientError::Refused(failure)) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(failure.code, FailureCode::NO_TASK);
    assert_eq!(
        failure.to_string(),
        "no task 'cats'\nhint: `clr device list` names them"
    );
}

#[test]
fn incompatible_versions_give_a_clear_error() {
    let device = MemoryDevice::default();
    for (min, max, update) in [(2, 9, "update the device"), (0, 0, "update the host")] {
        let hello = Request::Hello {
            min,
            max,
            chunk: 1024,
            client: "",
        };
        let mut session = Session::new(&device, SessionLimits::default());
        let answers = replies(&mut session, &mut Decoder::default(), &frame(1, 1, &hello));
        let Response::Failed(failure) = &answers[0].1 else {
            panic!("{answers:?}")
        };
        assert_eq!(failure.code, FailureCode::VERSION);
        assert!(
            failure.message.contains(&format!("the host speaks {min} to {max}")),
            "{failure}"
        );
        assert_eq!(failure.hint.as_deref(), Some(update));
    }
    let hello = Request::Hello {
        min: 0,
        max: 7,
        chunk: 1 << 30,
        client: "",
    };
    let mut session = Session::new(&device, SessionLimits::default());
    let answers = replies(&mut session, &mut Decoder::default(), &frame(1, 1, &hello));
    assert!(
        matches!(
            answers[0].1,
            Response::Welcome {
                version: 1,
                chunk: 65_536,
                ..
            }
        ),
        "{answers:?}"
    );
}

#[test]
fn a_request_of_a_newer_version_is_unsupported_and_the_session_continues() {
    let device = MemoryDevice::default();
    let mut session = Session::new(&device, SessionLimits::default());
    let mut bytes = frame(1, 1, &crate::garbage::HELLO);
    bytes.extend(raw_frame(b'Q', 1, 2, &[100, 1, 2, 3]));
    bytes.extend(raw_frame(b'Q', 1, 3, &[5, 5, 5]));
    bytes.extend(frame(1, 4, &Request::Status));
    let answers = replies(&mut session, &mut Decoder::default(), &bytes);
    let codes = answers[1..3].iter().map(|(_, answer)| match answer {
        Response::Failed(failure) => failure.code,
        other => panic!("{other:?}"),
    });
    assert!(codes.eq([FailureCode::UNSUPPORTED, FailureCode::MALFORMED]));
    assert!(matches!(answers[3].1, Response::Status(_)));
}

#[test]
fn a_delta_produces_the_new_file_and_a_missing_base_is_reported() {
    // Comparing large files would take Miri minutes.
    let base = Random(1).bytes(if cfg!(miri) { 400 } else { 20_000 });
    let mut target = base.clone();
    target[base.len() / 4] ^= 1;
    target.extend(b"more");
    let delta = delta::diff(&base, &target).unwrap();
    let kind = || Kind::Delta {
        base: Digest::of(&base),
        target: Digest::of(&target),
        length: target.len() as u64,
    };
    let device = MemoryDevice::with_task("birds", &base);
    let (pushed, ..) = with_client(
        &device,
        512,
        |_| Faults::default(),
        |client| client.push(&delta, kind()).unwrap(),
    );
    assert!(matches!(pushed.committed, Committed::Adapter { digest, .. } if digest == Digest::of(&target)));
    assert!(device.holds(&target));

    let empty = MemoryDevice::default();
    let (answer, ..) = with_client(&empty, 512, |_| Faults::default(), |client| client.push(&delta, kind()));
    let Err(ClientError::Refused(failure)) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(failure.code, FailureCode::NO_BASE);
}

#[test]
fn a_group_is_switched_in_one_request_and_read_back_in_its_order() {
    let device = MemoryDevice::with_task("helmet", b"one");
    device.0.lock().unwrap().tasks.insert("vest".into(), Digest([1; 32]));
    let (read, ..) = with_client(
        &device,
        512,
        |_| Faults::default(),
        |client| {
            client.switch_group(&["vest", "helmet"]).unwrap();
            client.selection().unwrap()
        },
    );
    assert_eq!(read.unwrap(), ["vest", "helmet"]);
    let active = |device: &MemoryDevice| device.0.lock().unwrap().active.clone();
    // An invalid group reaches no device, and an unknown task changes nothing.
    for (tasks, part) in [
        (&["helmet", "auto"][..], "`auto`"),
        (&["helmet", "helmet"], "twice"),
        (&[], "empty"),
        (&["helmet\nvest", "vest"], "control characters"),
        (&["helmet", "boots"], "boots"),
    ] {
        let (error, ..) = with_client(
            &device,
            512,
            |_| Faults::default(),
            |client| client.switch_group(tasks).unwrap_err(),
        );
        let text = error.to_string();
        assert!(text.contains(part) && text.contains("hint: "), "{text}");
        assert_eq!(active(&device), ["vest", "helmet"]);
    }
}

#[test]
fn a_device_with_one_task_at_a_time_still_switches_and_refuses_a_group_with_advice() {
    let device = MemoryDevice::with_task("helmet", b"one");
    device.0.lock().unwrap().one_task = true;
    with_client(
        &device,
        512,
        |_| Faults::default(),
        |client| {
            client.switch_group(&["helmet"]).unwrap();
            assert_eq!(client.selection().unwrap(), None);
            let refused = client.switch_group(&["helmet", "vest"]).unwrap_err().to_string();
            assert!(
                refused.contains("one task at a time") && refused.contains("hint: update the device"),
                "{refused}"
            );
        },
    );
    assert_eq!(device.0.lock().unwrap().active, ["helmet"]);
}
