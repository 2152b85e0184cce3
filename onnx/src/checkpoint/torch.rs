//! The two containers of `torch.save`: the old one (five pickles, then raw storages) and the zip archive.

use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Read};
use std::rc::Rc;

use zip::{CompressionMethod, ZipArchive};

use super::ImportError;
use super::archive::{TORCH_SCRIPT, foreign_archive};
use super::pickle::{MAX_PICKLE_BYTES, Object, PickleError, Reason, StorageRef, Unpickled, Value, unpickle};
use super::walk::{Found, Inventory, inventory};
use super::weights::{Entry, Source, Weights};

/// The first integer in a file of the old format.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;

/// The version of the old format.
const PROTOCOL_VERSION: i128 = 1001;

/// Reads the old format: magic, version, system, state dict and storage keys as pickles; then for every key the number
/// of elements (u64) and the elements.
pub(super) fn read_legacy<'a>(bytes: &'a [u8], origin: &str) -> Result<Weights<'a>, ImportError> {
    let mut rest = bytes;
    let mut next = || {
        let offset = bytes.len() - rest.len();
        let unpickled = unpickle(rest).map_err(|error| refuse(error, offset, origin))?;
        rest = &rest[unpickled.consumed..];
        Ok::<_, ImportError>(unpickled)
    };
    let container = |reason: String| ImportError::Container {
        origin: origin.to_owned(),
        reason,
    };
    if next()?.root != Value::Int(MAGIC) {
        return Err(container(
            "a pickle, but not one of torch.save\nhint: load it in Python and save its weights with torch.save(model.state_dict(), path)"
                .into(),
        ));
    }
    let version = next()?.root;
    if version != Value::Int(PROTOCOL_VERSION) {
        return Err(container(format!(
            "protocol version: expected {PROTOCOL_VERSION}, got {version:?}"
        )));
    }
    let system = next()?;
    if system
        .entries(system.root)
        .and_then(|entries| entries.get("little_endian").copied())
        != Some(Value::Bool(true))
    {
        return Err(container("byte order: expected little-endian".into()));
    }
    let (dictionary, keys) = (next()?, next()?);
    let Some(Object::List(keys_in_order)) = keys.object(keys.root) else {
        return Err(container("the list of storage keys is missing".into()));
    };
    let inventory = tensors(&dictionary, origin)?;
    let elements: HashMap<&str, &StorageRef> = dictionary
        .storages()
        .map(|storage| (storage.key.as_str(), storage))
        .collect();
    let mut storages = HashMap::new();
    for &key in keys_in_order {
        let Some(key) = keys.text(key) else {
            return Err(container("a storage key that is not text".into()));
        };
        let short = || {
            container(format!(
                "storage `{key}`: the file ends before it\nhint: the download may be incomplete"
            ))
        };
        let (count, tail) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let count = usize::try_from(u64::from_le_bytes(*count)).map_err(|_| short())?;
        let Some(storage) = elements.get(key) else {
            return Err(container(format!("storage `{key}` is of unknown type")));
        };
        if count != storage.elements {
            return Err(container(format!(
                "storage `{key}`: expected {} elements, got {count}",
                storage.elements
            )));
        }
        let length = count.checked_mul(storage.element.size()).ok_or_else(short)?;
        let (data, tail) = tail.split_at_checked(length).ok_or_else(short)?;
        storages.insert(key, data);
        rest = tail;
    }
    collect(inventory, origin, bytes.len(), |storage| {
        storages
            .get(storage.key.as_str())
            .map(|&data| (data, None))
            .ok_or_else(|| format!("storage `{}` is missing", storage.key))
    })
}

/// Reads the zip format: `<folder>/data.pkl`, storages in `<folder>/data/<key>`, optionally `<folder>/byteorder`.
pub(super) fn read_zip<'a>(bytes: &'a [u8], origin: &str) -> Result<Weights<'a>, ImportError> {
    let container = |reason: String| ImportError::Container {
        origin: origin.to_owned(),
        reason,
    };
    let mut archive = ZipArchive::new(Cursor::new(bytes))
        .map_err(|error| container(format!("zip archive: {error}\nhint: the download may be incomplete")))?;
    let folder = (0..archive.len())
        .filter_map(|index| {
            Some(
                archive
                    .name_for_index(index)?
                    .ok()?
                    .strip_suffix("data.pkl")?
                    .to_owned(),
            )
        })
        .find(|folder| folder.is_empty() || folder.ends_with('/'));
    let Some(folder) = folder else {
        return Err(container(foreign_archive(&archive)));
    };
    if archive.index_for_name(&format!("{folder}constants.pkl")).is_some() {
        return Err(container(TORCH_SCRIPT.into()));
    }
    let byte_order = format!("{folder}byteorder");
    if archive.index_for_name(&byte_order).is_some() {
        let order = entry(&mut archive, &byte_order, 16).map_err(container)?;
        if order != b"little" {
            return Err(container(format!(
                "byte order: expected little, got {}",
                String::from_utf8_lossy(&order)
            )));
        }
    }
    let pickle = entry(
        &mut archive,
        &format!("{folder}data.pkl"),
        bytes.len().min(MAX_PICKLE_BYTES),
    )
    .map_err(container)?;
    let dictionary = unpickle(&pickle).map_err(|error| refuse(error, 0, origin))?;
    let inventory = tensors(&dictionary, origin)?;
    let mut storages: HashMap<String, Result<&'a [u8], String>> = HashMap::new();
    let mut weights = collect(inventory, origin, bytes.len(), |storage| {
        let path = format!("{folder}data/{}", storage.key);
        let data = storages
            .entry(storage.key.clone())
            .or_insert_with(|| stored(&mut archive, bytes, &path, storage))
            .clone()?;
        Ok((data, Some((0, path))))
    })?;
    weights.archives.push(archive);
    Ok(weights)
}

