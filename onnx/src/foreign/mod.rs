//! Files of other tools and damaged files, recognised by content. Each gives a hint how to obtain a readable file.

mod archive;
mod folder;
mod message;
mod text;

use std::path::Path;

use crate::{OnnxError, message::quoted};

pub(crate) use text::lfs_pointer;

/// A file that is neither an ONNX model nor a checkpoint.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// A noun phrase.
    what: String,
    /// A command, or a suggestion what to ask for.
    hint: String,
}

impl Foreign {
    fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            hint: hint.into(),
        }
    }

    /// Creates the refusal of a file that is compiled for execution only, from a model in another format.
    fn compiled(what: &str) -> Self {
        Self::new(
            what,
            "this form cannot be turned back: give the ONNX file that it was made from, or export one from the training framework",
        )
    }

    fn error(self, origin: &str) -> OnnxError {
        OnnxError::Foreign {
            origin: origin.to_owned(),
            what: self.what,
            hint: self.hint,
        }
    }
}

/// Refuses files that are recognised as something other than ONNX or a checkpoint. `origin` is the file's path or name.
pub(crate) fn refuse(bytes: &[u8], origin: &str) -> Result<(), OnnxError> {
    recognise(bytes, origin).map_or(Ok(()), |foreign| Err(foreign.error(origin)))
}

/// Refuses a folder, and suggests files in it that could be given instead.
pub(crate) fn refuse_folder(path: &Path) -> Result<(), OnnxError> {
    if path.is_dir() {
        return Err(folder::recognise(path).error(&path.display().to_string()));
    }
    Ok(())
}

/// Refuses a checkpoint or an adapter where only a backbone is accepted.
pub(crate) fn refuse_other_roles(bytes: &[u8], origin: &str) -> Result<(), OnnxError> {
    let foreign = match bytes {
        [b'P', b'K', 3 | 5, 4 | 6, ..] if cfg!(not(feature = "import")) => {
            checkpoint("a zip archive, as PyTorch and other tools write", origin)
        }
        [b'P', b'K', 3 | 5, 4 | 6, ..] | [0x80, 2..=5, ..] => checkpoint("a file of PyTorch", origin),
        [_, _, _, _, _, _, _, _, b'{', b'"', ..] => checkpoint("a safetensors checkpoint", origin),
        _ => return Ok(()),
    };
    Err(foreign.error(origin))
}

fn checkpoint(what: &str, origin: &str) -> Foreign {
    Foreign::new(
        format!("{what}, expected a backbone"),
        format!(
            "`clr import {} -o backbone.onnx` makes a backbone of a checkpoint",
            quoted(origin)
        ),
    )
}

fn recognise(bytes: &[u8], origin: &str) -> Option<Foreign> {
    if bytes.is_empty() {
        let hint = "copy or download it again, and look for a full disk";
        return Some(Foreign::new(
            "an empty file, expected an ONNX model or a checkpoint",
            hint,
        ));
    }
    if bytes.len() >= 16 && bytes.iter().take(1 << 16).all(|&byte| byte == 0) {
        let hint = "its content was never written: copy or download it again";
        return Some(Foreign::new(
            "a file of zeros, expected an ONNX model or a checkpoint",
            hint,
        ));
    }
    magic(bytes, origin)
        .or_else(|| archive::recognise(bytes, origin))
        .or_else(|| text::recognise(bytes))
        .or_else(|| message::recognise(bytes, origin))
        .or_else(|| extension(bytes, origin))
}

