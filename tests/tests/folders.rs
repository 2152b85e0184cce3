//! Realistic folders: in all commands, every file is in exactly one line of the report.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::Cursor,
    os::unix::{ffi::OsStrExt as _, fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
    process::Command,
};

use image::{DynamicImage, ImageFormat, codecs::gif::GifEncoder};
use serde_json::Value;

use crate::fixtures::{SIDE, Workbench, image};

/// Number of files.
const FILES: usize = 1000;

/// Builder of a folder, with the expected report of each file.
struct Folder {
    root: PathBuf,
    expected: BTreeMap<String, &'static str>,
    seed: u64,
}

impl Folder {
    fn put(&mut self, path: &str, bytes: &[u8], outcome: &'static str) {
        let full = self.root.join(path);
        std::fs::create_dir_all(full.parent().unwrap()).unwrap();
        std::fs::write(full, bytes).unwrap();
        self.expect(path, outcome);
    }

    fn expect(&mut self, path: &str, outcome: &'static str) {
        assert!(self.expected.insert(path.to_owned(), outcome).is_none(), "{path} twice");
    }

    /// Returns an image that no other file has.
    fn image(&mut self, class: u32) -> DynamicImage {
        self.seed += 1;
        image(class, self.seed).into()
    }

    fn encoded(&mut self, class: u32, format: ImageFormat) -> Vec<u8> {
        let image = self.image(class);
        encode(&image, format)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Builds a folder with class folders in `Training/` and `Testing/`, and with every kind of problem.
fn troubled(root: &Path) -> Folder {
    let mut folder = Folder {
        root: root.to_owned(),
        expected: BTreeMap::new(),
        seed: 7000,
    };
    let png = ImageFormat::Png;
    for (class, name) in ["cat", "dog", "owl"].into_iter().enumerate() {
        let class = class as u32;
        for (split, many) in [("Training", 4), ("Testing", 2)] {
            let place = |file: &str| format!("{split}/{name}/{file}");
            for index in 0..many {
                for (file, format) in [
                    (format!("{index}.png"), png),
                    (format!("{index}.jfif"), ImageFormat::Jpeg),
                    (format!("{index}.JPG"), ImageFormat::Jpeg),
                    (format!("{index}.bmp"), ImageFormat::Bmp),
                    (format!("{index}.webp"), ImageFormat::WebP),
                    (format!("{index}.ppm"), ImageFormat::Pnm),
                    (format!("{index}.tif"), ImageFormat::Tiff),
                    (format!("no-extension-{index}"), png),
                    (format!("wrong-extension-{index}.jpg"), png),
                    (format!("deeper/still/{index}.png"), png),
                ] {
                    let bytes = folder.encoded(class, format);
                    folder.put(&place(&file), &bytes, "image");
                }
                let grey = DynamicImage::ImageLuma8(folder.image(class).to_luma8());
                folder.put(
                    &place(&format!("{index}.pgm")),
                    &encode(&grey, ImageFormat::Pnm),
                    "image",
                );
                let dark = DynamicImage::ImageLuma16(image::ImageBuffer::from_fn(SIDE, SIDE, |x, y| {
                    image::Luma([(grey.as_luma8().unwrap().get_pixel(x, y).0[0] as u16) << 4])
                }));
                folder.put(&place(&format!("dark-{index}.png")), &encode(&dark, png), "image");
                let flat = image::RgbImage::from_pixel(SIDE, SIDE, image::Rgb([index as u8, 9, class as u8]));
                folder.put(
                    &place(&format!("flat-{index}.png")),
                    &encode(&flat.into(), png),
                    "image",
                );
                let mut moving = Vec::new();
                let mut encoder = GifEncoder::new(&mut moving);
                for _ in 0..2 {
                    let frame = image::Frame::new(folder.image(class).to_rgba8());
                    encoder.encode_frame(frame).unwrap();
                }
                drop(encoder);
                folder.put(&place(&format!("{index}.gif")), &moving, "image");
            }
            // Unsupported formats, and files that are not images.
            let brand = |brand: &str| {
                [
                    &b"\0\0\0\x18ftyp"[..],
                    brand.as_bytes(),
                    b"\0\0\0\0mif1",
                    brand.as_bytes(),
                ]
                .concat()
            };
            let html = b"<!DOCTYPE html><html>not found</html>".to_vec();
            let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n".to_vec();
            let whole = folder.encoded(class, ImageFormat::Jpeg);
            let cut = whole[..whole.len() / 2].to_vec();
            let whole = folder.encoded(class, png);
            let cut_png = whole[..whole.len() * 2 / 3].to_vec();
            // A header with width 0 and a valid checksum.
            let no_width = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\0\0\0\0\x01\x08\x02\0\0\0\xac\xdc\xf7\x1d".to_vec();
            for (file, bytes) in [
                ("IMG_1.HEIC", brand("heic")),
                ("really-heic.jpg", brand("heic")),
                ("a.avif", brand("avif")),
                ("a.jxl", b"\xff\x0a....".to_vec()),
                ("clip.mp4", b"\0\0\0\x14ftypisom\0\0\0\0mp42".to_vec()),
                ("scan.pdf", b"%PDF-1.7".to_vec()),
                ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec()),
                ("layers.psd", b"8BPS\0\x01".to_vec()),
                ("raw.dng", b"II*\0\x08\0\0\0\0\0\0\0\0\0".to_vec()),
                ("page.jpg", html),
                ("pointer.png", pointer),
                ("noise.png", b"nothing of an image".to_vec()),
                ("empty.png", Vec::new()),
                ("cut.jpg", cut),
                ("cut.png", cut_png),
                ("no-width.png", no_width),
            ] {
                folder.put(&place(file), &bytes, "left-out");
            }
            for file in [
                "Thumbs.db",
                ".DS_Store",
                "desktop.ini",
                "._0.png",
                "0.jpg.crdownload",
                "0.jpg.part",
                "~tmp",
                ".hidden.png",
                "via.json",
                "0.xml",
                "notes.txt",
                "boxes.csv",
                "tool.exe",
            ] {
                folder.put(&place(file), b"whatever", "passed-over");
            }
            for file in [
                "__MACOSX/0.png",
                "@eaDir/0.png",
                ".ipynb_checkpoints/0.png",
                ".git/index",
            ] {
                let bytes = folder.encoded(class, png);
                folder.put(&place(file), &bytes, "passed-over");
            }
            symlink("nowhere.png", folder.path(&place("broken-link.png"))).unwrap();
            folder.expect(&place("broken-link.png"), "left-out");
            symlink("..", folder.path(&place("circle"))).unwrap();
            folder.expect(&place("circle"), "left-out");
            assert!(
                Command::new("mkfifo")
                    .arg(folder.path(&place("pipe.jpg")))
                    .status()
                    .unwrap()
                    .success()
            );
            folder.expect(&place("pipe.jpg"), "left-out");
            let bytes = folder.encoded(class, png);
            let name = OsStr::from_bytes(b"caf\xe9.png");
            std::fs::write(folder.path(&place("")).join(name), bytes).unwrap();
            folder.expect(&place("caf\\xE9.png"), "image");
        }
    }
    let socket = UnixListener::bind(folder.path("Training/cat/socket")).unwrap();
    drop(socket);
    folder.expect("Training/cat/socket", "left-out");
    // Linked folders and files with images.
    let outside = folder.root.with_extension("elsewhere");
    std::fs::create_dir_all(&outside).unwrap();
    let bytes = folder.encoded(0, png);
    std::fs::write(outside.join("linked.png"), bytes).unwrap();
    symlink(&outside, folder.path("Training/cat/linked")).unwrap();
    folder.expect("Training/cat/linked/linked.png", "image");
    let bytes = folder.encoded(0, png);
    std::fs::write(outside.with_extension("png"), bytes).unwrap();
    symlink(outside.with_extension("png"), folder.path("Training/cat/linked.png")).unwrap();
    folder.expect("Training/cat/linked.png", "image");
    // Images next to the class folders, and next to the splits.
    for file in ["lost.png", "Training/lost.png", "Testing/lost.png"] {
        let bytes = folder.encoded(0, png);
        folder.put(file, &bytes, "left-out");
    }
    folder.put("README.md", b"about", "passed-over");
    folder.put("labels.csv", b"a,b", "passed-over");
    let mut index = 0;
    while folder.expected.len() < FILES {
        let bytes = folder.encoded(index % 3, png);
        let class = ["cat", "dog", "owl"][index as usize % 3];
        folder.put(&format!("Training/{class}/more-{index}.png"), &bytes, "image");
        index += 1;
    }
    folder
}

/// Returns the report in a command's output: outcome, kind and reason of each file. `strip` is removed from the paths.
fn scan(document: &Value, strip: &str) -> BTreeMap<String, (String, String, String)> {
    let mut files = BTreeMap::new();
    let scan = &document["scan"];
    for line in scan["lines"].as_array().unwrap() {
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        let listed = line["files"].as_array().unwrap();
        assert_eq!(line["count"], listed.len());
        for file in listed {
            let name = file.as_str().unwrap().strip_prefix(strip).unwrap().to_owned();
            let before = files.insert(name.clone(), (text("outcome"), text("kind"), text("reason")));
            assert!(before.is_none(), "{name} is in two lines");
        }
    }
    assert_eq!(scan["files"], files.len());
    files
}

#[test]
fn every_command_reports_a_thousand_files_with_forty_kinds_of_problems_alike() {
    let bench = Workbench::new();
    let folder = troubled(&bench.path("photos"));
    let run = |arguments: &[&str], code: i32| -> Value {
        let output = bench.clr(arguments).args(["--json", "-q"]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|fault| panic!("{fault}: {error}"))
    };
    let given = ["-b", "backbone.onnx", "photos"];
    let train = run(
        &[&["train"][..], &given[..], &["-o", "t.clr", "--recipe", "linear"]].concat(),
        0,
    );
    assert_eq!(train["labels"], serde_json::json!(["cat", "dog", "owl"]));
    let eval = run(
        &[&["eval"][..], &given[..], &["-a", "t.clr", "--split", "all"]].concat(),
        0,
    );
    let doctor = run(&["doctor", "photos"], 1);
    let classify = run(&[&["classify"][..], &given[..], &["-a", "t.clr"]].concat(), 1);

    let told = scan(&train, "");
    let outcomes: BTreeMap<String, &str> = told
        .iter()
        .map(|(file, (outcome, ..))| (file.clone(), outcome.as_str()))
        .collect();
    for (file, expected) in &folder.expected {
        assert_eq!(outcomes.get(file), Some(expected), "{file}");
    }
    assert_eq!(outcomes.len(), FILES);
    assert_eq!(scan(&eval, ""), told);
    assert_eq!(scan(&doctor, ""), told);
    // If the folder is an argument, images without a label are classified too.
    let mut asked = told.clone();
    for (outcome, _, reason) in asked
        .values_mut()
        .filter(|(.., reason)| reason == "it is outside of the class folders")
    {
        *outcome = "image".to_owned();
        reason.clear();
    }
    assert_eq!(scan(&classify, "photos/"), asked);
    let images = asked.values().filter(|(outcome, ..)| outcome == "image").count();
    assert_eq!(classify["results"].as_array().unwrap().len(), images);
    // The report has one line per kind of problem, both of files and of image content.
    let kinds: std::collections::BTreeSet<_> = told.values().filter(|(.., reason)| !reason.is_empty()).collect();
    assert!(kinds.len() >= 30, "{kinds:#?}");
    let checks: Vec<&str> = train["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|warning| warning["check"].as_str())
        .collect();
    for check in ["low-range", "one-colour", "further-images"] {
        assert!(checks.contains(&check), "{check} in {checks:?}");
        let found = doctor["findings"]
            .as_array()
            .unwrap()
            .iter()
            .any(|finding| finding["kind"] == check);
        assert!(found, "{check} by doctor");
    }
}

/// The option in the hint resolves the error.
#[test]
fn ambiguous_folders_are_refused_and_the_hint_works() {
    let bench = Workbench::new();
    for (split, class, number) in
        (0..24).map(|index| (["train", "Train_2"][index % 2], ["cat", "dog"][index / 2 % 2], index))
    {
        let folder = bench.path("photos").join(split).join(class);
        std::fs::create_dir_all(&folder).unwrap();
        image(number as u32 / 2 % 2, 900 + number as u64)
            .save(folder.join(format!("{number}.png")))
            .unwrap();
    }
    let train = [
        "train",
        "-b",
        "backbone.onnx",
        "photos",
        "-o",
        "t.clr",
        "--recipe",
        "linear",
        "--json",
    ];
    let output = bench.clr(&train).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("'Train_2'") && error.contains("'train'"), "{error}");
    let hint = error.lines().find(|line| line.starts_with("hint: ")).unwrap();
    let words: Vec<String> = hint
        .split_whitespace()
        .map(|word| word.replace(['\'', ';'], ""))
        .collect();
    let at = words.iter().position(|word| word == "--splits").unwrap();
    for (options, labels) in [
        (vec!["--splits", &*words[at + 1]], vec!["cat", "dog"]),
        (vec!["--no-splits"], vec!["Train_2", "train"]),
    ] {
        let output = bench.clr(&train).args(&options).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{options:?}: {error}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["labels"], serde_json::json!(labels));
    }
}
