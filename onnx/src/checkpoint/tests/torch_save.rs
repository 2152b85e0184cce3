//! Writer of `torch.save` files for the tests. Python objects are given as a tree and pickled with protocol 2.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::Tensor;

/// A Python object.
#[derive(Clone)]
pub(super) enum Py {
    None,
    Int(i32),
    Text(String),
    List(Vec<Py>),
    Tuple(Vec<Py>),
    Dict(Vec<(Py, Py)>),
    /// A class or function by reference: module and name.
    Global(&'static str, &'static str),
    /// REDUCE: a call with arguments.
    Call(&'static str, &'static str, Vec<Py>),
    /// NEWOBJ and BUILD: an object of a class, with attributes.
    Object(&'static str, &'static str, Vec<(Py, Py)>),
    /// NEWOBJ and SETITEMS: an object of a dictionary subclass.
    Items(&'static str, &'static str, Vec<(Py, Py)>),
    /// A tensor of f32.
    Tensor(Tensor),
    /// A parameter of f32.
    Parameter(Tensor),
    /// Raw opcodes.
    Raw(Vec<u8>),
}

/// Returns a text.
pub(super) fn text(text: &str) -> Py {
    Py::Text(text.to_owned())
}

/// Returns a dictionary with text keys.
pub(super) fn dict<'a>(entries: impl IntoIterator<Item = (&'a str, Py)>) -> Py {
    Py::Dict(entries.into_iter().map(|(key, value)| (text(key), value)).collect())
}

/// Returns the state dict of `tensors`, with `prefix` before every name.
pub(super) fn state(prefix: &str, tensors: &BTreeMap<String, Tensor>) -> Py {
    let entry = |(name, tensor): (&String, &Tensor)| (Py::Text(format!("{prefix}{name}")), Py::Tensor(tensor.clone()));
    Py::Dict(tensors.iter().map(entry).collect())
}

/// Returns the zip format.
pub(super) fn zip(root: &Py) -> Vec<u8> {
    let (pickle, storages) = pickled(root);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut add = |name: String, bytes: &[u8]| {
        archive.start_file(name, options).expect("the entry starts");
        archive.write_all(bytes).expect("writing to memory succeeds");
    };
    add("weights/data.pkl".into(), &pickle);
    add("weights/byteorder".into(), b"little");
    for (key, storage) in storages.iter().enumerate() {
        add(format!("weights/data/{key}"), storage);
    }
    archive.finish().expect("the archive ends").into_inner()
}

/// Returns a file in the older format.
pub(super) fn legacy(root: &Py) -> Vec<u8> {
    let (pickle, storages) = pickled(root);
    let mut bytes = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec();
    bytes.extend(finished(&dict([("little_endian", Py::Raw(vec![0x88]))])));
    bytes.extend(pickle);
    let keys = (0..storages.len()).map(|key| Py::Text(key.to_string())).collect();
    bytes.extend(finished(&Py::List(keys)));
    for storage in storages {
        bytes.extend((storage.len() as u64 / 4).to_le_bytes());
        bytes.extend(storage);
    }
    bytes
}

fn finished(root: &Py) -> Vec<u8> {
    pickled(root).0
}

fn pickled(root: &Py) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (mut bytes, mut storages) = (vec![0x80, 2], Vec::new());
    write(root, &mut bytes, &mut storages);
    bytes.push(b'.');
    (bytes, storages)
}

fn write(object: &Py, bytes: &mut Vec<u8>, storages: &mut Vec<Vec<u8>>) {
    let global = |bytes: &mut Vec<u8>, module: &str, name: &str| bytes.extend(format!("c{module}\n{name}\n").bytes());
    match object {
        Py::None => bytes.push(b'N'),
        Py::Int(value) => {
            bytes.push(b'J');
            bytes.extend(value.to_le_bytes());
        }
        Py::Text(value) => {
            bytes.push(b'X');
            bytes.extend((value.len() as u32).to_le_bytes());
            bytes.extend(value.bytes());
        }
        Py::List(items) => {
            bytes.extend(b"](");
            for item in items {
                write(item, bytes, storages);
            }
            bytes.push(b'e');
        }
        Py::Tuple(items) => {
            bytes.push(b'(');
            for item in items {
                write(item, bytes, storages);
            }
            bytes.push(b't');
        }
        Py::Dict(entries) => {
            bytes.push(b'}');
            write_entries(entries, bytes, storages);
        }
        Py::Global(module, name) => global(bytes, module, name),
        Py::Call(module, name, arguments) => {
            global(bytes, module, name);
            write(&Py::Tuple(arguments.clone()), bytes, storages);
            bytes.push(b'R');
        }
        Py::Object(module, name, attributes) => {
            global(bytes, module, name);
            bytes.extend(b")\x81}");
            write_entries(attributes, bytes, storages);
            bytes.push(b'b');
        }
        Py::Items(module, name, entries) => {
            global(bytes, module, name);
            bytes.extend(b")\x81");
            write_entries(entries, bytes, storages);
        }
        Py::Tensor(tensor) => {
            let storage = Py::Raw(storage(tensor, storages));
            let sizes = |sizes: &[usize]| Py::Tuple(sizes.iter().map(|&size| Py::Int(size as i32)).collect());
            let strides: Vec<usize> = (1..=tensor.shape().len())
                .map(|axis| tensor.shape()[axis..].iter().product())
                .collect();
            let arguments = vec![storage, Py::Int(0), sizes(tensor.shape()), sizes(&strides)];
            write(
                &Py::Call("torch._utils", "_rebuild_tensor_v2", arguments),
                bytes,
                storages,
            );
        }
        Py::Parameter(tensor) => {
            let arguments = vec![Py::Tensor(tensor.clone()), Py::Raw(vec![0x88]), dict([])];
            write(
                &Py::Call("torch._utils", "_rebuild_parameter", arguments),
                bytes,
                storages,
            );
        }
        Py::Raw(opcodes) => bytes.extend(opcodes),
    }
}

fn write_entries(entries: &[(Py, Py)], bytes: &mut Vec<u8>, storages: &mut Vec<Vec<u8>>) {
    bytes.push(b'(');
    for (key, value) in entries {
        write(key, bytes, storages);
        write(value, bytes, storages);
    }
    bytes.push(b'u');
}

/// Adds a storage with the values of `tensor`, and returns its persistent id.
fn storage(tensor: &Tensor, storages: &mut Vec<Vec<u8>>) -> Vec<u8> {
    let key = storages.len().to_string();
    storages.push(tensor.data().iter().flat_map(|value| value.to_le_bytes()).collect());
    let id = Py::Tuple(vec![
        text("storage"),
        Py::Global("torch", "FloatStorage"),
        Py::Text(key),
        text("cpu"),
        Py::Int(tensor.data().len() as i32),
    ]);
    let mut bytes = Vec::new();
    write(&id, &mut bytes, &mut Vec::new());
    bytes.push(b'Q');
    bytes
}
