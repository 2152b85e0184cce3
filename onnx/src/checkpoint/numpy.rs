//! `NumPy` arrays in a pickle of dictionaries, lists and tuples. Nothing in the pickle is called or looked up.

use std::collections::{HashSet, VecDeque};

use super::ImportError;
use super::pickle::{Instance, Object, Unpickled, Value, unpickle};
use super::torch::refuse;

/// Maximum number of arrays in a pickle.
const MAX_ARRAYS: usize = 4096;

/// Maximum depth of nested dictionaries and lists.
const MAX_DEPTH: usize = 8;

/// Maximum bytes of a key.
const MAX_KEY: usize = 256;

/// Maximum number of dimensions of an array.
const MAX_RANK: usize = 32;

/// The Python names in a pickle of plain arrays; `NumPy` 2 writes `numpy._core`.
const NAMES: [&str; 4] = [
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.ndarray",
    "numpy.dtype",
];

/// An array in row-major order, whose values are in the pickle.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NumpyArray<'a> {
    /// The keys and positions on the path to the array, joined with dots; empty if the pickle is the array itself.
    pub name: String,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Type of the elements as `NumPy` writes it, such as `f4` or `u1`.
    pub element: String,
    /// The little-endian elements.
    pub bytes: &'a [u8],
}

impl NumpyArray<'_> {
    /// Returns the values of an array of `f4`; `None` if it has another type.
    #[must_use]
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        let (values, _) = self.bytes.as_chunks::<4>();
        (self.element == "f4").then(|| values.iter().map(|&value| f32::from_le_bytes(value)).collect())
    }
}

/// Reads all arrays of a pickle (protocols 2 to 5), in the order of the file. `origin` names the file in errors.
///
/// Only plain arrays in dictionaries, lists and tuples are accepted. Arrays of Python 2 and out-of-band buffers are not.
///
/// # Errors
/// [`ImportError`] if the pickle is damaged, refers to any Python name that plain arrays do not need, or contains an
/// array whose bytes do not fill its shape.
pub fn numpy_arrays<'a>(bytes: &'a [u8], origin: &str) -> Result<Vec<NumpyArray<'a>>, ImportError> {
    let unpickled = unpickle(bytes).map_err(|error| refuse(error, 0, origin))?;
    let container = |reason: String| ImportError::Container {
        origin: origin.to_owned(),
        reason: format!(
            "{reason}\nhint: expected is a dictionary of plain NumPy arrays; in Python 3: pickle.dump(weights, file)"
        ),
    };
    if let Some(other) = unpickled.names().find(|name| !NAMES.contains(name)) {
        return Err(container(format!(
            "pickle: refers to `{other}`, expected only NumPy's arrays"
        )));
    }
    let mut arrays = Vec::new();
    let mut seen = HashSet::new();
    let mut open = VecDeque::from([(unpickled.root, String::new(), 0)]);
    while let Some((value, name, depth)) = open.pop_front() {
        let mut children = Vec::new();
        match unpickled.object(value) {
            Some(Object::Instance(instance)) => {
                if arrays.len() == MAX_ARRAYS {
                    return Err(container(format!("more than {MAX_ARRAYS} arrays")));
                }
                let array = array(instance, &unpickled, bytes);
                let array = array.map_err(|reason| container(format!("array `{name}`: {reason}")))?;
                arrays.push(NumpyArray { name, ..array });
                continue;
            }
            Some(Object::Dict(pairs)) => {
                for &(key, value) in pairs {
                    let Some(key) = unpickled.text(key).filter(|key| key.len() <= MAX_KEY) else {
                        return Err(container(format!(
                            "dictionary `{name}`: expected texts of at most {MAX_KEY} bytes as keys"
                        )));
                    };
                    children.push((key.to_owned(), value));
                }
            }
            Some(Object::List(items) | Object::Tuple(items)) => {
                children.extend(items.iter().enumerate().map(|(index, &item)| (index.to_string(), item)));
            }
            _ => return Err(container(format!("`{name}`: expected an array, got another value"))),
        }
        // A container that occurs twice or contains itself would otherwise multiply the work.
        let Value::Object(index) = value else { continue };
        if !seen.insert(index) || depth == MAX_DEPTH || open.len() + children.len() > MAX_ARRAYS {
            return Err(container(format!(
                "`{name}`: shared or cyclic, nested {MAX_DEPTH} times, or of more than {MAX_ARRAYS} items"
            )));
        }
        let separator = if name.is_empty() { "" } else { "." };
        open.extend(
            children
                .into_iter()
                .map(|(key, value)| (value, [&name, separator, &key].concat(), depth + 1)),
        );
    }
    Ok(arrays)
}

