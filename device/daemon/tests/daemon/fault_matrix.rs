//! Fault matrix: damages every file of the state folder in every way, on every kind of disk, and starts the device with
//! too little memory or too few descriptors. In each cell, the device either gives the same result as before, or keeps
//! running and reports the reason.
//!
//! Full and read-only disks are small in-memory file systems, which only root may mount. Without that permission, the
//! test skips these cells and reports that it did.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use serde_json::Value;
use walkdir::WalkDir;

use super::device::{Device, Heard, adapter, image, signed};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    BitFlip,
    Cut,
    Empty,
    Missing,
    Folder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Disk {
    Sound,
    ReadOnly,
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The same result as before.
    Same,
    /// The result of an earlier adapter or of another task, with the reason in the log.
    SteppedDown,
    /// No result, but the device runs and reports the reason.
    SaysWhy,
    /// The device did not start and reported the reason: too little memory or too few descriptors for the network
    /// itself.
    EndedSayingWhy,
}

const DAMAGES: [Damage; 5] = [
    Damage::BitFlip,
    Damage::Cut,
    Damage::Empty,
    Damage::Missing,
    Damage::Folder,
];

/// Runs a device to fill its state folder, and keeps the folder. It contains two versions of the active task, another
/// task on trial, an example, a run state and a partial upload.
fn template() -> (Device, Value) {
    let mut device = Device::with_birds("");
    device.push(&signed(&adapter("birds", 2))).unwrap();
    device.host(|client| client.mark_good("birds")).unwrap();
    device.push(&signed(&adapter("fish", 1))).unwrap();
    device
        .host(|client| client.teach("birds", "wren", &image(77)).map(drop))
        .unwrap();
    let answer = device.ask(&image(1));
    assert_eq!(
        (&answer["task"], &answer["version"]),
        (&"birds".into(), &2.into()),
        "{answer}"
    );
    device.stop();
    // Leftovers of an older version, and of a killed device.
    fs::write(device.path("state/store/checkpoints/birds"), b"CLRtune\x01not one").unwrap();
    fs::write(
        device.path(&format!("state/store/incoming/{}.part", "0".repeat(64))),
        b"CLRpart\x01half",
    )
    .unwrap();
    fs::write(device.path("state/control.sock"), b"left over").unwrap();
    fs::rename(device.path("state"), device.path("template")).unwrap();
    (device, answer)
}

fn copy(from: &Path, to: &Path) {
    for entry in WalkDir::new(from).min_depth(1) {
        let entry = entry.unwrap();
        let to = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(to).unwrap();
        } else {
            // Copies permissions too.
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn damage(path: &Path, damage: Damage) {
    let whole = fs::read(path).unwrap_or_default();
    match damage {
        Damage::BitFlip => {
            let mut bytes = whole.clone();
            let at = bytes.len() * 3 / 5;
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 4;
            }
            fs::write(path, bytes).unwrap();
        }
        Damage::Cut => fs::write(path, &whole[..whole.len() / 2]).unwrap(),
        Damage::Empty => fs::write(path, []).unwrap(),
        Damage::Missing => fs::remove_file(path).unwrap(),
        Damage::Folder => {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
            fs::create_dir(path.join("inner")).unwrap();
        }
    }
}

/// A file system of 4 MiB in memory.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: &Path) -> Option<Self> {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs"])
            .arg(at)
            .output();
        mount
            .is_ok_and(|output| output.status.success())
            .then(|| Self(at.to_owned()))
    }

    fn read_only(&self) {
        let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).status();
        assert!(remounted.unwrap().success());
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filling")).unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Classifies an image on a device that has just started, and stops the device.
fn outcome_of(device: &mut Device, before: &Value, said: usize) -> Result<Outcome, String> {
    device.show(&image(1));
    let heard = device.answer_or_end();
    let log = device.log();
    let log = log.get(said..).unwrap_or_default().to_owned();
    let warned = log.contains("ERROR") || log.contains("WARN");
    let answer = match heard {
        Heard::Result(answer) => answer,
        Heard::End => {
            let status = device.wait();
            return if log.contains("error: ") || log.contains("memory allocation of") {
                Ok(Outcome::EndedSayingWhy)
            } else {
                Err(format!("it ended, {status}\n{log}"))
            };
        }
        Heard::Nothing => {
            device.kill();
            return if log.contains("source lost: ") {
                Ok(Outcome::SaysWhy)
            } else {
                Err(format!("neither an answer nor a reason\n{log}"))
            };
        }
    };
    device.kill();
    let same = ["task", "version", "top"]
        .iter()
        .all(|key| answer[*key] == before[*key]);
    match &answer["error"] {
        Value::Null if same => Ok(Outcome::Same),
        Value::Null if warned => Ok(Outcome::SteppedDown),
        Value::String(reason) if !reason.is_empty() => Ok(Outcome::SaysWhy),
        _ => Err(format!("{answer}\n{log}")),
    }
}

/// Returns the files of the state folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = WalkDir::new(folder)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.path().strip_prefix(folder).unwrap().to_owned())
        .collect();
    files.sort();
    files
}

