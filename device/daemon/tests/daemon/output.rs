//! Results and log lines with a stalled, closed or full output, and foreign text in the log.

use std::{
    fs::{self, File},
    io::{PipeWriter, Read as _, Write as _, pipe},
    os::{fd::OwnedFd, unix::ffi::OsStringExt as _},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, prlimit};

use super::{
    device::{Device, free_port, image},
    http_client::metric,
};

const PROMPT: Duration = Duration::from_secs(2);

/// Returns a stopped device that has `birds` in service, and its HTTP port.
fn prepared() -> (Device, u16) {
    let port = free_port();
    let mut device = Device::with_birds(&format!("[http]\nlisten = '127.0.0.1:{port}'\n"));
    device.stop();
    (device, port)
}

/// Fills a pipe, so that writing to it blocks until it is read.
fn fill(output: &PipeWriter) {
    rustix::io::ioctl_fionbio(output, true).unwrap();
    while rustix::io::write(output, &[b' '; 4096]).is_ok() {}
    while rustix::io::write(output, b" ").is_ok() {}
    rustix::io::ioctl_fionbio(output, false).unwrap();
}

fn answered(port: u16) -> f64 {
    let page = super::http_client::http_get(port, "/metrics").1;
    let line = page.lines().find(|line| line.starts_with("clr_frames_answered_total{"));
    line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[test]
fn a_stalled_reader_delays_neither_frames_nor_commands_nor_the_end() {
    let (mut device, port) = prepared();
    let (mut reader, output) = pipe().unwrap();
    fill(&output);
    device.start_with(Stdio::null(), Stdio::from(OwnedFd::from(output)), None);
    for count in 1..=5 {
        device.show(&image(count));
        device.wait_until("answer", |_| answered(port) >= count as f64);
    }
    assert_eq!(device.status().active_task.as_deref(), Some("birds"));
    let (status, after) = device.terminate();
    assert!(status.success() && after < PROMPT, "{status} after {after:?}");
    // No part of a line was written.
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(text.trim().is_empty(), "{text}");
    device.wait_for_log(&["WARN", "results lost", "lost="]);
}

#[test]
fn results_on_a_full_disk_are_counted_and_the_device_continues() {
    let (mut device, port) = prepared();
    let full = File::options().write(true).open("/dev/full").unwrap();
    device.start_with(Stdio::null(), full.into(), None);
    for count in 1..=3 {
        device.show(&image(count));
        device.wait_until("loss", |_| metric(port, "clr_answers_lost_total") >= count as f64);
    }
    device.wait_for_log(&["WARN", "results lost", "No space left on device"]);
    let (status, after) = device.terminate();
    assert!(status.success() && after < PROMPT, "{status} after {after:?}");
}

#[test]
fn a_line_cut_by_a_full_disk_is_completed_before_the_next_one() {
    let (mut device, port) = prepared();
    let path = device.path("answers");
    device.start_with(Stdio::null(), File::create(&path).unwrap().into(), None);
    let length = || fs::metadata(&path).unwrap().len();
    let limit = |device: &Device, most: Option<u64>| {
        let limit = Rlimit {
            current: most,
            maximum: None,
        };
        prlimit(Some(device.pid()), Resource::Fsize, limit).unwrap();
    };
    device.show(&image(1));
    device.wait_until("answer", |_| length() > 0);
    // Room for half a line.
    let room = length() + 50;
    limit(&device, Some(room));
    device.show(&image(2));
    device.wait_until("half a line", |_| length() == room);
    device.show(&image(3));
    device.wait_until("loss", |_| metric(port, "clr_answers_lost_total") == 1.0);
    limit(&device, None);
    device.show(&image(4));
    device.wait_until("whole line", |_| {
        fs::read_to_string(&path).unwrap().contains("000003.png")
    });
    device.wait_for_log(&["INFO", "results are written to stdout again"]);
    assert!(device.terminate().0.success());
    let text = fs::read_to_string(&path).unwrap();
    let frames: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["frame"].clone())
        .collect();
    assert_eq!(frames, ["000000.png", "000001.png", "000003.png"]);
}

