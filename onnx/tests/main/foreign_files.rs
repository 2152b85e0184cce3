//! Files of other tools and damaged files are recognised, and the error suggests a remedy.

use std::{fs, io::Write as _, path::Path};

use clr_onnx::{Backbone, ImportError, ImportOptions, OnnxError, import, import_bytes};

use crate::support::Model;

/// Returns the error for these bytes under this name. Asserts that every function that reads files gives the same one.
fn refusal(name: &str, bytes: &[u8]) -> String {
    let error = import_bytes(bytes, name, &ImportOptions::default()).expect_err(name);
    assert!(
        matches!(error, ImportError::Onnx(OnnxError::Foreign { .. })),
        "{name}: {error}"
    );
    let text = error.to_string();
    assert!(text.starts_with(name) && text.contains("\nhint: "), "{text}");
    let read = Backbone::from_bytes(bytes, name).expect_err(name).to_string();
    assert_eq!(read, text);
    text
}

fn good() -> Vec<u8> {
    Model::new(13).conv().output("c").bytes()
}

fn zip(names: &[&str]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in names {
        archive
            .start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        archive.write_all(b"content").unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn binary_formats_are_known_by_their_first_bytes() {
    let with = |start: &[u8]| [start, &[1, 2, 3, 4, 200, 201][..]].concat();
    let cases: [(&str, Vec<u8>, &str); 15] = [
        ("a.tflite", with(b"\x1c\0\0\0TFL3"), "TensorFlow Lite"),
        ("a.ort", with(b"\x18\0\0\0ORTM"), "ONNX Runtime"),
        ("a.pte", with(b"\x18\0\0\0ET12"), "ExecuTorch"),
        ("a.h5", with(b"\x89HDF\r\n\x1a\n"), "Keras"),
        ("a.clr", with(b"\x89CLR\r\n\x1a\n"), "adapter"),
        ("a.engine", with(b"ptrt"), "TensorRT"),
        ("b.engine", with(&[0xfe, 0xca]), "TensorRT"),
        ("a.onnx.gz", with(&[0x1f, 0x8b]), "gzip -dc a.onnx.gz"),
        (
            "a b.onnx.zst",
            with(&[0x28, 0xb5, 0x2f, 0xfd]),
            "zstd -dc 'a b.onnx.zst'",
        ),
        ("a.xz", with(b"\xfd7zXZ\0"), "xz -dc"),
        ("a.bz2", with(b"BZh91AY&SY"), "bzip2 -dc"),
        ("a.png", with(b"\x89PNG\r\n\x1a\n"), "an image"),
        ("a.npy", with(b"\x93NUMPY"), "NumPy"),
        ("a.gguf", with(b"GGUF"), "language models"),
        ("a.rknn", with(b"RKNN"), "RKNN"),
    ];
    for (name, bytes, word) in cases {
        let text = refusal(name, &bytes);
        assert!(text.contains(word), "no '{word}' in: {text}");
    }
    let mut tar = vec![b'm'; 600];
    tar[257..262].copy_from_slice(b"ustar");
    assert!(refusal("a.tar", &tar).contains("tar -xf a.tar"));
}

#[test]
fn archives_are_known_by_the_files_in_them() {
    let cases: [(&str, &[&str], &str); 4] = [
        (
            "a.keras",
            &["config.json", "metadata.json", "model.weights.h5"],
            "keras.models.load_model('a.keras')",
        ),
        ("a.zip", &["readme.txt", "x/net.onnx"], "`x/net.onnx`"),
        ("a.mlpackage.zip", &["m/Data/com.apple.CoreML/model.mlmodel"], "Core ML"),
        ("b.zip", &["saved_model.pb", "variables/variables.index"], "SavedModel"),
    ];
    for (name, names, word) in cases {
        let text = refusal(name, &zip(names));
        assert!(text.contains(word), "no '{word}' in: {text}");
    }
}

#[test]
fn text_in_place_of_a_model_is_recognised() {
    let cases = [
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 46823171\n",
            "46823171 bytes",
            "git lfs pull",
        ),
        ("<!DOCTYPE html>\n<html lang=\"en\">", "a web page", "resolve"),
        ("\n  <html><body>404</body>", "a web page", "link"),
        (
            "<?xml version=\"1.0\"?>\n<net name=\"n\" version=\"11\"><layers><layer id=\"0\"/>",
            "OpenVINO",
            "ONNX file",
        ),
        (
            "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>",
            "storage service",
            "download",
        ),
        ("7767517\n75 83\nInput data 0 1 data\n", "ncnn", "ONNX file"),
        (
            "{\"error\": \"Repository not found\"}",
            "Repository not found",
            "download",
        ),
        ("Entry not found", "Entry not found", "download"),
        ("name: \"net\"\nlayer {\n type: \"Convolution\"", "Caffe", "caffemodel"),
        ("[net]\nbatch=1\n", "Darknet", "weights"),
        (
            "<\n   ir_version: 8,\n   opset_import: [\"\" : 17]\n>\n",
            "ONNX model as text",
            "onnxtxt",
        ),
        (
            "ir_version: 8\nproducer_name: \"x\"\n",
            "ONNX model as text",
            "textproto",
        ),
    ];
    for (content, what, hint) in cases {
        for mark in ["", "\u{feff}"] {
            // In an LFS pointer and an ncnn file, nothing may precede the first character.
            if !mark.is_empty() && (content.starts_with("version") || content.starts_with("ir_")) {
                continue;
            }
            let text = refusal("net.onnx", format!("{mark}{content}").as_bytes());
            assert!(text.contains(what) && text.contains(hint), "{text}");
        }
    }
}

#[test]
fn protocol_buffers_of_other_tools_are_recognised_by_their_fields() {
    // Field 403 is the network of a Core ML classifier.
    let text = refusal("a.mlmodel", b"\x08\x04\x12\x02ab\x9a\x19\x03abc");
    assert!(text.contains("Core ML"), "{text}");
    let saved = [b"\x08\x01\x12\xd0\x0f".to_vec(), vec![7; 2000]].concat();
    assert!(refusal("saved_model.pb", &saved).contains("SavedModel"));
    let text = refusal("frozen.pb", b"\x0a\x14\x0a\x05input\x12\x0bPlaceholder\x2a\x00");
    assert!(
        text.contains("first node is a Placeholder") && text.contains("--graphdef frozen.pb"),
        "{text}"
    );
}

#[test]
fn a_truncated_model_is_reported_with_both_lengths() {
    let bytes = good();
    for length in [bytes.len() - 1, bytes.len() / 2, 12] {
        let text = refusal("net.onnx", &bytes[..length]);
        assert!(
            text.contains("cut short: expected at least") && text.contains(&format!("got {length}")),
            "{text}"
        );
    }
    assert!(refusal("net.onnx", b"").contains("an empty file"));
    assert!(refusal("net.onnx", &[0; 4096]).contains("a file of zeros"));
    assert!(Backbone::from_bytes(&bytes, "net.onnx").is_ok());
}

/// A model is read whatever its name is.
#[test]
fn the_name_alone_decides_nothing() {
    for name in ["net.engine", "net.plan", "net.weights", "net", "net.tflite"] {
        assert!(Backbone::from_bytes(&good(), name).is_ok(), "{name}");
    }
}

#[test]
fn folders_are_refused_with_suggestions_from_their_contents() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |path: &Path| {
        let text = import(path, &ImportOptions::default())
            .expect_err("a folder")
            .to_string();
        assert_eq!(Backbone::load(path).expect_err("a folder").to_string(), text);
        text
    };
    assert!(refusal(folder.path()).contains("a folder, expected a file"));
    fs::write(folder.path().join("net.onnx"), good()).unwrap();
    let text = refusal(folder.path());
    let path = folder.path().join("net.onnx");
    assert!(
        text.contains(&format!("hint: give the file in it: {}", path.display())),
        "{text}"
    );
    assert!(import(&path, &ImportOptions::default()).is_ok());
    fs::write(folder.path().join("saved_model.pb"), b"x").unwrap();
    assert!(refusal(folder.path()).contains("SavedModel folder"));
    let package = folder.path().join("net.mlpackage");
    fs::create_dir(&package).unwrap();
    assert!(refusal(&package).contains("Core ML"));
}

#[test]
fn a_checkpoint_in_place_of_a_backbone_gets_a_hint_to_the_import() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.pth");
    fs::write(&path, zip(&["net/data.pkl", "net/version"])).unwrap();
    let text = Backbone::load(&path).expect_err("a checkpoint").to_string();
    assert!(
        text.contains("a file of PyTorch, expected a backbone") && text.contains("clr import "),
        "{text}"
    );
}
