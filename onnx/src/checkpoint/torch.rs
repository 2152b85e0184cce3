//! The two containers of `torch.save`: the old one (five pickles, then raw storages) and the zip archive.

use std::collections::HashMap;
use std::io::{Cursor, Read};

use zip::{CompressionMethod, ZipArchive};

use super::ImportError;
use super::pickle::{MAX_PICKLE_BYTES, Object, PickleError, Reason, StorageRef, TensorRef, Unpickled, Value, unpickle};
use super::state::{Budget, StateDict, plain_name};
use super::views::contiguous;
use crate::Tensor;

/// The first integer in a file of the old format.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;

/// The version of the old format.
const PROTOCOL_VERSION: i128 = 1001;

/// Under these keys training scripts put the state dict beside an optimiser's state and the like.
const NESTED: [&str; 3] = ["state_dict", "model", "model_state_dict"];

/// Reads the old format: magic, version, system, state dict and storage keys as pickles, then for every key the
/// number of elements (u64) and the elements.
pub(super) fn read_legacy(bytes: &[u8], origin: &str) -> Result<StateDict, ImportError> {
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
            "a pickle, but not one of torch.save\nhint: save with torch.save(model.state_dict(), path)".into(),
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
    let tensors = named_tensors(&dictionary, origin)?;
    // All of them, not only those of the state dict: an optimiser's state may lie between.
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
    let mut budget = Budget::new(origin, bytes.len());
    collect(&tensors, origin, &mut budget, |storage| {
        storages
            .get(storage.key.as_str())
            .copied()
            .ok_or_else(|| format!("storage `{}` is missing", storage.key))
    })
}

/// Reads the zip format: `<folder>/data.pkl`, storages in `<folder>/data/<key>`, optionally `<folder>/byteorder`.
pub(super) fn read_zip(bytes: &[u8], origin: &str) -> Result<StateDict, ImportError> {
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
        return Err(container(
            "a zip archive without data.pkl, so not one of torch.save".into(),
        ));
    };
    if archive.index_for_name(&format!("{folder}constants.pkl")).is_some() {
        return Err(container("a TorchScript archive\nhint: save the bare weights with torch.save(model.state_dict(), path), or export ONNX".into()));
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
    let pickle = entry(&mut archive, &format!("{folder}data.pkl"), MAX_PICKLE_BYTES).map_err(container)?;
    let dictionary = unpickle(&pickle).map_err(|error| refuse(error, 0, origin))?;
    let tensors = named_tensors(&dictionary, origin)?;
    let mut storages = HashMap::new();
    // Entries could lie on top of each other; together they may not be longer than the file.
    let mut left = bytes.len();
    for (name, tensor) in &tensors {
        let storage = &tensor.storage;
        if storages.contains_key(storage.key.as_str()) {
            continue;
        }
        let fail = |reason| ImportError::Tensor {
            origin: origin.to_owned(),
            tensor: name.clone(),
            reason,
        };
        let data = entry(&mut archive, &format!("{folder}data/{}", storage.key), left).map_err(fail)?;
        if Some(data.len()) != storage.elements.checked_mul(storage.element.size()) {
            let (elements, size) = (storage.elements, storage.element.size());
            return Err(fail(format!(
                "storage `{}`: expected {elements} × {size} bytes, got {}",
                storage.key,
                data.len()
            )));
        }
        left -= data.len();
        storages.insert(storage.key.as_str(), data);
    }
    let mut budget = Budget::new(origin, bytes.len());
    collect(&tensors, origin, &mut budget, |storage| {
        storages
            .get(storage.key.as_str())
            .map(Vec::as_slice)
            .ok_or_else(|| format!("storage `{}` is missing", storage.key))
    })
}

/// One stored entry of at most `limit` bytes, its CRC checked.
fn entry(archive: &mut ZipArchive<Cursor<&[u8]>>, name: &str, limit: usize) -> Result<Vec<u8>, String> {
    let file = archive
        .by_name(name)
        .map_err(|error| format!("entry `{name}`: {error}"))?;
    if file.compression() != CompressionMethod::Stored {
        return Err(format!(
            "entry `{name}` is compressed, torch.save stores\nhint: save the file again with torch.save"
        ));
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

fn refuse(error: PickleError, start: usize, origin: &str) -> ImportError {
    let (origin, offset) = (origin.to_owned(), start + error.offset);
    match error.reason {
        Reason::Global(global) => ImportError::ForbiddenGlobal { origin, offset, global },
        Reason::Malformed(reason) => ImportError::Pickle { origin, offset, reason },
    }
}

/// The tensors of the state dict, at the root or under one of [`NESTED`], by plain name in order.
fn named_tensors(unpickled: &Unpickled, origin: &str) -> Result<Vec<(String, TensorRef)>, ImportError> {
    let tensors_in = |value: Value| -> Vec<(String, TensorRef)> {
        let entries = unpickled.entries(value).unwrap_or_default();
        let tensor = |(name, value)| match unpickled.object(value) {
            Some(Object::Tensor(tensor)) => Some((plain_name(name).to_owned(), tensor.clone())),
            _ => None,
        };
        let mut tensors: Vec<_> = entries.into_iter().filter_map(tensor).collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        tensors
    };
    let mut tensors = tensors_in(unpickled.root);
    if tensors.is_empty() {
        let root = unpickled.entries(unpickled.root).unwrap_or_default();
        let nested = NESTED.iter().filter_map(|key| root.get(key));
        tensors = nested
            .map(|&value| tensors_in(value))
            .find(|tensors| !tensors.is_empty())
            .unwrap_or_default();
    }
    if tensors.is_empty() {
        let reason = format!(
            "no tensors at the root nor under {}\nhint: save with torch.save(model.state_dict(), path)",
            NESTED.join(", ")
        );
        return Err(ImportError::Container {
            origin: origin.to_owned(),
            reason,
        });
    }
    Ok(tensors)
}

fn collect<'a>(
    tensors: &[(String, TensorRef)],
    origin: &str,
    budget: &mut Budget<'_>,
    storage: impl Fn(&StorageRef) -> Result<&'a [u8], String>,
) -> Result<StateDict, ImportError> {
    let mut state = StateDict::default();
    for (name, tensor) in tensors {
        let fail = |reason| ImportError::Tensor {
            origin: origin.to_owned(),
            tensor: name.clone(),
            reason,
        };
        let count = budget.elements(&tensor.shape)?;
        let data = storage(&tensor.storage).map_err(fail)?;
        let values = contiguous(tensor, count, data).map_err(fail)?;
        state
            .tensors
            .insert(name.clone(), Tensor::new(tensor.shape.clone(), values));
    }
    Ok(state)
}