/// Returns the unnamed array that `_reconstruct` and its state describe: `(version, shape, dtype, is column-major,
/// bytes)`.
fn array<'a>(instance: &Instance, unpickled: &Unpickled, pickle: &'a [u8]) -> Result<NumpyArray<'a>, String> {
    let class = unpickled.name(instance.class);
    if !class.ends_with("._reconstruct") {
        return Err(format!("expected an array, got `{class}`"));
    }
    let tuple = |value: Value| match unpickled.object(value) {
        Some(Object::Tuple(items)) => Some(items.as_slice()),
        _ => None,
    };
    let Some(&[Value::Int(1), shape, dtype, Value::Bool(column_major), data]) = instance.state.and_then(tuple) else {
        return Err("its state is not that of a plain array".to_owned());
    };
    let shape: Option<Vec<usize>> = tuple(shape).filter(|shape| shape.len() <= MAX_RANK).and_then(|shape| {
        let side = |&side: &Value| match side {
            Value::Int(side) => usize::try_from(side).ok(),
            _ => None,
        };
        shape.iter().map(side).collect()
    });
    let shape = shape.ok_or_else(|| format!("expected a shape of at most {MAX_RANK} sizes"))?;
    if column_major && shape.len() > 1 {
        return Err("expected row-major order, got column-major".to_owned());
    }
    let (element, size) = element(dtype, unpickled)?;
    let Some(Object::Bytes(place)) = unpickled.object(data) else {
        return Err("expected its values as bytes".to_owned());
    };
    let expected = shape.iter().try_fold(size, |product, &side| product.checked_mul(side));
    if expected != Some(place.len()) {
        return Err(format!("{} bytes do not fill {shape:?} of {element}", place.len()));
    }
    Ok(NumpyArray {
        name: String::new(),
        shape,
        element,
        bytes: &pickle[place.clone()],
    })
}

/// Returns the name and the size in bytes of the numbers that a `dtype` describes.
fn element(dtype: Value, unpickled: &Unpickled) -> Result<(String, usize), String> {
    let Some(Object::Instance(dtype)) = unpickled.object(dtype) else {
        return Err("expected a dtype".to_owned());
    };
    let first = |value: Value, index: usize| match unpickled.object(value) {
        Some(Object::Tuple(items)) => items.get(index).and_then(|&item| unpickled.text(item)),
        _ => None,
    };
    let name = first(dtype.arguments, 0).filter(|_| unpickled.name(dtype.class) == "numpy.dtype");
    let name = name.ok_or("expected a dtype")?;
    let order = dtype.state.and_then(|state| first(state, 1));
    if !matches!(order, Some("<" | "|")) {
        return Err(format!(
            "{name}: expected little-endian numbers, got byte order {order:?}"
        ));
    }
    let size = name
        .strip_prefix(['f', 'i', 'u', 'b'])
        .and_then(|size| size.parse().ok())
        .filter(|size| matches!(size, 1 | 2 | 4 | 8))
        .ok_or_else(|| format!("expected numbers, got `{}`", name.chars().take(16).collect::<String>()))?;
    Ok((name.to_owned(), size))
}
