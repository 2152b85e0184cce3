//! A long run of switches under load: no result mixes tasks, no frame is lost, no memory leaks.

use std::{
    collections::HashMap,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use clr_adapters::{Adapter, Recipe};
use clr_engine::{Engine, Kernels, TaskSet, resident_memory, trim_heap};
use clr_onnx::{Architecture, Backbone};

use crate::common::{adapter, backbone, engine, image};

const TASKS: u64 = 8;
const SWITCHES: u64 = 100_000;
const INSTALLS: u64 = 20;
/// Number of switches after which every allocation has happened once.
const WARM: u64 = 1_000;
const THREADS: usize = 4;
const IMAGES: usize = 3;
/// Switches per frame. A switch takes 0.1 µs, so without this limit the classifying threads would not keep up.
const SWITCHES_A_FRAME: u64 = 50;

/// Prefix of the line with which the child process reports its memory.
const REPORT: &str = "resident bytes:";

#[test]
fn a_hundred_thousand_switches_under_four_threads_mix_no_result_and_leak_no_memory() {
    // Resident memory is measured per process, so this test runs in a process of its own.
    let runner = std::env::var("CLR_TEST_RUNNER").unwrap_or_default();
    let program = std::env::current_exe().unwrap();
    let mut words: Vec<&str> = runner.split_whitespace().collect();
    words.push(program.to_str().unwrap());
    let output = Command::new(words[0])
        .args(&words[1..])
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "endurance::in_a_process_of_its_own",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report = said.split_once(REPORT).unwrap().1.lines().next().unwrap();
    let [warm, end] = report.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{report}");
    };
    let (warm, end): (u64, u64) = (warm.parse().unwrap(), end.parse().unwrap());
    println!("{}", said.lines().find(|line| line.contains("frames")).unwrap());
    // Under an emulator, the emulator's memory counts as the process's.
    assert!(
        !runner.is_empty() || end <= warm + (1 << 20),
        "{warm} bytes, then {end}"
    );
}

#[test]
#[ignore = "started by the test above, as a process of its own"]
fn in_a_process_of_its_own() {
    let backbone = backbone(Architecture::MobileNetV2, 32);
    let engine = engine(backbone.clone(), 1, Kernels::Fused);
    let images: Vec<Vec<f32>> = (0..IMAGES).map(|seed| image(&backbone, seed as u64)).collect();
    let adapters: Vec<Adapter> = (0..TASKS).map(|task| version(&backbone, task, 1)).collect();
    // All adapters that will be installed are created in advance, so that their results are known.
    let installs: Vec<Adapter> = (0..INSTALLS)
        .map(|number| version(&backbone, number % TASKS, 2 + number))
        .collect();
    let answers: HashMap<(String, u64), Vec<Vec<u32>>> = (adapters.iter().chain(&installs))
        .map(|adapter| {
            let resident = engine.prepare(adapter).unwrap();
            let key = (adapter.header.task.clone(), adapter.header.version);
            (
                key,
                images.iter().map(|image| bits(&engine, &resident, image)).collect(),
            )
        })
        .collect();

    let tasks = TaskSet::new();
    for adapter in &adapters {
        tasks.insert(engine.prepare(adapter).unwrap());
    }
    tasks.switch("task 0").unwrap();
    let (ended, frames) = (AtomicBool::new(false), AtomicU64::new(0));
    let seen = Mutex::new(std::collections::BTreeSet::new());
    let mut warm = 0;
    thread::scope(|scope| {
        // Ends the threads even if an assertion below fails.
        let _ended = Ended(&ended);
        for first in 0..THREADS {
            let (engine, tasks, images, answers) = (&engine, &tasks, &images, &answers);
            let (ended, frames, seen) = (&ended, &frames, &seen);
            scope.spawn(move || {
                for index in first.. {
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    let adapter = tasks.active().expect("a task is active all the time");
                    let key = (adapter.task().to_owned(), adapter.version());
                    let image = index % IMAGES;
                    assert!(
                        bits(engine, &adapter, &images[image]) == answers[&key][image],
                        "{key:?}: not its own answer"
                    );
                    frames.fetch_add(1, Ordering::Relaxed);
                    seen.lock().unwrap().insert(key);
                }
            });
        }
        let every = SWITCHES / INSTALLS;
        for switch in 0..SWITCHES {
            if switch % every == WARM / 2 {
                let install = &installs[(switch / every) as usize];
                tasks.insert(engine.prepare(install).unwrap());
                trim_heap();
            }
            tasks.switch(&format!("task {}", switch * 5 % TASKS)).unwrap();
            while frames.load(Ordering::Relaxed) < switch / SWITCHES_A_FRAME {
                thread::yield_now();
            }
            if switch == WARM {
                warm = resident();
            }
        }
    });
    let (frames, seen) = (frames.into_inner(), seen.into_inner().unwrap());
    println!(
        "{SWITCHES} switches, {INSTALLS} installs, {frames} frames by {} adapters",
        seen.len()
    );
    assert!(frames >= SWITCHES / SWITCHES_A_FRAME - 1);
    // Old and new versions alike have answered.
    assert!(
        seen.iter().any(|(_, version)| *version == 1) && seen.iter().any(|(_, version)| *version > 1 + INSTALLS / 2)
    );
    println!("{REPORT} {warm} {}", resident());
}

struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn version(backbone: &Backbone, task: u64, version: u64) -> Adapter {
    let mut adapter = adapter(
        backbone,
        Recipe::Clr,
        &format!("task {task}"),
        10,
        task * 1000 + version,
    );
    adapter.header.version = version;
    adapter
}

fn bits(engine: &Engine, adapter: &clr_engine::ResidentAdapter, image: &[f32]) -> Vec<u32> {
    let logits = engine.logits(adapter, image).unwrap();
    logits.into_iter().map(f32::to_bits).collect()
}

/// Returns the resident memory of this process in bytes.
fn resident() -> u64 {
    trim_heap();
    resident_memory()
}
