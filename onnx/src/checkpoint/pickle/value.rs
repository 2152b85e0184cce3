//! Values of a pickle. Objects are in one flat arena and refer to each other by index, so nesting and cycles in a
//! hostile file can neither overflow the stack nor leak memory.

use std::collections::HashMap;
use std::ops::Range;

/// A value on the machine's stack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of up to 16 bytes.
    Int(i128),
    /// A float.
    Float(f64),
    /// An object of the arena.
    Object(usize),
}

/// An object of the arena.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Object {
    /// `str`.
    Text(String),
    /// `bytes` or `bytearray`: the place of the content in the pickle.
    Bytes(Range<usize>),
    /// Sets, texts that are not UTF-8, and integers of more than 16 bytes. No weights use their content.
    Opaque,
    /// `tuple`.
    Tuple(Vec<Value>),
    /// `list`.
    List(Vec<Value>),
    /// `dict` or `OrderedDict`, in insertion order. Of equal keys, the last one counts.
    Dict(Vec<(Value, Value)>),
    /// A reference to a Python name.
    Global(Global),
    /// A storage, whose raw data are elsewhere in the file.
    Storage(StorageRef),
    /// A view of a storage.
    Tensor(TensorRef),
    /// An object of any other class, as data. Its class is only a recorded name; nothing was looked up or created.
    Instance(Instance),
}

/// An object of an unsupported class.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Instance {
    /// The class or function that would create it; see [`Unpickled::name`].
    pub(crate) class: NameId,
    /// The tuple of arguments.
    pub(crate) arguments: Value,
    /// Items that were set as in a dictionary.
    pub(crate) items: Vec<(Value, Value)>,
    /// Attributes of the object: a dictionary, or a tuple of the dictionary and the dictionary of the slots.
    pub(crate) state: Option<Value>,
}

/// The number of a Python name in a pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NameId(pub(super) usize);

/// The supported Python names, and all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Global {
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2` and its older and newer forms.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter` and the form with attributes.
    RebuildParameter,
    /// `torch._tensor._rebuild_from_type_v2`, which calls another function of this list, for tensors with attributes.
    RebuildFromType,
    /// `torch.FloatStorage` and its kin.
    Storage(Element),
    /// Any other name: kept, without a meaning.
    Other(NameId),
}

impl Global {
    /// Returns the supported object called `module.name`.
    pub(crate) fn of(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => {
                Some(Self::RebuildTensor)
            }
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
            | ("torch.nn.parameter", "Parameter") => Some(Self::RebuildParameter),
            ("torch._tensor", "_rebuild_from_type" | "_rebuild_from_type_v2") => Some(Self::RebuildFromType),
            ("torch" | "torch.storage" | "torch.cuda", storage) => Element::of_storage(storage).map(Self::Storage),
            _ => None,
        }
    }

    /// Returns the class name of an object that a supported function could not create.
    pub(super) fn rebuilder(self) -> &'static str {
        match self {
            Self::Storage(_) => "torch storage",
            _ => "torch._utils._rebuild_tensor",
        }
    }
}

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
    /// Types that f32 cannot represent, or that only newer tensors have. Their sizes are known, but their values are
    /// not read.
    Complex64,
    Complex128,
    QInt8,
    QInt32,
    Untyped,
}

impl Element {
    fn of_storage(name: &str) -> Option<Self> {
        Some(match name {
            "DoubleStorage" => Self::F64,
            "FloatStorage" => Self::F32,
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::Bf16,
            "LongStorage" => Self::I64,
            "IntStorage" => Self::I32,
            "ShortStorage" => Self::I16,
            "CharStorage" => Self::I8,
            "ByteStorage" => Self::U8,
            "BoolStorage" => Self::Bool,
            "ComplexFloatStorage" => Self::Complex64,
            "ComplexDoubleStorage" => Self::Complex128,
            "QInt8Storage" | "QUInt8Storage" => Self::QInt8,
            "QInt32Storage" => Self::QInt32,
            "UntypedStorage" => Self::Untyped,
            _ => return None,
        })
    }

