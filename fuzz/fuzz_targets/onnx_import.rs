//! Fuzz target of backbone files: `clr_onnx::Backbone::from_bytes`.
//!
//! A changed byte usually breaks the lengths in a protocol buffer. The bytes are therefore tried unchanged, and a
//! second time as a list of changes to a valid model with one node of every operator.
#![no_main]

#[path = "../../adapters/format/tests/allocation.rs"]
mod allocation;

use std::sync::LazyLock;

use clr_onnx::{
    Backbone,
    proto::{GraphProto, ModelProto},
};
use libfuzzer_sys::{
    arbitrary::{self, Arbitrary, Unstructured},
    fuzz_target,
};
use prost::Message as _;

/// Maximum bytes of memory per byte of the file, in addition to the importer's caps.
const PER_BYTE: usize = 1 << 10;
const BASE: usize = 64 << 20;

/// A change that keeps a file well-formed. Indices are taken modulo the number of elements.
#[derive(Arbitrary, Debug)]
enum Change {
    /// A number of an attribute.
    Number {
        node: u8,
        attribute: u8,
        place: u8,
        value: Number,
    },
    /// A float of an attribute.
    Float {
        node: u8,
        attribute: u8,
        value: f32,
    },
    /// The operator, from another node.
    Operator {
        node: u8,
        other: u8,
    },
    /// Replaces an input by a value from another node's inputs or outputs.
    Input {
        node: u8,
        place: u8,
        other: u8,
        output: bool,
    },
    /// Removes an input or an attribute.
    Fewer {
        node: u8,
        attribute: bool,
    },
    /// The same attribute on another node.
    Attribute {
        node: u8,
        other: u8,
        place: u8,
    },
    /// A constant's dimensions.
    Dims {
        constant: u8,
        dims: Vec<Number>,
    },
    /// A constant's first values.
    Values {
        constant: u8,
        floats: Vec<f32>,
        integers: Vec<Number>,
    },
    /// Sets a constant's type and raw bytes.
    Raw {
        constant: u8,
        kind: u8,
        bytes: Vec<u8>,
    },
    /// A side of the input.
    Side {
        place: u8,
        value: Number,
    },
    /// The output, from any node.
    Output {
        node: u8,
    },
    Opset {
        value: Number,
    },
    /// A node twice.
    Double {
        node: u8,
    },
    Remove {
        node: u8,
    },
}

/// Mostly small numbers, and numbers at which arithmetic overflows.
#[derive(Arbitrary, Debug, Clone, Copy)]
enum Number {
    Small(i8),
    Power(u8, i8),
    Any(i64),
}

impl Number {
    fn get(self) -> i64 {
        match self {
            Self::Small(value) => value.into(),
            Self::Power(power, plus) => (1_i64 << (power % 64)).wrapping_add(plus.into()),
            Self::Any(value) => value,
        }
    }
}

static MODEL: LazyLock<ModelProto> = LazyLock::new(|| {
    let bytes = include_bytes!("../seeds/every_operator.onnx");
    ModelProto::decode(&bytes[..]).expect("a valid model")
});

fn pick<T>(items: &mut [T], place: u8) -> Option<&mut T> {
    let count = items.len().max(1);
    items.get_mut(usize::from(place) % count)
}

