//! External data: tensor values in other files, in the model's folder or below it.
//!
//! Every file is located, and its length compared with what the tensors need, before any value is read. One message
//! therefore names everything that is missing.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::{Component, Path, PathBuf},
};

use crate::{
    OnnxError,
    foreign::lfs_pointer,
    proto::{GraphProto, TensorProto},
};

/// Maximum number of times that a file's bytes are read on average. Tied weights are stored once and read several
/// times.
const MAX_READS: u64 = 4;
/// Maximum number of folder entries that are examined to find a renamed file.
const MAX_ENTRIES: usize = 1000;

/// The files that the tensors of a model refer to. All of them exist and are long enough.
pub(super) struct External {
    files: HashMap<String, PathBuf>,
}

/// The bytes of one file that tensors refer to.
#[derive(Default)]
struct Claim<'a> {
    tensors: usize,
    first: &'a str,
    /// The end of the last tensor, in bytes.
    end: u64,
    total: u64,
}

impl External {
    /// Checks every file that `graph` refers to. `path` is the path of the model.
    ///
    /// # Errors
    /// [`OnnxError::External`] if no path is known, or if a file is missing, too short, outside of the model's folder
    /// or not a regular file.
    pub(super) fn new(graph: &GraphProto, path: Option<&Path>, origin: &str) -> Result<Self, OnnxError> {
        let mut claims: BTreeMap<&str, Claim<'_>> = BTreeMap::new();
        for tensor in tensors(graph).filter(|tensor| is_external(tensor)) {
            let name = tensor.name.as_deref().unwrap_or("");
            let entry = Entry::read(tensor).map_err(|reason| OnnxError::Tensor {
                origin: origin.to_owned(),
                tensor: name.to_owned(),
                reason,
            })?;
            let claim = claims.entry(entry.location).or_default();
            let length = entry.length.or_else(|| stored_bytes(tensor)).unwrap_or(0);
            if claim.tensors == 0 {
                claim.first = name;
            }
            claim.tensors += 1;
            claim.end = claim.end.max(entry.offset.saturating_add(length));
            claim.total = claim.total.saturating_add(length);
        }
        let mut files = HashMap::new();
        for (location, claim) in claims {
            let file = find(location, &claim, path).map_err(|(reason, hint)| OnnxError::External {
                origin: origin.to_owned(),
                file: location.to_owned(),
                reason,
                hint,
            })?;
            files.insert(location.to_owned(), file);
        }
        Ok(Self { files })
    }

    /// Returns the bytes of a tensor; `None` if they are in the model itself.
    pub(super) fn bytes(&self, tensor: &TensorProto) -> Result<Option<Vec<u8>>, String> {
        if !is_external(tensor) {
            return Ok(None);
        }
        let entry = Entry::read(tensor)?;
        let path = self
            .files
            .get(entry.location)
            .ok_or("external data: not a file of this model")?;
        let fail = |error: std::io::Error| format!("external data: {}: {error}", path.display());
        let mut file = File::open(path).map_err(fail)?;
        let available = file.metadata().map_err(fail)?.len().saturating_sub(entry.offset);
        let length = entry.length.or_else(|| stored_bytes(tensor)).unwrap_or(available);
        file.seek(SeekFrom::Start(entry.offset)).map_err(fail)?;
        let mut bytes = Vec::new();
        file.take(length.min(available)).read_to_end(&mut bytes).map_err(fail)?;
        Ok(Some(bytes))
    }
}

fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == Some(1)
}

/// Returns every tensor of a graph: initialisers, sparse ones, and those in attributes.
fn tensors(graph: &GraphProto) -> impl Iterator<Item = &TensorProto> {
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    let sparse = graph.sparse_initializer.iter().chain(
        attributes
            .clone()
            .filter_map(|attribute| attribute.sparse_tensor.as_ref()),
    );
    graph
        .initializer
        .iter()
        .chain(attributes.filter_map(|attribute| attribute.t.as_ref()))
        .chain(sparse.flat_map(|sparse| sparse.values.iter().chain(&sparse.indices)))
}

/// The location of a tensor's values in another file.
struct Entry<'a> {
    location: &'a str,
    offset: u64,
    length: Option<u64>,
}

impl<'a> Entry<'a> {
    fn read(tensor: &'a TensorProto) -> Result<Self, String> {
        let entry = |key: &str| {
            let entry = tensor
                .external_data
                .iter()
                .find(|entry| entry.key.as_deref() == Some(key));
            entry.and_then(|entry| entry.value.as_deref())
        };
        let number = |key: &str| match entry(key) {
            Some(text) => text
                .parse::<u64>()
                .map(Some)
                .map_err(|_| format!("external data: {key} `{text}` is not a number of bytes")),
            None => Ok(None),
        };
        Ok(Self {
            location: entry("location").ok_or("external data without a location")?,
            offset: number("offset")?.unwrap_or(0),
            length: number("length")?,
        })
    }
}

