//! Weights in other files are read from the model's folder. Missing files are reported before anything is read.

use std::{fs, path::Path};

use clr_onnx::{
    Backbone, ImportOptions, OnnxError, Op,
    proto::{StringStringEntryProto, TensorProto},
};

use crate::support::{Model, ramp, tensor};

/// Returns a tensor of `shape` whose values are in the file `location`, from `offset` on.
fn outside(name: &str, shape: &[i64], location: &str, offset: Option<usize>, length: Option<usize>) -> TensorProto {
    let entry = |key: &str, value: String| StringStringEntryProto {
        key: Some(key.into()),
        value: Some(value),
    };
    let mut external = vec![entry("location", location.into())];
    external.extend(offset.map(|offset| entry("offset", offset.to_string())));
    external.extend(length.map(|length| entry("length", length.to_string())));
    TensorProto {
        data_location: Some(1),
        external_data: external,
        ..tensor(name, shape, &[])
    }
}

/// Returns a model with two convolutions, whose weights are `first` and `second`.
fn model(first: TensorProto, second: TensorProto) -> Vec<u8> {
    let mut model = Model::new(13)
        .named("one", "Conv", &["x", "w"], "a", &[])
        .named("two", "Conv", &["a", "v"], "y", &[])
        .output("y");
    model.graph.initializer.extend([first, second]);
    model.bytes()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Creates a folder with a model and the file `location`, which contains the model's weights after eight other bytes.
fn folder(location: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let parts = [
        outside("w", &[2, 3, 1, 1], location, Some(8), Some(24)),
        outside("v", &[4, 2, 1, 1], location, Some(32), Some(32)),
    ];
    let [first, second] = parts;
    fs::write(folder.path().join("net.onnx"), model(first, second)).unwrap();
    let file = folder.path().join(location);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, bytes(&ramp(16))).unwrap();
    folder
}

fn error(path: &Path) -> String {
    Backbone::load(path).expect_err("it cannot be read").to_string()
}

#[test]
fn one_file_is_read_by_offset_and_length_through_every_function() {
    for location in [
        "net.onnx.data",
        "./net.onnx.data",
        "weights/part.bin",
        "weights\\part.bin",
    ] {
        let folder = folder(&location.replace('\\', "/"));
        let [first, second] = [("w", [2, 3, 1, 1], 8), ("v", [4, 2, 1, 1], 32)]
            .map(|(name, shape, offset)| outside(name, &shape, location, Some(offset), None));
        let path = folder.path().join("net.onnx");
        fs::write(&path, model(first, second)).unwrap();
        let backbone = Backbone::load(&path).unwrap();
        let Op::Conv(conv) = &backbone.graph().nodes[0].op else {
            panic!("no convolution")
        };
        assert_eq!(conv.weight.values(), &ramp(16)[2..8], "{location}");
        assert_eq!(clr_onnx::import(&path, &ImportOptions::default()).unwrap(), backbone);
    }
}

#[test]
fn several_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let parts = [("w", [2_i64, 3, 1, 1]), ("v", [4, 2, 1, 1])].map(|(name, shape)| {
        let count: i64 = shape.iter().product();
        fs::write(folder.path().join(name), bytes(&ramp(count as usize))).unwrap();
        outside(name, &shape, name, None, None)
    });
    let [first, second] = parts;
    let path = folder.path().join("net.onnx");
    fs::write(&path, model(first, second)).unwrap();
    assert_eq!(Backbone::load(&path).unwrap().sites().len(), 2);
}

#[test]
fn a_missing_file_is_reported_with_its_length_and_a_renamed_one_is_suggested() {
    let folder = folder("net.onnx.data");
    let path = folder.path().join("net.onnx");
    let file = folder.path().join("net.onnx.data");
    fs::rename(&file, folder.path().join("other.data")).unwrap();
    let text = error(&path);
    assert!(
        text.contains("`net.onnx.data`: not found") && text.contains("expected 64 bytes"),
        "{text}"
    );
    assert!(
        text.contains("other.data has this length") && text.contains("rename it to net.onnx.data"),
        "{text}"
    );
    // The hint works.
    fs::rename(folder.path().join("other.data"), &file).unwrap();
    assert!(Backbone::load(&path).is_ok());
    fs::remove_file(&file).unwrap();
    assert!(
        error(&path).contains("copy net.onnx.data from the folder of the export"),
        "{}",
        error(&path)
    );
}

