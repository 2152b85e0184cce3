//! Runs the examples: two tasks are trained, used together and selected between, and one is sent to a device.

use std::{fs, os::unix::net::UnixListener, path::Path, process::Command, thread};

use clr_vision::{
    adapters::{decode, generate_key, write_secret_key},
    backbones::{Architecture, Backbone, RgbImage, seeded_backbone},
    update::{Link, ServeLimits, SystemClock, serve},
};

use crate::memory_device::MemoryDevice;

/// Side of the input in pixels.
const SIDE: u32 = 32;
/// Number of images of a class.
const IMAGES: u32 = 24;

/// Runs an example, which Cargo builds together with this test.
fn example(name: &str, arguments: &[&str], folder: &Path) -> String {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples").join(name);
    let output = Command::new(&path)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{name}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Returns an image of stripes. Direction and spacing distinguish classes and tasks; `index` moves and dims the
/// stripes.
fn striped(direction: f32, spacing: f32, index: u32) -> RgbImage {
    RgbImage::from_fn(48, 48, |x, y| {
        let along = x as f32 * direction.cos() + y as f32 * direction.sin();
        let wave = (along * std::f32::consts::TAU / spacing + index as f32).sin();
        let noise = (x * 31 + y * 17 + index * 7) % 13;
        image::Rgb([(120.0 + 90.0 * wave) as u8 + noise as u8, 100, (40.0 * direction) as u8])
    })
}

/// Writes a folder per class, with its images.
fn write_task(folder: &Path, spacing: f32) {
    for (class, direction) in [("level", 1.5), ("upright", 0.1)] {
        let class = folder.join(class);
        fs::create_dir_all(&class).unwrap();
        for index in 0..IMAGES {
            let path = class.join(format!("{index}.png"));
            striped(direction, spacing, index).save(path).unwrap();
        }
    }
}

fn small_backbone() -> Backbone {
    let backbone = seeded_backbone(Architecture::MobileNetV2, 7, 10);
    let mut preprocessing = backbone.preprocessing().clone();
    (preprocessing.height, preprocessing.width) = (SIDE, SIDE);
    backbone.with_preprocessing(preprocessing).unwrap()
}

#[test]
fn two_tasks_are_trained_classify_are_chosen_and_pushed() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let backbone = small_backbone();
    backbone.save(&here.join("backbone.onnx")).unwrap();
    for (task, spacing) in [("fine", 3.0), ("coarse", 14.0)] {
        write_task(&here.join(task), spacing);
        let output = format!("{task}.clr");
        let text = example("train_from_folder", &["backbone.onnx", task, &output, "2"], here);
        assert!(text.contains(" epoch 2: "), "{text}");
        let adapter = decode(&fs::read(here.join(&output)).unwrap()).unwrap().adapter;
        assert_eq!(adapter.header.labels, ["level", "upright"]);
        assert_eq!(adapter.header.backbone, backbone.digest());
    }

    striped(0.1, 3.0, 99).save(here.join("fine.png")).unwrap();
    striped(1.5, 14.0, 99).save(here.join("coarse.png")).unwrap();
    let text = example(
        "classify",
        &["backbone.onnx", "fine.png", "fine.clr", "coarse.clr"],
        here,
    );
    let first = |task: &str| text.lines().find(|line| line.starts_with(task)).map(str::to_owned);
    assert!(first("fine: upright").is_some() && first("coarse:").is_some(), "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");

    let arguments = [
        "backbone.onnx",
        "fine.clr",
        "coarse.clr",
        "--",
        "fine.png",
        "coarse.png",
    ];
    let text = example("choose_task", &arguments, here);
    assert_eq!(text, "fine.png: fine, upright\ncoarse.png: coarse, level\n");

    let device = MemoryDevice::default();
    device.0.lock().unwrap().backbone = Some(backbone.digest());
    write_secret_key(&here.join("fleet.key"), &generate_key().unwrap()).unwrap();
    let listener = UnixListener::bind(here.join("device.sock")).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut link = Link::unix(listener.accept().unwrap().0).unwrap();
            serve(&mut link, &device, &SystemClock::default(), &ServeLimits::default()).unwrap();
        });
        let text = example("push_update", &["unix:device.sock", "fine.clr", "fleet.key"], here);
        assert!(text.starts_with("fine: version 1, "), "{text}");
    });
    let kept = device.0.lock().unwrap();
    let installed = &kept.files[&kept.tasks["fine"]];
    assert!(
        decode(installed).unwrap().signature.is_some(),
        "the file was signed on its way"
    );
}