/// Returns the bytes of `storage` without copying them. The CRC is checked when a tensor is read.
fn stored<'a>(
    archive: &mut ZipArchive<Cursor<&'a [u8]>>,
    bytes: &'a [u8],
    path: &str,
    storage: &StorageRef,
) -> Result<&'a [u8], String> {
    let file = archive
        .by_name(path)
        .map_err(|error| format!("entry `{path}`: {error}\nhint: the file may be incomplete"))?;
    if file.compression() != CompressionMethod::Stored {
        return Err(compressed(path));
    }
    let (elements, size) = (storage.elements, storage.element.size());
    if Some(file.size()) != elements.checked_mul(size).map(|length| length as u64) {
        return Err(format!(
            "storage `{}`: expected {elements} × {size} bytes, got {}",
            storage.key,
            file.size()
        ));
    }
    let start = file.data_start().and_then(|start| usize::try_from(start).ok());
    let end = start.and_then(|start| start.checked_add(file.size() as usize));
    start
        .zip(end)
        .and_then(|(start, end)| bytes.get(start..end))
        .ok_or_else(|| format!("entry `{path}` ends after the file\nhint: the file may be incomplete"))
}

fn compressed(path: &str) -> String {
    format!(
        "entry `{path}` is compressed, torch.save stores\nhint: the archive was packed again; in Python: torch.save(torch.load(path), \"weights.pth\")"
    )
}

/// Returns one stored entry of at most `limit` bytes, after checking its CRC.
fn entry(archive: &mut ZipArchive<Cursor<&[u8]>>, name: &str, limit: usize) -> Result<Vec<u8>, String> {
    let file = archive
        .by_name(name)
        .map_err(|error| format!("entry `{name}`: {error}"))?;
    if file.compression() != CompressionMethod::Stored {
        return Err(compressed(name));
    }
    if file.size() > limit as u64 {
        return Err(format!("entry `{name}`: at most {limit} bytes, got {}", file.size()));
    }
    let mut data = Vec::with_capacity(file.size() as usize);
    file.take(limit as u64)
        .read_to_end(&mut data)
        .map_err(|error| format!("entry `{name}`: {error}"))?;
    Ok(data)
}

pub(super) fn refuse(error: PickleError, start: usize, origin: &str) -> ImportError {
    let (origin, offset) = (origin.to_owned(), start + error.offset);
    match error.reason {
        Reason::Global(global) => ImportError::ForbiddenGlobal { origin, offset, global },
        Reason::Malformed(reason) => ImportError::Pickle { origin, offset, reason },
    }
}

fn tensors(unpickled: &Unpickled, origin: &str) -> Result<Inventory, ImportError> {
    inventory(unpickled).map_err(|reason| ImportError::Container {
        origin: origin.to_owned(),
        reason,
    })
}

/// Returns the tensors with their storages. `storage` returns the bytes of a storage, and the entry whose CRC has to be
/// checked.
fn collect<'a>(
    inventory: Inventory,
    origin: &str,
    bytes: usize,
    mut storage: impl FnMut(&StorageRef) -> Result<(&'a [u8], Option<(usize, String)>), String>,
) -> Result<Weights<'a>, ImportError> {
    let origin: Rc<str> = origin.into();
    let mut weights = Weights::new(BTreeMap::new(), bytes);
    weights.stated = inventory.stated;
    weights.settings = inventory.settings;
    for Found {
        name,
        container,
        tensor,
    } in inventory.found
    {
        let (shape, source) = match tensor {
            Err(class) => (
                Vec::new(),
                Source::Unreadable(format!("it was saved as `{class}`, expected a dense tensor")),
            ),
            Ok(tensor) => match storage(&tensor.storage) {
                Ok((storage, entry)) => (tensor.shape.clone(), Source::View { tensor, storage, entry }),
                Err(reason) => {
                    return Err(ImportError::Tensor {
                        origin: origin.to_string(),
                        tensor: name,
                        reason,
                    });
                }
            },
        };
        let entry = Entry {
            origin: Rc::clone(&origin),
            shape,
            container,
            source,
        };
        weights.entries.insert(name, entry);
    }
    Ok(weights)
}