#[test]
fn a_truncated_file_is_reported_with_both_lengths() {
    let folder = folder("net.onnx.data");
    fs::write(folder.path().join("net.onnx.data"), bytes(&ramp(15))).unwrap();
    let text = error(&folder.path().join("net.onnx"));
    assert!(
        text.contains("`net.onnx.data`: expected 64 bytes") && text.contains("got 60 bytes"),
        "{text}"
    );
}

#[test]
fn a_git_lfs_pointer_in_place_of_the_weights_is_reported() {
    let folder = folder("net.onnx.data");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 64\n";
    fs::write(folder.path().join("net.onnx.data"), &pointer[..60]).unwrap();
    let text = error(&folder.path().join("net.onnx"));
    assert!(
        text.contains("Git LFS pointer") && text.contains("git lfs pull"),
        "{text}"
    );
}

#[test]
fn a_path_that_leaves_the_folder_is_refused() {
    let folder = folder("net.onnx.data");
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let path = inner.join("net.onnx");
    let elsewhere = folder.path().join("net.onnx.data").display().to_string();
    for location in [
        "../net.onnx.data",
        "..\\net.onnx.data",
        "a/../../net.onnx.data",
        "/etc/passwd",
        &elsewhere,
        "..",
        "",
    ] {
        let part = |name, shape: &[i64]| outside(name, shape, location, None, None);
        fs::write(&path, model(part("w", &[2, 3, 1, 1]), part("v", &[4, 2, 1, 1]))).unwrap();
        assert!(
            matches!(Backbone::load(&path), Err(OnnxError::External { .. })),
            "{location}: {}",
            error(&path)
        );
    }
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_refused_but_a_cache_of_links_is_read() {
    use std::os::unix::fs::symlink;
    let folder = folder("net.onnx.data");
    let of = |name: &str| folder.path().join(name);
    fs::create_dir(of("snapshot")).unwrap();
    symlink(of("net.onnx.data"), of("snapshot/net.onnx.data")).unwrap();
    fs::copy(of("net.onnx"), of("snapshot/copy.onnx")).unwrap();
    let text = error(&of("snapshot/copy.onnx"));
    assert!(text.contains("a link that leaves the folder"), "{text}");
    // A download cache creates links to the model and its weights in one folder.
    symlink(of("net.onnx"), of("snapshot/net.onnx")).unwrap();
    assert!(Backbone::load(&of("snapshot/net.onnx")).is_ok());
}

#[test]
fn without_a_path_the_error_names_the_needed_file() {
    let folder = folder("net.onnx.data");
    let bytes = fs::read(folder.path().join("net.onnx")).unwrap();
    let text = Backbone::from_bytes(&bytes, "net.onnx").unwrap_err().to_string();
    assert!(
        text.contains("net.onnx.data") && text.contains("only the bytes"),
        "{text}"
    );
}

#[test]
fn many_tensors_on_the_same_bytes_are_refused_before_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("data"), bytes(&ramp(6))).unwrap();
    let mut all = Model::new(13).named("one", "Conv", &["x", "w0"], "y", &[]).output("y");
    let part = |index| outside(&format!("w{index}"), &[2, 3, 1, 1], "data", Some(0), Some(24));
    all.graph.initializer.extend((0..5).map(part));
    let path = folder.path().join("net.onnx");
    fs::write(&path, all.bytes()).unwrap();
    assert!(
        error(&path).contains("120 bytes of tensors overlap in 24"),
        "{}",
        error(&path)
    );
}

#[test]
fn entries_that_are_not_numbers_are_reported() {
    let folder = folder("net.onnx.data");
    let mut wrong = outside("w", &[2, 3, 1, 1], "net.onnx.data", None, None);
    wrong.external_data.push(StringStringEntryProto {
        key: Some("offset".into()),
        value: Some("-8".into()),
    });
    let path = folder.path().join("net.onnx");
    fs::write(&path, model(wrong, tensor("v", &[4, 2, 1, 1], &ramp(8)))).unwrap();
    assert!(
        error(&path).contains("tensor `w`: external data: offset `-8`"),
        "{}",
        error(&path)
    );
}