#[test]
fn a_closed_reader_stops_the_device_with_a_reason_and_a_code() {
    let (mut device, _) = prepared();
    let (reader, output) = pipe().unwrap();
    device.start_with(Stdio::null(), Stdio::from(OwnedFd::from(output)), None);
    drop(reader);
    device.show(&image(1));
    assert_eq!(device.wait().code(), Some(4));
    device.wait_for_log(&["ERROR", "reader of the results"]);
    let help = device.command(&["--help"]).output().unwrap();
    assert!(String::from_utf8_lossy(&help.stdout).contains("4 the reader of the results"));
}

#[test]
fn a_stream_is_classified_to_its_end_however_slowly_the_results_are_read() {
    let mut device = Device::with_source("[source]\nkind = 'stdin'\nlatest = false\n", "");
    let (mut reader, output) = pipe().unwrap();
    fill(&output);
    device.start_with(Stdio::piped(), Stdio::from(OwnedFd::from(output)), None);
    for seed in 0..20 {
        device.stdin().write_all(&image(seed)).unwrap();
    }
    device.close_stdin();
    std::thread::sleep(Duration::from_millis(300));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 20);
    assert!(device.wait().success());
}

#[test]
fn a_log_without_a_reader_delays_nothing() {
    let (mut device, port) = prepared();
    let (reader, output) = pipe().unwrap();
    fill(&output);
    device.start_with(Stdio::null(), Stdio::null(), Some(OwnedFd::from(output).into()));
    for count in 1..=3 {
        fs::create_dir(device.path(&format!("frames/{count}.png"))).unwrap();
        device.show(&image(count));
        device.wait_until("answer", |_| answered(port) >= count as f64);
    }
    let (status, after) = device.terminate();
    assert!(status.success() && after < PROMPT, "{status} after {after:?}");
    drop(reader);
}

/// File names must not be able to write lines or terminal control sequences into the log.
#[test]
fn foreign_text_writes_no_lines_and_no_controls_into_the_log() {
    let forged = "x\n2026-11-29T00:00:00.000000Z ERROR forged\r\u{1b}[2J\u{9b}31m\u{202e}";
    let mut device = Device::with_birds("");
    device.stop();
    let config = fs::read_to_string(device.path("device.toml")).unwrap();
    let named = config.replace("name = 'test'", &format!("name = {}", serde_json::json!(forged)));
    // TOML does not allow some raw control characters that JSON leaves unescaped.
    let named = named.replace('\u{9b}', "\\u009b");
    fs::write(device.path("device.toml"), named).unwrap();
    device.start();
    let mut raw = format!("{forged}.png").into_bytes();
    raw.insert(0, 0xff);
    fs::create_dir(device.path("frames").join(std::ffi::OsString::from_vec(raw))).unwrap();
    fs::create_dir(device.path("frames").join(format!("{forged}.png"))).unwrap();
    // Tasks and labels from a peer.
    let _ = device.host(|client| client.switch(forged));
    let _ = device.host(|client| client.remove(forged));
    let _ = device.host(|client| client.teach(forged, forged, &image(1)));
    let _ = device.host(|client| client.teach("birds", forged, &image(2)));
    device.stop();
    device.start();
    device.wait_for_log(&["image skipped"]);
    device.ask(&image(1));
    device.stop();
    let log = device.log();
    assert!(log.contains("\\nforged") || log.contains("\\n2026"), "{log}");
    for line in log.lines() {
        let head: Vec<_> = line.split_whitespace().take(2).collect();
        assert!(
            head[0].ends_with('Z')
                && !line.starts_with("2026-11-29T00:00:00.000000Z")
                && "ERROR WARN INFO".contains(head[1]),
            "{line:?}"
        );
    }
    let raw = |character: char| character != '\n' && (character.is_control() || character == '\u{202e}');
    assert!(!log.contains(raw), "{log:?}");
    // Errors of commands quote foreign text too.
    let refused = device
        .command(&["run", "--config", "\u{1b}[2J\nerror: forged"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !said.contains('\u{1b}') && said.lines().filter(|line| line.starts_with("error:")).count() == 1,
        "{said}"
    );
}