/// Files with a signature at a fixed place.
fn magic(bytes: &[u8], origin: &str) -> Option<Foreign> {
    let at = |place: usize, signature: &[u8]| bytes.get(place..).is_some_and(|rest| rest.starts_with(signature));
    let file = quoted(origin);
    let unpack = |what: &str, command: &str| {
        Foreign::new(
            format!("{what}, expected what is in it"),
            format!("unpack it: {command} {file}"),
        )
    };
    // Unpackers refuse names without their own suffix, unless they write to another place.
    let unpack_one = |what: &str, command: &str| {
        Foreign::new(
            format!("a file packed with {what}, expected what is in it"),
            format!("unpack it: {command} -dc {file} > unpacked, and give that file"),
        )
    };
    Some(match bytes {
        _ if at(4, b"TFL3") => Foreign::new(
            "a TensorFlow Lite model, expected ONNX",
            format!(
                "give the float model that it was made from, or convert it: pip install tf2onnx; python -m tf2onnx.convert --tflite {file} --opset 17 --output model.onnx"
            ),
        ),
        _ if at(4, b"ORTM") => Foreign::new(
            "a model in the format of ONNX Runtime (.ort), expected ONNX",
            "give the .onnx file that it was made from",
        ),
        _ if at(4, b"ET12") => Foreign::compiled("an ExecuTorch program, expected ONNX"),
        _ if at(0, b"\x89HDF\r\n\x1a\n") => Foreign::new(
            "an HDF5 file, as Keras writes it, expected ONNX",
            archive::keras(origin),
        ),
        _ if at(0, b"\x89CLR\r\n\x1a\n") => Foreign::new(
            "a CLR adapter, expected an ONNX model or a checkpoint",
            "an adapter is given with --adapter; the backbone is the .onnx file that it was trained on",
        ),
        _ if at(0, b"ptrt") || at(0, b"ftrt") => Foreign::compiled("a TensorRT engine, expected ONNX"),
        _ if at(0, b"RKNN") => Foreign::compiled("an RKNN model, expected ONNX"),
        _ if at(0, b"GGUF") => Foreign::new(
            "a GGUF file, expected ONNX",
            "this format holds language models; give an image network as ONNX",
        ),
        _ if at(0, b"\x93NUMPY") => Foreign::new(
            "a NumPy array, expected an ONNX model or a checkpoint",
            "export the network to ONNX, or save its state dict",
        ),
        _ if at(0, &[0x1f, 0x8b]) => unpack_one("gzip", "gzip"),
        _ if at(0, &[0x28, 0xb5, 0x2f, 0xfd]) => unpack_one("Zstandard", "zstd"),
        _ if at(0, b"\xfd7zXZ\0") => unpack_one("xz", "xz"),
        _ if at(0, b"BZh") && at(4, b"1AY&SY") => unpack_one("bzip2", "bzip2"),
        _ if at(0, b"7z\xbc\xaf\x27\x1c") => unpack("a 7-Zip archive", "7z x"),
        _ if at(0, b"Rar!\x1a\x07") => unpack("a RAR archive", "unrar x"),
        _ if at(257, b"ustar") => unpack("a tar archive", "tar -xf"),
        _ if at(0, b"\x89PNG") || at(0, &[0xff, 0xd8, 0xff]) => Foreign::new(
            "an image, expected an ONNX model or a checkpoint",
            "images are given to `clr train` and `clr classify`, after the backbone",
        ),
        _ => return None,
    })
}

/// Recognises files without a signature by the suffix of their name.
fn extension(bytes: &[u8], origin: &str) -> Option<Foreign> {
    // A file that starts like a ModelProto is read as one, whatever its name.
    if matches!(bytes, [0x08, 1..=30, ..]) {
        return None;
    }
    let extension = Path::new(origin).extension()?.to_str()?.to_lowercase();
    Some(match extension.as_str() {
        "engine" | "plan" | "trt" => Foreign::compiled("a TensorRT engine by its name, expected ONNX"),
        "mnn" => Foreign::compiled("an MNN model by its name, expected ONNX"),
        "om" | "hef" | "dlc" | "blob" | "nb" | "tmfile" | "kmodel" => {
            Foreign::compiled("a model compiled for one accelerator by its name, expected ONNX")
        }
        "pdmodel" | "pdiparams" => Foreign::new(
            "a Paddle model by its name, expected ONNX",
            "convert it: pip install paddle2onnx; paddle2onnx --model_dir FOLDER --model_filename FILE.pdmodel \
             --params_filename FILE.pdiparams --save_file model.onnx",
        ),
        "weights" => Foreign::new(
            "weights of Darknet by their name, expected ONNX",
            "load them into the framework's network and export that to ONNX",
        ),
        _ => return None,
    })
}