fn change(graph: &mut GraphProto, change: &Change, opset: &mut Option<i64>) -> Option<()> {
    match change {
        Change::Number {
            node,
            attribute,
            place,
            value,
        } => {
            let attribute = pick(&mut pick(&mut graph.node, *node)?.attribute, *attribute)?;
            attribute.i = attribute.i.map(|_| value.get());
            if let Some(number) = pick(&mut attribute.ints, *place) {
                *number = value.get();
            }
        }
        Change::Float { node, attribute, value } => {
            pick(&mut pick(&mut graph.node, *node)?.attribute, *attribute)?.f = Some(*value);
        }
        Change::Operator { node, other } => {
            let other = pick(&mut graph.node, *other)?.op_type.clone();
            pick(&mut graph.node, *node)?.op_type = other;
        }
        Change::Input {
            node,
            place,
            other,
            output,
        } => {
            let other = pick(&mut graph.node, *other)?;
            let names = if *output { &mut other.output } else { &mut other.input };
            let name = pick(names, *place)?.clone();
            *pick(&mut pick(&mut graph.node, *node)?.input, *place)? = name;
        }
        Change::Fewer { node, attribute } => {
            let node = pick(&mut graph.node, *node)?;
            if *attribute {
                node.attribute.pop();
            } else {
                node.input.pop();
            }
        }
        Change::Attribute { node, other, place } => {
            let attribute = pick(&mut pick(&mut graph.node, *other)?.attribute, *place)?.clone();
            pick(&mut graph.node, *node)?.attribute.push(attribute);
        }
        Change::Dims { constant, dims } => {
            let constant = pick(&mut graph.initializer, *constant)?;
            constant.dims = dims.iter().map(|dim| dim.get()).collect();
        }
        Change::Values {
            constant,
            floats,
            integers,
        } => {
            let constant = pick(&mut graph.initializer, *constant)?;
            let zipped = constant.float_data.iter_mut().zip(floats);
            zipped.for_each(|(old, new)| *old = *new);
            let zipped = constant.int64_data.iter_mut().zip(integers);
            zipped.for_each(|(old, new)| *old = new.get());
        }
        Change::Raw { constant, kind, bytes } => {
            let constant = pick(&mut graph.initializer, *constant)?;
            constant.data_type = Some((kind % 17).into());
            constant.raw_data = Some(bytes.clone());
        }
        Change::Side { place, value } => {
            let shape = pick(&mut graph.input, 0)?
                .r#type
                .as_mut()?
                .tensor_type
                .as_mut()?
                .shape
                .as_mut()?;
            pick(&mut shape.dim, *place)?.dim_value = Some(value.get());
        }
        Change::Output { node } => {
            let name = pick(&mut graph.node, *node)?.output.first()?.clone();
            pick(&mut graph.output, 0)?.name = Some(name);
        }
        Change::Opset { value } => *opset = Some(value.get()),
        Change::Double { node } => {
            let node = pick(&mut graph.node, *node)?.clone();
            graph.node.push(node);
        }
        Change::Remove { node } => {
            let at = usize::from(*node) % graph.node.len().max(1);
            (at < graph.node.len()).then(|| graph.node.remove(at))?;
        }
    }
    Some(())
}

/// Reads the bytes and uses the result, which must be equal after writing and reading it.
fn check(bytes: &[u8]) {
    let mut read = None;
    let peak = allocation::peak(|| read = Some(Backbone::from_bytes(bytes, "fuzzed.onnx")));
    assert!(
        peak <= BASE + PER_BYTE * bytes.len(),
        "{peak} bytes for a file of {}",
        bytes.len()
    );
    let Some(Ok(backbone)) = read else { return };
    let _ = backbone.value_shapes(3, 5);
    let again = Backbone::from_bytes(&backbone.to_bytes(), "again.onnx").expect("a written backbone can be read");
    assert_eq!(
        again.digest(),
        backbone.digest(),
        "writing and reading changed the network"
    );
    assert_eq!(again.classifier(), backbone.classifier());
}

fuzz_target!(|data: &[u8]| {
    check(data);
    let Ok(changes) = <Vec<Change>>::arbitrary_take_rest(Unstructured::new(data)) else {
        return;
    };
    let mut model = MODEL.clone();
    let mut opset = None;
    let graph = model.graph.as_mut().expect("a graph");
    for each in changes.iter().take(16) {
        let _ = change(graph, each, &mut opset);
    }
    if let (Some(opset), Some(set)) = (opset, model.opset_import.first_mut()) {
        set.version = Some(opset);
    }
    check(&model.encode_to_vec());
});
