//! Sources that are lost, recover, stall, or contain something other than images.

use std::{
    fs,
    io::Write as _,
    os::unix::{fs::symlink, net::UnixListener},
    process::Stdio,
    time::Duration,
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{
    device::{Device, adapter, free_port, image, signed},
    http_client::{http_get, metric},
};

/// Maximum time until the device stops, whatever it is waiting for.
const PROMPT: Duration = Duration::from_secs(2);

fn device_with_health() -> (Device, u16) {
    let port = free_port();
    (
        Device::with_birds(&format!("[http]\nlisten = '127.0.0.1:{port}'\n")),
        port,
    )
}

/// A watch on a removed folder reports nothing, so the device has to detect the removal itself.
#[test]
fn a_removed_folder_is_reported_as_lost_and_watched_again_once_it_is_back() {
    let (mut device, port) = device_with_health();
    device.ask(&image(1));
    fs::remove_dir_all(device.path("frames")).unwrap();
    device.wait_for_log(&["WARN", "source lost", "frames"]);
    assert_eq!(metric(port, "clr_source_up"), 0.0);
    device.wait_until("report of the loss", |_| http_get(port, "/healthz").0 == 503);
    assert!(http_get(port, "/healthz").1.contains("source lost"));
    // Images that exist when the folder is reopened are classified.
    fs::create_dir(device.path("new")).unwrap();
    fs::write(device.path("new/first.png"), image(2)).unwrap();
    fs::rename(device.path("new"), device.path("frames")).unwrap();
    assert_eq!(device.answer()["frame"], "first.png");
    device.wait_for_log(&["INFO", "source is back"]);
    assert_eq!(http_get(port, "/healthz").0, 200);
    assert!(device.ask(&image(3))["error"].is_null());
    assert_eq!(
        (metric(port, "clr_source_losses_total"), metric(port, "clr_source_up")),
        (1.0, 1.0)
    );
    let log = device.log();
    assert_eq!(log.matches("source lost").count(), 1, "{log}");
}

#[test]
fn a_folder_that_is_replaced_in_any_way_is_followed() {
    let mut device = Device::with_birds("");
    device.ask(&image(1));
    let losses = |device: &Device| device.log().matches("source lost").count();
    let at = |device: &Device, name: &str| device.path(name);
    // Renamed, and replaced at once.
    fs::create_dir(at(&device, "other")).unwrap();
    fs::rename(at(&device, "frames"), at(&device, "old")).unwrap();
    fs::rename(at(&device, "other"), at(&device, "frames")).unwrap();
    device.wait_until("first loss", |device| losses(device) >= 1);
    assert!(device.ask(&image(2))["error"].is_null());
    // The path becomes a file, then a link to a folder, then a link to another folder.
    let before = losses(&device);
    fs::remove_dir_all(at(&device, "frames")).unwrap();
    fs::write(at(&device, "frames"), "no folder").unwrap();
    device.wait_until("second loss", |device| losses(device) > before);
    fs::create_dir(at(&device, "one")).unwrap();
    fs::create_dir(at(&device, "two")).unwrap();
    symlink("one", at(&device, "link")).unwrap();
    fs::rename(at(&device, "link"), at(&device, "frames")).unwrap();
    assert!(device.ask(&image(3))["error"].is_null());
    let before = losses(&device);
    symlink("two", at(&device, "link")).unwrap();
    fs::rename(at(&device, "link"), at(&device, "frames")).unwrap();
    device.wait_until("third loss", |device| losses(device) > before);
    assert!(device.ask(&image(4))["error"].is_null());
    assert!(device.terminate().0.success());
}

#[test]
fn a_folder_that_is_missing_at_the_start_is_awaited() {
    let mut device = Device::new("");
    fs::remove_dir(device.path("frames")).unwrap();
    device.start();
    device.wait_for_log(&["WARN", "source lost"]);
    // Commands work meanwhile.
    device.push(&signed(&adapter("birds", 1))).unwrap();
    device.switch("birds");
    fs::create_dir(device.path("frames")).unwrap();
    assert_eq!(device.ask(&image(1))["task"], "birds");
    fs::remove_dir_all(device.path("frames")).unwrap();
    let (status, after) = device.terminate();
    assert!(status.success() && after < PROMPT, "{status} after {after:?}");
}

#[test]
fn anything_but_a_regular_file_is_skipped_with_a_log_line_without_waiting() {
    let mut device = Device::with_birds("");
    device.stop();
    let at = |name: &str| device.path("frames").join(name);
    mknodat(CWD, at("fifo.png"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let _socket = UnixListener::bind(at("socket.png")).unwrap();
    fs::create_dir(at("folder.png")).unwrap();
    symlink("/dev/zero", at("endless.png")).unwrap();
    symlink("nowhere", at("dangling.png")).unwrap();
    fs::File::create(at("huge.png")).unwrap().set_len(1 << 40).unwrap();
    device.start();
    assert!(device.ask(&image(1))["error"].is_null());
    for name in [
        "fifo.png",
        "socket.png",
        "folder.png",
        "endless.png",
        "dangling.png",
        "huge.png",
    ] {
        device.wait_for_log(&["WARN", "image skipped", name]);
    }
    // The same while the device runs.
    let fifo = device.path("new.png");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::rename(fifo, device.path("frames/new.png")).unwrap();
    device.wait_for_log(&["WARN", "image skipped", "new.png"]);
    assert!(device.ask(&image(2))["error"].is_null());
    let (status, after) = device.terminate();
    assert!(status.success() && after < PROMPT, "{status} after {after:?}");
}

#[test]
fn a_stream_stalled_within_a_frame_shows_in_the_metrics_and_does_not_delay_the_end() {
    let port = free_port();
    let source = "[source]\nkind = 'stdin'\nlatest = false\n";
    let mut device = Device::with_source(source, &format!("[http]\nlisten = '127.0.0.1:{port}'\n"));
    device.start();
    device.stdin().write_all(&image(1)).unwrap();
    device.answer();
    device.stdin().write_all(&[7; 1000]).unwrap();
    device.stdin().write_all(&image(2)[..100]).unwrap();
    device.wait_until("count of lost bytes", |_| {
        metric(port, "clr_source_lost_bytes_total") == 1000.0
    });
    device.wait_for_log(&["WARN", "outside complete images"]);
    device.wait_until("age of the last frame", |_| {
        metric(port, "clr_last_frame_age_seconds") > 0.2
    });
    assert_eq!(metric(port, "clr_source_frames_total"), 1.0);
    assert_eq!(http_get(port, "/healthz").0, 200);
    let (status, after) = device.terminate();
    assert!(status.success() && after < PROMPT, "{status} after {after:?}");
}

#[test]
fn a_standard_input_that_cannot_be_read_ends_the_device_with_the_reason() {
    let mut device = Device::with_source("[source]\nkind = 'stdin'\n", "");
    let folder = fs::File::open(device.path("frames")).unwrap();
    let ended = device.command(&["run"]).stdin(Stdio::from(folder)).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot read standard input"), "{said}");
    // The end of a stream is no failure.
    device.start();
    device.close_stdin();
    assert!(device.wait().success());
}

/// A writer that renames its file before closing it causes two events.
#[test]
fn a_file_with_two_events_is_classified_once() {
    let mut device = Device::with_source("[source]\nkind = 'directory'\npath = 'frames'\n", "");
    device.start();
    device.push(&signed(&adapter("birds", 1))).unwrap();
    let unfinished = device.path("frames/.image.png");
    let complete = device.path("frames/image.png");
    let mut file = fs::File::create(&unfinished).unwrap();
    file.write_all(&image(1)).unwrap();
    fs::rename(&unfinished, &complete).unwrap();
    assert_eq!(device.answer()["frame"], "image.png");
    drop(file);
    assert_eq!(device.ask(&image(2))["frame"], "000000.png");
    // Different content under the same name is another frame.
    fs::write(&complete, image(3)).unwrap();
    assert_eq!(device.answer()["frame"], "image.png");
    device.stop();
}
