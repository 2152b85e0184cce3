//! Text files in place of a model: LFS pointers, web pages, and networks described in text by other tools.

use super::Foreign;

/// Number of bytes at the start of a text that are examined.
const LOOKED_AT: usize = 4096;
/// Maximum length of an unknown text that a message quotes.
const SHOWN: usize = 60;

/// Returns the size in bytes of the file that a Git LFS pointer refers to.
pub(crate) fn lfs_pointer(bytes: &[u8]) -> Option<u64> {
    if !bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        return None;
    }
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(512)]);
    let size = text.lines().find_map(|line| line.strip_prefix("size "));
    Some(size.and_then(|size| size.trim().parse().ok()).unwrap_or(0))
}

pub(super) fn recognise(bytes: &[u8]) -> Option<Foreign> {
    if let Some(size) = lfs_pointer(bytes) {
        return Some(Foreign::new(
            format!("a Git LFS pointer to {size} bytes, expected the file itself"),
            "run `git lfs pull` in the repository, or download the file from its web page",
        ));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let start = &bytes[..bytes.len().min(LOOKED_AT)];
    // A cut at the end may split a character.
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&start[..error.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    let control = |character: char| character.is_control() && !matches!(character, '\n' | '\r' | '\t');
    let text = text.trim_start();
    if text.is_empty() || text.chars().any(control) {
        return None;
    }
    // The index of a checkpoint in several files.
    if text.starts_with('{') && text.contains("\"weight_map\"") {
        return None;
    }
    let lower = text.to_lowercase();
    let page = ["<!doctype html", "<html", "<head", "<script"]
        .iter()
        .any(|start| lower.starts_with(start))
        || (lower.starts_with("<?xml") && lower.contains("<html"));
    Some(if page {
        Foreign::new(
            "a web page, expected an ONNX model or a checkpoint",
            "the download gave the page about the file, or a login: use the link of the file itself (on Hugging Face \
             …/resolve/… in place of …/blob/…, on GitHub \"raw\")",
        )
    } else if lower.starts_with("<?xml") && lower.contains("<error>") {
        Foreign::new(
            "an error message of a storage service, expected an ONNX model or a checkpoint",
            "the link has expired or needs a login: download the file again",
        )
    } else if lower.contains("<net ") && lower.contains("<layer") {
        Foreign::compiled("an OpenVINO model, expected ONNX")
    } else if text.starts_with("7767517") {
        Foreign::compiled("an ncnn network, expected ONNX")
    } else if text
        .strip_prefix('<')
        .unwrap_or(text)
        .trim_start()
        .starts_with("ir_version:")
    {
        Foreign::new(
            "an ONNX model as text, expected its binary form",
            "convert it: python -c \"import onnx; onnx.save(onnx.load('FILE', format='textproto'), 'model.onnx')\", with \
             format='onnxtxt' if it starts with <",
        )
    } else if lower.contains("layer {") || lower.contains("layers {") {
        Foreign::new(
            "a Caffe network as text, expected ONNX",
            "give it as ONNX, converted together with its .caffemodel",
        )
    } else if text.starts_with('{') && text.contains("\"nodes\"") && text.contains("\"op\"") {
        Foreign::new(
            "an MXNet network, expected ONNX",
            "export it with mxnet.onnx.export_model, together with its .params",
        )
    } else if lower.starts_with("[net]") {
        Foreign::new(
            "a Darknet network, expected ONNX",
            "load it into a framework and export that to ONNX, together with its .weights",
        )
    } else {
        let line: String = text.lines().next().unwrap_or("").chars().take(SHOWN).collect();
        Foreign::new(
            format!("a text that starts with {line:?}, expected an ONNX model or a checkpoint"),
            "if it was downloaded, this is the server's message: download the file again",
        )
    })
}