/// Returns the number of bytes that type and shape require.
fn stored_bytes(tensor: &TensorProto) -> Option<u64> {
    let size = match tensor.data_type? {
        TensorProto::FLOAT | TensorProto::INT32 => 4,
        TensorProto::INT64 | TensorProto::DOUBLE => 8,
        TensorProto::FLOAT16 | 4 | 5 | 16 => 2,
        2 | 3 | 9 => 1,
        _ => return None,
    };
    tensor
        .dims
        .iter()
        .try_fold(size, |product: u64, &dim| product.checked_mul(u64::try_from(dim).ok()?))
}

/// Returns the path of an external file, or the reason why it cannot be read, with a hint.
fn find(location: &str, claim: &Claim<'_>, path: Option<&Path>) -> Result<PathBuf, (String, String)> {
    let Some(model) = path else {
        let reason = "the weights are in this file, and only the bytes of the model were given".to_owned();
        return Err((
            reason,
            "load the model from its path, with this file next to it".to_owned(),
        ));
    };
    let inside = "export again with the weights inside the model or in a file next to it: \
                  torch.onnx.export(..., external_data=False)";
    // Exporters on Windows may use backslashes.
    let relative = PathBuf::from(location.replace('\\', "/"));
    let plain = relative
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain || relative.file_name().is_none() {
        return Err((
            "is not a path within the folder of the model".to_owned(),
            inside.to_owned(),
        ));
    }
    let folder = model.parent().unwrap_or(Path::new(""));
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let file = folder.join(&relative);
    let expected = format!(
        "expected {} bytes for {} tensor(s), the first is `{}`",
        claim.end, claim.tensors, claim.first
    );
    let metadata = match fs::metadata(&file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let reason = format!("not found as {}; {expected}", file.display());
            return Err((reason, missing_hint(folder, model, &relative, claim.end)));
        }
        Err(error) => return Err((format!("{}: {error}", file.display()), inside.to_owned())),
    };
    if !metadata.is_file() {
        return Err((
            format!("{} is not a plain file; {expected}", file.display()),
            inside.to_owned(),
        ));
    }
    if !within(&file, folder, model) {
        let reason = format!("{} is a link that leaves the folder of the model", file.display());
        return Err((reason, "put a copy of the file in its place".to_owned()));
    }
    let got = metadata.len();
    if got < claim.end {
        if let Some(size) = start(&file).as_deref().and_then(lfs_pointer) {
            let reason = format!("a Git LFS pointer to {size} bytes, not the file itself; {expected}");
            return Err((reason, "run `git lfs pull` in the repository".to_owned()));
        }
        let hint = format!(
            "it is cut short or of another export: copy or download {} again, together with its model",
            relative.display()
        );
        return Err((format!("{expected}, got {got} bytes"), hint));
    }
    if claim.total > got.saturating_mul(MAX_READS) {
        let reason = format!("{} bytes of tensors overlap in {got} bytes", claim.total);
        return Err((reason, inside.to_owned()));
    }
    Ok(file)
}

/// Returns whether the file, with links resolved, is in the model's folder. If the model itself is a link, its real
/// folder is accepted as well, because download caches link both.
fn within(file: &Path, folder: &Path, model: &Path) -> bool {
    let Ok(real) = file.canonicalize() else { return false };
    let roots = [
        folder.canonicalize().ok(),
        model
            .canonicalize()
            .ok()
            .and_then(|model| model.parent().map(Path::to_owned)),
    ];
    roots.iter().flatten().any(|root| real.starts_with(root))
}

/// Returns the hint for a missing file: a renamed file with the right length, or to copy the file.
fn missing_hint(folder: &Path, model: &Path, relative: &Path, expected: u64) -> String {
    let entries = fs::read_dir(folder).into_iter().flatten().take(MAX_ENTRIES).flatten();
    let fits = |entry: &fs::DirEntry| {
        let length = entry
            .metadata()
            .ok()
            .filter(fs::Metadata::is_file)
            .map(|metadata| metadata.len());
        length == Some(expected) && Some(entry.file_name().as_os_str()) != model.file_name()
    };
    let mut fitting: Vec<_> = entries.filter(fits).map(|entry| entry.file_name()).collect();
    fitting.sort();
    match &fitting[..] {
        [name] => format!(
            "{} has this length: if it is the file, rename it to {}",
            folder.join(name).display(),
            relative.display()
        ),
        _ => format!(
            "copy {} from the folder of the export to {}, or export again with the weights inside the model: \
             torch.onnx.export(..., external_data=False)",
            relative.display(),
            folder.display()
        ),
    }
}

fn start(file: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file).ok()?.take(512).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
