//! Sends every request with every role, and checks its line in the audit log.

use std::fs;

use clr_transfer::{ClientError, EndpointClient, FailureCode, Kind, Role, Slot, SystemClock, TuneRequest};
use serde_json::Value;

use super::{
    device::{Device, adapter, image, signed},
    peers::{Host, on_tcp, start},
};

type Act = fn(&mut EndpointClient<'_>) -> Result<(), ClientError>;

fn push(client: &mut EndpointClient<'_>, bytes: &[u8], kind: Kind) -> Result<(), ClientError> {
    client.push(bytes, kind, &mut |_| {}).map(|_| ())
}

/// Read-only requests, which are recorded once per hour and peer.
const LOOKS: [&str; 9] = [
    "status",
    "selection",
    "list",
    "tune-status",
    "health",
    "teach-limits",
    "example-tasks",
    "examples",
    "tune-check",
];

/// Every request with the role that it needs and its name in the audit log.
const REQUESTS: [(&str, Role, Act); 33] = [
    ("status", Role::Observe, |client| client.status().map(|_| ())),
    ("selection", Role::Observe, |client| client.selection().map(|_| ())),
    ("list", Role::Observe, |client| client.list().map(|_| ())),
    ("tune-status", Role::Observe, |client| client.tune_status().map(|_| ())),
    ("health", Role::Observe, |client| client.health().map(|_| ())),
    ("switch", Role::Operate, |client| client.switch("birds")),
    ("switch", Role::Operate, |client| {
        client.switch_group(&["birds", "fish"])
    }),
    ("mark-good", Role::Operate, |client| client.mark_good("birds")),
    ("begin", Role::Teach, |client| {
        let kind = Kind::Example {
            task: "birds".into(),
            label: "robin".into(),
        };
        push(client, &image(5), kind)
    }),
    ("tune", Role::Teach, |client| {
        client.tune(&TuneRequest::prototype("birds"))
    }),
    ("stop-tuning", Role::Teach, |client| client.stop_tuning()),
    ("teach", Role::Teach, |client| client.teach_class("birds", "robin")),
    ("teach-limits", Role::Teach, |client| {
        client.teach_limits("birds").map(|_| ())
    }),
    ("example-tasks", Role::Teach, |client| {
        client.example_tasks().map(|_| ())
    }),
    ("examples", Role::Teach, |client| client.examples("birds").map(|_| ())),
    ("open-example", Role::Teach, |client| {
        let id = clr_transfer::Digest([7; 32]);
        client.pull_example("birds", id, 1 << 20, &mut |_| {}).map(|_| ())
    }),
    ("remove-examples", Role::Teach, |client| {
        let selection = clr_transfer::ExampleSelection::Frames;
        client.remove_examples("birds", selection).map(|_| ())
    }),
    ("remove-class", Role::Teach, |client| {
        client.remove_class("birds", "robin").map(|_| ())
    }),
    ("tune-check", Role::Teach, |client| {
        client.tune_check(&TuneRequest::prototype("birds")).map(|_| ())
    }),
    ("begin", Role::Update, |client| {
        push(client, &signed(&adapter("birds", 1)), Kind::Adapter)
    }),
    ("begin", Role::Update, |client| {
        let digest = clr_transfer::Digest([7; 32]);
        let kind = Kind::Delta {
            base: digest,
            target: digest,
            length: 100,
        };
        push(client, b"difference", kind)
    }),
    ("abort", Role::Update, |client| {
        client.abort(clr_transfer::Digest([7; 32]))
    }),
    ("rollback", Role::Update, |client| client.rollback("fish")),
    ("restore", Role::Update, |client| client.restore("fish")),
    ("mark-bad", Role::Update, |client| client.mark_bad("fish")),
    ("open", Role::Update, |client| {
        client.open("birds", Slot::Serving).map(|_| ())
    }),
    ("open", Role::Update, |client| {
        client.pull("birds", Slot::Serving, 1 << 20, &mut |_| {}).map(|_| ())
    }),
    ("remove", Role::Administer, |client| client.remove("fish")),
    ("enrol", Role::Administer, |client| {
        client.enrol("observe".parse().unwrap(), 1).map(|_| ())
    }),
    ("hosts", Role::Administer, |client| client.hosts().map(|_| ())),
    ("revoke", Role::Administer, |client| client.revoke("nobody")),
    ("rotate-key", Role::Administer, |client| {
        client.rotate_key(false).map(|_| ())
    }),
    ("drop-old-key", Role::Administer, |client| {
        client.rotate_key(true).map(|_| ())
    }),
];

fn audit(device: &Device) -> Vec<Value> {
    let text = fs::read_to_string(device.path("state/audit/0.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_request_needs_its_role_and_is_recorded() {
    let (mut device, endpoint, _) = on_tcp("");
    start(&mut device, &endpoint);
    device.push(&signed(&adapter("birds", 1))).unwrap();
    let clock = SystemClock::new();
    for (number, role) in (1..).zip(Role::ALL) {
        let host = Host::enrol(&device, &endpoint, role.name(), number);
        let mut client = endpoint.client(&clock, host.options(&endpoint));
        for (command, needed, act) in REQUESTS {
            let before = audit(&device).len();
            let answer = act(&mut client);
            let allowed = needed == Role::Observe || needed == role || role == Role::Administer;
            let refused =
                matches!(&answer, Err(ClientError::Refused(failure)) if failure.code == FailureCode::NOT_ALLOWED);
            assert_eq!(refused, !allowed, "{command} by {role}: {answer:?}");
            if let Err(error) = &answer
                && refused
            {
                let text = error.to_string();
                assert!(text.contains("hint: ") && text.contains(needed.name()), "{text}");
            }
            // Read-only requests are recorded once an hour; all others are recorded each time, whether refused or not.
            let lines = &audit(&device)[before..];
            let line = lines.iter().find(|line| line["command"] == command);
            match line {
                None => assert!(LOOKS.contains(&command) && !refused, "{command} by {role}: no line"),
                Some(line) => {
                    assert_eq!(line["peer"], format!("host-{number}"));
                    assert_eq!(line["via"], "tcp");
                    assert_eq!(line["key"], host.secret.public().short());
                    assert_eq!(line["result"] == "not-allowed", refused, "{line}");
                }
            }
        }
    }
    device.stop();
    let checked = device.command(&["audit"]).output().unwrap();
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(
        checked.status.success() && text.contains("the chain is intact"),
        "{text}"
    );
}

#[test]
fn the_chain_of_the_audit_log_is_intact_after_every_kill_and_a_changed_line_is_found() {
    let mut device = Device::new("");
    let mut random = crate::seeded::Random(5);
    for round in 0..8 {
        device.start();
        let pid = device.pid();
        let wait = std::time::Duration::from_secs_f32((random.value() + 1.0) * 0.15);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(wait);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        });
        // Until the kill.
        while device
            .host_with(|client| client.switch("none"), |options| options.with_attempts(1))
            .is_err_and(|error| matches!(error, ClientError::Refused(_)))
        {}
        killer.join().unwrap();
        device.kill();
        let checked = device.command(&["audit"]).output().unwrap();
        assert!(
            checked.status.success(),
            "round {round}: {}",
            String::from_utf8_lossy(&checked.stdout)
        );
    }
    let path = device.path("state/audit/0.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.lines().count() > 20);
    fs::write(&path, text.replacen("\"task\":\"none\"", "\"task\":\"some\"", 1)).unwrap();
    let checked = device.command(&["audit"]).output().unwrap();
    assert_eq!(checked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&checked.stdout).contains("the hash of the previous line does not match"));
}
