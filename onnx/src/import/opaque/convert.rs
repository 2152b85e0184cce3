//! Conversion of nodes that may be part of an opaque step.

use super::{
    super::{
        Import,
        attributes::Source,
        value::{Dim, Refusal, Value},
    },
    Kind, UNKNOWN,
    infer::{self, Info, Known},
};
use crate::proto::TensorProto;

/// Maximum number of elements of a value inside an opaque step.
const MAX_ELEMENTS: i64 = 1 << 26;
/// Operators of older opsets may have another meaning in a file of opset 17.
pub(super) const OLDEST_OPSET: i64 = 13;

impl<'a> Import<'a> {
    /// Returns the values of a node that becomes part of an opaque step, or the reason why it cannot.
    pub(in super::super) fn foreign(&mut self, source: Source<'a>) -> Result<Vec<Value>, Refusal> {
        let standard = matches!(source.proto.domain.as_deref(), None | Some("" | "ai.onnx"));
        if !standard || !infer::is_known(source.operator()) {
            return Err(Refusal::Unsupported(UNKNOWN.to_owned()));
        }
        if source.opset < OLDEST_OPSET {
            return Err(Refusal::Unsupported(format!(
                "no operation of the graph, and an opaque step needs opset {OLDEST_OPSET} or later, got {}\n  hint: export the model again \
                 with opset 17",
                source.opset
            )));
        }
        if let Some(batch) = self.batch.filter(|&batch| batch != 1) {
            return Err(Refusal::Unsupported(format!(
                "no operation of the graph, and an opaque step computes one image, got a file for {batch}\n  hint: export the \
                 model with a batch of 1, or of any size"
            )));
        }
        let mut inputs = Vec::with_capacity(source.proto.input.len());
        for name in &source.proto.input {
            inputs.push(if name.is_empty() { None } else { Some(self.info(name)?) });
        }
        let outputs = infer::infer(source, &inputs).map_err(Refusal::Unsupported)?;
        for info in &outputs {
            let size = info
                .dims
                .iter()
                .try_fold(1_i64, |product, &(Dim::Known(size) | Dim::Batch(size))| {
                    let product = product.checked_mul(size).filter(|_| size >= 0)?;
                    (product <= MAX_ELEMENTS).then_some(product)
                });
            if size.is_none() {
                return Err(Refusal::Unsupported(format!(
                    "makes a value of {:?}: expected at most {MAX_ELEMENTS} elements",
                    info.dims
                )));
            }
        }
        Ok(outputs.into_iter().map(Info::value).collect())
    }

    /// Returns the known properties of a value of the file.
    fn info(&mut self, name: &'a str) -> Result<Info, Refusal> {
        let batch = self.batch_dim();
        if !self.values.contains_key(name)
            && let Some(&tensor) = self.constants.get(name)
        {
            let value = self.constant(tensor, name)?;
            self.values.insert(name, value);
        }
        let dims = |dims: &[usize]| dims.iter().map(|&dim| Dim::Known(dim as i64)).collect::<Vec<_>>();
        let info = |dims, kind| Info {
            dims,
            kind,
            known: None,
        };
        Ok(match self.values.get(name) {
            Some(Value::Data(value)) => {
                let shape = self.shape(*value);
                info([batch].into_iter().chain(dims(shape.dims())).collect(), Kind::Float)
            }
            Some(Value::View(view)) => info([batch].into_iter().chain(dims(&view.dims())).collect(), Kind::Float),
            Some(Value::Tensor(tensor)) => Info {
                known: (tensor.data().len() <= super::super::folding::MAX_INTEGERS)
                    .then(|| Known::Floats(tensor.data().to_vec())),
                ..info(dims(tensor.shape()), Kind::Float)
            },
            Some(Value::Integers { dims: own, values }) => Info {
                known: Some(Known::Integers(values.clone())),
                ..info(dims(own), Kind::Integer)
            },
            Some(Value::Foreign(foreign)) => info(foreign.dims.clone(), foreign.kind),
            Some(Value::Other(_)) => self.raw(name).ok_or(Refusal::Tainted)?,
            Some(Value::Quantised { .. } | Value::Bytes(_) | Value::Weight(_)) => {
                return Err(Refusal::Unsupported("a quantised value in an opaque step".to_owned()));
            }
            Some(Value::Unknown) | None => return Err(Refusal::Tainted),
        })
    }

    /// Returns sizes and type of a constant whose values are not read.
    fn raw(&self, name: &'a str) -> Option<Info> {
        let tensor = self.raw_constant(name)?;
        tensor.dims.iter().all(|&dim| dim >= 0).then_some(())?;
        let kind = match tensor.data_type? {
            TensorProto::INT64 | TensorProto::INT32 => Kind::Integer,
            super::super::constant::BOOL => Kind::Bool,
            _ => return None,
        };
        Some(Info {
            dims: tensor.dims.iter().map(|&dim| Dim::Known(dim)).collect(),
            kind,
            known: None,
        })
    }

    /// Returns the tensor of an initialiser or a Constant.
    pub(super) fn raw_constant(&self, name: &str) -> Option<&'a TensorProto> {
        if let Some(tensor) = self.constants.get(name) {
            return Some(tensor);
        }
        let node = &self.file.node[*self.producers.get(name)?];
        (node.op_type.as_deref() == Some("Constant")).then_some(())?;
        node.attribute.iter().find_map(|attribute| attribute.t.as_ref())
    }

    /// Returns the batch dimension.
    pub(super) fn batch_dim(&self) -> Dim {
        match self.batch {
            Some(batch) => Dim::Known(batch),
            None => Dim::Batch(1),
        }
    }
}
