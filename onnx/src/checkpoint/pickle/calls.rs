//! The calls of a state dict, done here and now: what the pickle names is matched, never looked up.

use super::machine::{Machine, Step, malformed};
use super::value::{Global, Object, StorageRef, TensorRef, Value};
use super::{MAX_NAME, MAX_OPCODES, MAX_RANK, Reason};

impl Machine<'_> {
    /// GLOBAL: pushes the object called `module.name`, if a state dict may refer to it.
    pub(super) fn global(&mut self, module: &str, name: &str) -> Step<()> {
        if module.len() + name.len() > 2 * MAX_NAME {
            return malformed(format!(
                "a name: at most {MAX_NAME} bytes, got {}",
                module.len() + name.len()
            ));
        }
        match Global::of(module, name) {
            Some(global) => {
                self.push(Object::Global(global));
                Ok(())
            }
            None => Err(Reason::Global(format!("{module}.{name}"))),
        }
    }

    /// REDUCE: the few calls a state dict makes, done here and now.
    pub(super) fn reduce(&mut self) -> Step<()> {
        let operands = self.pop_many(2)?;
        let (Some(&Object::Global(callee)), Some(Object::Tuple(arguments))) =
            (self.object(operands[0]), self.object(operands[1]))
        else {
            return malformed("calls what cannot be called");
        };
        let object = match callee {
            Global::OrderedDict => match arguments.as_slice() {
                [] => Object::Dict(Vec::new()),
                &[pairs] => {
                    let pairs = self.pairs(pairs)?;
                    self.copied += pairs.len();
                    if self.copied > MAX_OPCODES {
                        return malformed(format!("more than {MAX_OPCODES} entries"));
                    }
                    Object::Dict(pairs)
                }
                _ => return malformed("OrderedDict: expected at most 1 argument"),
            },
            Global::RebuildTensor => Object::Tensor(self.tensor(arguments)?),
            Global::RebuildParameter => match arguments.first().and_then(|&data| self.object(data)) {
                Some(Object::Tensor(tensor)) => Object::Tensor(tensor.clone()),
                _ => return malformed("a parameter without a tensor"),
            },
            Global::Storage(_) => return malformed("a storage without data"),
        };
        self.push(object);
        Ok(())
    }

    fn pairs(&self, list: Value) -> Step<Vec<(Value, Value)>> {
        let Some(Object::List(items)) = self.object(list) else {
            return malformed("OrderedDict: expected a list");
        };
        let pair = |&item: &Value| match self.object(item) {
            Some(Object::Tuple(pair) | Object::List(pair)) if pair.len() == 2 => Ok((pair[0], pair[1])),
            _ => malformed("OrderedDict: expected pairs"),
        };
        items.iter().map(pair).collect()
    }

    /// The arguments of `_rebuild_tensor_v2`: storage, offset, shape, strides, and what only training needs.
    fn tensor(&self, arguments: &[Value]) -> Step<TensorRef> {
        let &[storage, offset, shape, strides, ..] = arguments else {
            return malformed(format!(
                "a tensor: expected at least 4 arguments, got {}",
                arguments.len()
            ));
        };
        let Some(Object::Storage(storage)) = self.object(storage) else {
            return malformed("a tensor without a storage");
        };
        let offset = natural(offset)?;
        let (shape, strides) = (self.naturals(shape)?, self.naturals(strides)?);
        if shape.len() != strides.len() {
            return malformed(format!(
                "a tensor of {} dimensions with {} strides",
                shape.len(),
                strides.len()
            ));
        }
        Ok(TensorRef {
            storage: storage.clone(),
            offset,
            shape,
            strides,
        })
    }

    fn naturals(&self, tuple: Value) -> Step<Vec<usize>> {
        match self.object(tuple) {
            Some(Object::Tuple(items)) if items.len() <= MAX_RANK => items.iter().map(|&item| natural(item)).collect(),
            Some(Object::Tuple(items)) => malformed(format!("dimensions: at most {MAX_RANK}, got {}", items.len())),
            _ => malformed("dimensions that are not a tuple"),
        }
    }

    /// BINPERSID: `("storage", type, key, location, elements, view?)`.
    pub(super) fn persistent(&mut self) -> Step<()> {
        let id = self.pop()?;
        let Some(Object::Tuple(id)) = self.object(id) else {
            return malformed("a persistent id that is not a tuple");
        };
        let &[tag, kind, key, _, elements, ..] = id.as_slice() else {
            return malformed(format!("a persistent id: expected 5 or 6 parts, got {}", id.len()));
        };
        let Some(&Object::Global(Global::Storage(element))) = self.object(kind) else {
            return malformed("a persistent id that is not a storage");
        };
        let (tag, key) = (self.short_text(tag)?, self.short_text(key)?);
        if tag != "storage" {
            return malformed(format!("persistent id: expected `storage`, got `{tag}`"));
        }
        if let Some(&view) = id.get(5)
            && view != Value::None
        {
            return malformed("a view of a storage, which PyTorch stopped writing in 2017");
        }
        let storage = StorageRef {
            key,
            element,
            elements: natural(elements)?,
        };
        self.push(Object::Storage(storage));
        Ok(())
    }
}

fn natural(value: Value) -> Step<usize> {
    match value {
        Value::Int(value) => usize::try_from(value).or_else(|_| malformed(format!("expected a size, got {value}"))),
        _ => malformed("expected an integer"),
    }
}
