//! Zip archives that are not `torch.save` files, with a hint for each kind.

use std::io::Cursor;

use zip::ZipArchive;

/// Message for TorchScript archives. Their code is not read, but their weights can be extracted and saved.
pub(super) const TORCH_SCRIPT: &str = "a TorchScript archive, which is a program; only weights are read\n\
    hint: save its weights with torch.save(torch.jit.load(\"model.pt\").state_dict(), \"weights.pth\") and import those, or export ONNX";

/// Returns the probable kind of a zip archive that was not written by `torch.save`.
pub(super) fn foreign_archive(archive: &ZipArchive<Cursor<&[u8]>>) -> String {
    let any = |test: &dyn Fn(&str) -> bool| {
        (0..archive.len()).any(|index| {
            archive
                .name_for_index(index)
                .and_then(Result::ok)
                .is_some_and(|name| test(&name))
        })
    };
    let (kind, hint) = if any(&|name| has_extension(name, "npy")) {
        (
            "an archive of NumPy arrays",
            "in Python: torch.save({k: torch.from_numpy(v) for k, v in numpy.load(path).items()}, \"weights.pth\")",
        )
    } else if any(&|name| name.contains("models/") && has_extension(name, "json")) {
        (
            "an archive of torch.export",
            "in Python: torch.save(torch.export.load(path).state_dict, \"weights.pth\"), or export ONNX",
        )
    } else if any(&|name| name.ends_with(".data/extern_modules")) {
        (
            "an archive of torch.package",
            "load the model in Python and save its weights with torch.save(model.state_dict(), path)",
        )
    } else if any(&|name| {
        ["pth", "pt", "ckpt", "safetensors", "onnx", "bin"]
            .iter()
            .any(|&end| has_extension(name, end))
    }) {
        (
            "a zip archive around model files",
            "unpack it and import the file inside",
        )
    } else {
        (
            "a zip archive without data.pkl, so not one of torch.save",
            "save with torch.save(model.state_dict(), path)",
        )
    };
    format!("{kind}\nhint: {hint}")
}

fn has_extension(name: &str, extension: &str) -> bool {
    std::path::Path::new(name)
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case(extension))
}
