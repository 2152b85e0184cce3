//! Kills the device at random moments, under load and during updates. It recovers to a consistent state each time.

use std::{
    thread,
    time::{Duration, Instant},
};

use clr_transfer::{ClientError, ClientOptions, EndpointClient, Kind, TaskState};

use super::device::{Device, adapter, image, signed};

/// Returns the number of rounds. The nightly run sets a larger one.
fn rounds() -> u64 {
    std::env::var("CLR_KILL_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(200)
}

#[test]
fn killed_at_random_moments_it_opens_again_and_no_confirmed_adapter_is_lost() {
    let mut device = Device::new("[trial]\nframes = 2\nlow_confidence = 0.0\n");
    let mut random = crate::seeded::Random(11);
    // Measures the duration of a round, so that kills happen before, during and after it.
    device.start();
    let started = Instant::now();
    assert!(device.try_push(&signed(&adapter("birds", 1))) && device.try_confirm("birds"));
    let usual = started.elapsed().as_secs_f32();
    device.kill();
    let mut confirmed = 1;
    let (mut installed, mut confirmations) = (0, 0);
    for round in 1..=rounds() {
        device.start();
        // The confirmed adapter still exists, or a newer one that was being installed.
        let tasks = device.list();
        let now = tasks
            .iter()
            .find(|task| task.task == "birds")
            .map_or(0, |task| task.version);
        assert!(
            now >= confirmed,
            "round {round}: version {confirmed} was confirmed, {now} is here"
        );
        if let Some(task) = tasks.iter().find(|task| task.state == TaskState::Confirmed) {
            confirmed = confirmed.max(task.version);
        }
        let file = signed(&adapter("birds", round + 1));
        let moment = Duration::from_secs_f32((random.value() + 1.0) * usual);
        let killer = device.pid();
        let killer = thread::spawn(move || {
            thread::sleep(moment);
            let _ = rustix::process::kill_process(killer, rustix::process::Signal::KILL);
        });
        // A round consists of frames, an update, a switch and a confirmation, until the kill.
        for seed in 0..3 {
            device.show(&image(seed));
        }
        if device.try_push(&file) {
            installed += 1;
            if device.try_confirm("birds") {
                confirmations += 1;
                confirmed = round + 1;
            }
        }
        killer.join().unwrap();
        device.kill();
    }
    device.start();
    assert!(device.list()[0].version >= confirmed);
    device.stop();
    let report = device.command(&["verify"]).output().unwrap();
    assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stdout));
    println!(
        "{} rounds, {installed} installed before the kill, {confirmations} confirmed before it",
        rounds()
    );
}

impl Device {
    /// Makes one attempt, and does not wait for a device that has ended.
    fn once<T>(&self, act: impl FnOnce(&mut EndpointClient<'_>) -> Result<T, ClientError>) -> bool {
        let change = |options: ClientOptions| options.with_attempts(0).with_first_attempts(1);
        self.host_with(act, change).is_ok()
    }

    fn try_push(&self, file: &[u8]) -> bool {
        self.once(|client| client.push(file, Kind::Adapter, &mut |_| {}))
    }

    fn try_confirm(&self, task: &str) -> bool {
        self.once(|client| client.mark_good(task))
    }
}