    /// Returns the bytes of one element.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::Complex128 => 16,
            Self::F64 | Self::I64 | Self::Complex64 => 8,
            Self::F32 | Self::I32 | Self::QInt32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool | Self::QInt8 | Self::Untyped => 1,
        }
    }

    /// Returns the reason why values of this type cannot be read, if there is one.
    pub(crate) fn unreadable(self) -> Option<&'static str> {
        match self {
            Self::Complex64 | Self::Complex128 => Some("complex numbers"),
            Self::QInt8 | Self::QInt32 => Some("quantised numbers"),
            Self::Untyped => Some("a type that is not known here, such as float8"),
            _ => None,
        }
    }

    /// Returns one little-endian element of [`size`](Self::size) bytes as f32, rounded to the nearest value.
    pub(crate) fn read(self, bytes: &[u8]) -> f32 {
        fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
            let mut array = [0; N];
            array.copy_from_slice(&bytes[..N]);
            array
        }
        match self {
            Self::F64 => f64::from_le_bytes(array(bytes)) as f32,
            Self::F32 => f32::from_le_bytes(array(bytes)),
            Self::F16 => half::f16::from_le_bytes(array(bytes)).to_f32(),
            Self::Bf16 => half::bf16::from_le_bytes(array(bytes)).to_f32(),
            Self::I64 => i64::from_le_bytes(array(bytes)) as f32,
            Self::I32 => i32::from_le_bytes(array(bytes)) as f32,
            Self::I16 => f32::from(i16::from_le_bytes(array(bytes))),
            Self::I8 => f32::from(i8::from_le_bytes(array(bytes))),
            Self::U8 => f32::from(bytes[0]),
            Self::Bool => f32::from(u8::from(bytes[0] != 0)),
            // Refused before by `unreadable`.
            Self::Complex64 | Self::Complex128 | Self::QInt8 | Self::QInt32 | Self::Untyped => f32::NAN,
        }
    }
}

/// A storage that the pickle refers to by its persistent id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StorageRef {
    /// The storage's name in the container.
    pub(crate) key: String,
    /// Type of its elements.
    pub(crate) element: Element,
    /// Number of its elements.
    pub(crate) elements: usize,
}

/// A strided view of a storage. Offset and strides count elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TensorRef {
    /// The storage.
    pub(crate) storage: StorageRef,
    /// Index of the first element.
    pub(crate) offset: usize,
    /// Dimensions.
    pub(crate) shape: Vec<usize>,
    /// Steps between neighbours, per dimension.
    pub(crate) strides: Vec<usize>,
}

/// The result of reading a pickle.
#[derive(Debug)]
pub(crate) struct Unpickled {
    /// The value left by STOP.
    pub(crate) root: Value,
    /// Length of the pickle in bytes.
    pub(crate) consumed: usize,
    pub(super) arena: Vec<Object>,
    pub(super) names: Vec<String>,
}

impl Unpickled {
    /// Returns the object of `value`.
    pub(crate) fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(index) => self.arena.get(index),
            _ => None,
        }
    }

    /// Returns the Python name with this id, such as `argparse.Namespace`.
    pub(crate) fn name(&self, name: NameId) -> &str {
        self.names.get(name.0).map_or("", String::as_str)
    }

    /// Returns all Python names in the pickle that have no meaning here.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Returns all storages that the pickle refers to.
    pub(crate) fn storages(&self) -> impl Iterator<Item = &StorageRef> {
        self.arena.iter().filter_map(|object| match object {
            Object::Storage(storage) => Some(storage),
            _ => None,
        })
    }

    /// Returns the text of `value`.
    pub(crate) fn text(&self, value: Value) -> Option<&str> {
        match self.object(value) {
            Some(Object::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Returns the entries with text keys of the dictionary `value`. Of equal keys, the last one counts.
    pub(crate) fn entries(&self, value: Value) -> Option<HashMap<&str, Value>> {
        let Some(Object::Dict(pairs)) = self.object(value) else {
            return None;
        };
        Some(
            pairs
                .iter()
                .filter_map(|&(key, value)| Some((self.text(key)?, value)))
                .collect(),
        )
    }
}