#[test]
fn with_any_file_damaged_on_any_disk_it_serves_or_reports_the_reason() {
    let (mut device, before) = template();
    let (template, state) = (device.path("template"), device.path("state"));
    let sockets = device.path("run");
    fs::create_dir(&sockets).unwrap();
    device.set_variable("RUNTIME_DIRECTORY", sockets.to_str().unwrap());
    let mut cells: Vec<Vec<PathBuf>> = files(&template).into_iter().map(|file| vec![file]).collect();
    // In addition: a marker file of older versions, and records and keys with both copies damaged.
    cells.push(vec!["auto".into()]);
    cells.push(vec!["store/tasks/birds".into(), "store/copies/birds".into()]);
    cells.push(vec!["store/active".into(), "store/active.copy".into()]);
    cells.push(vec!["store/time".into(), "store/time.copy".into()]);
    cells.push(vec!["device.key".into(), "device.key.copy".into()]);
    cells.push(vec!["device.key".into(), "device.key.copy".into(), "device.pub".into()]);
    let mut counts: BTreeMap<(Disk, Damage), BTreeMap<Outcome, usize>> = BTreeMap::new();
    let (mut wrong, mut stepped) = (Vec::new(), Vec::new());
    let (mut starts, started) = (0, Instant::now());
    'disks: for disk in [Disk::Sound, Disk::ReadOnly, Disk::Full] {
        for cell in &cells {
            for way in DAMAGES {
                fs::create_dir_all(&state).unwrap();
                let mounted = (disk != Disk::Sound).then(|| Mounted::new(&state));
                if matches!(mounted, Some(None)) {
                    println!("LEFT OUT: {disk:?} disks, as this user may not mount one");
                    continue 'disks;
                }
                copy(&template, &state);
                // The marker file selects automatic choice, which needs a profile that these adapters do not have.
                let is_marker = cell[0] == Path::new("auto");
                for file in cell {
                    if is_marker {
                        fs::write(state.join(file), []).unwrap();
                    }
                    damage(&state.join(file), way);
                }
                match (&mounted, disk) {
                    (Some(Some(mounted)), Disk::ReadOnly) => mounted.read_only(),
                    (Some(Some(mounted)), Disk::Full) => mounted.fill(),
                    _ => {}
                }
                let said = device.log().len();
                device.start_only();
                let outcome = outcome_of(&mut device, &before, said);
                starts += 1;
                let named = format!("{disk:?}, {way:?}, {cell:?}");
                match outcome {
                    // No file may prevent the start.
                    Ok(Outcome::EndedSayingWhy) => wrong.push(format!("{named}: it ended\n{}", device.log())),
                    Err(what) => wrong.push(format!("{named}: {what}")),
                    Ok(outcome) => {
                        if outcome != Outcome::Same && !is_marker {
                            stepped.push(format!("{outcome:?}: {named}"));
                        }
                        *counts.entry((disk, way)).or_default().entry(outcome).or_default() += 1;
                    }
                }
                drop(mounted);
                fs::remove_dir_all(&state).unwrap();
            }
        }
    }
    for ((disk, way), outcomes) in &counts {
        println!("{:10} {:10} {outcomes:?}", format!("{disk:?}"), format!("{way:?}"));
    }
    for stepped in &stepped {
        println!("{stepped}");
    }
    println!("{starts} starts in {:.0} s", started.elapsed().as_secs_f32());
    assert!(wrong.is_empty(), "{} cells:\n{}", wrong.len(), wrong.join("\n"));
    // A single damaged file loses at most the adapter that it contains.
    let adapter_or_two = |line: &&String| !line.contains("adapters/") && line.matches("\", \"").count() == 0;
    let costly: Vec<_> = stepped.iter().filter(adapter_or_two).collect();
    assert!(costly.is_empty(), "{costly:#?}");
}

#[test]
fn with_too_little_memory_or_too_few_descriptors_it_serves_or_reports_the_reason_and_keeps_its_state() {
    if Command::new("prlimit").arg("--version").output().is_err() || std::env::var_os("CLR_TEST_RUNNER").is_some() {
        println!("SKIPPED: there is no prlimit here");
        return;
    }
    let (mut device, before) = template();
    let (template, state) = (device.path("template"), device.path("state"));
    let descriptors = [4, 6, 8, 10, 12, 14, 16, 20, 24, 32, 64].map(|most| format!("--nofile={most}:{most}"));
    // With less memory than this, the system cannot load the program.
    let memory = [100_u64, 120, 150, 200, 300, 500, 1_000].map(|most| format!("--as={}", most << 20));
    let mut counts: BTreeMap<(&str, Outcome), usize> = BTreeMap::new();
    for limit in descriptors.iter().chain(&memory) {
        fs::create_dir_all(&state).unwrap();
        copy(&template, &state);
        let said = device.log().len();
        device.start_under(&["prlimit", limit, "--"]);
        let outcome = outcome_of(&mut device, &before, said).unwrap_or_else(|what| panic!("{limit}: {what}"));
        println!("{limit:16} {outcome:?}");
        *counts.entry((limit.split('=').next().unwrap(), outcome)).or_default() += 1;
        // No lasting damage.
        device.start_only();
        let said = device.log().len();
        assert_eq!(
            outcome_of(&mut device, &before, said).unwrap(),
            Outcome::Same,
            "after {limit}"
        );
        fs::remove_dir_all(&state).unwrap();
    }
    println!("{counts:?}");
    for kind in ["--nofile", "--as"] {
        assert!(
            counts.contains_key(&(kind, Outcome::Same)),
            "the widest limit of {kind} is wide enough"
        );
    }
}
