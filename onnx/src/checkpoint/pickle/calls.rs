//! Calls in a pickle, implemented here for a fixed list of names. Names are never resolved in any other way.

use super::danger::is_dangerous;
use super::machine::{Machine, Step, malformed};
use super::value::{Global, Instance, NameId, Object, StorageRef, TensorRef, Value};
use super::{MAX_NAME, MAX_NAMES, MAX_OPCODES, MAX_RANK, Reason};

impl Machine<'_> {
    /// GLOBAL: pushes the object called `module.name`. A name that runs programs or code when Python loads the file is
    /// an error.
    pub(super) fn global(&mut self, module: &str, name: &str) -> Step<()> {
        if module.len() + name.len() > 2 * MAX_NAME {
            return malformed(format!(
                "a name: at most {MAX_NAME} bytes, got {}",
                module.len() + name.len()
            ));
        }
        let global = match Global::of(module, name) {
            Some(global) => global,
            None if is_dangerous(module, name) => return Err(Reason::Global(format!("{module}.{name}"))),
            None => Global::Other(self.name_id(format!("{module}.{name}"))?),
        };
        self.push(Object::Global(global));
        Ok(())
    }

    fn name_id(&mut self, name: String) -> Step<NameId> {
        if let Some(&id) = self.name_ids.get(&name) {
            return Ok(id);
        }
        if self.names.len() == MAX_NAMES {
            return malformed(format!("more than {MAX_NAMES} different Python names"));
        }
        let id = NameId(self.names.len());
        self.names.push(name.clone());
        self.name_ids.insert(name, id);
        Ok(id)
    }

    /// REDUCE: executes the few calls that create dictionaries and tensors. Any other call is only recorded.
    pub(super) fn reduce(&mut self) -> Step<()> {
        let operands = self.pop_many(2)?;
        let (callee, Some(Object::Tuple(arguments))) = (operands[0], self.object(operands[1])) else {
            return malformed("calls with arguments that are not a tuple");
        };
        let object = match self.object(callee) {
            Some(&Object::Global(Global::OrderedDict)) => match arguments.as_slice() {
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
            Some(&Object::Global(global)) => match self.rebuilt(global, arguments)? {
                Some(tensor) => Object::Tensor(tensor),
                None => return self.instance(callee, operands[1]),
            },
            _ => return self.instance(callee, operands[1]),
        };
        self.push(object);
        Ok(())
    }

    /// Returns the tensor created by a call of `global`, if its data are in the file and of a known kind.
    fn rebuilt(&self, global: Global, arguments: &[Value]) -> Step<Option<TensorRef>> {
        let is_storage = |value: Value| matches!(self.object(value), Some(Object::Storage(_)));
        match global {
            Global::RebuildTensor if arguments.first().is_some_and(|&first| !is_storage(first)) => Ok(None),
            Global::RebuildTensor => self.tensor(arguments).map(Some),
            Global::RebuildParameter => Ok(match arguments.first().and_then(|&data| self.object(data)) {
                Some(Object::Tensor(tensor)) => Some(tensor.clone()),
                _ => None,
            }),
            // The arguments are the function, the type, the function's arguments and attributes. The function is one of
            // those above, so there is no deeper nesting.
            Global::RebuildFromType => match *arguments {
                [function, _, inner, ..] => match (self.object(function), self.object(inner)) {
                    (
                        Some(&Object::Global(global @ (Global::RebuildTensor | Global::RebuildParameter))),
                        Some(Object::Tuple(inner)),
                    ) => self.rebuilt(global, inner),
                    _ => Ok(None),
                },
                _ => Ok(None),
            },
            Global::OrderedDict | Global::Storage(_) | Global::Other(_) => Ok(None),
        }
    }

    /// NEWOBJ, or a call without a meaning here: pushes an object of `class` with the tuple `arguments`.
    pub(super) fn instance(&mut self, class: Value, arguments: Value) -> Step<()> {
        let class = match self.object(class) {
            Some(&Object::Global(Global::Other(id))) => match self.object(arguments) {
                // Protocol 2 creates objects with a function that gets the class as its argument.
                Some(Object::Tuple(parts)) if self.names[id.0].starts_with("copy") => {
                    match parts.first().and_then(|&first| self.object(first)) {
                        Some(&Object::Global(Global::Other(class))) => class,
                        _ => id,
                    }
                }
                _ => id,
            },
            Some(&Object::Global(Global::OrderedDict)) => {
                self.push(Object::Dict(Vec::new()));
                return Ok(());
            }
            Some(&Object::Global(global)) => self.name_id(global.rebuilder().to_owned())?,
            // A bound method or similar, which itself results from a call that was only recorded.
            Some(Object::Instance(Instance { class, .. })) => *class,
            _ => return malformed("calls what cannot be called"),
        };
        self.push(Object::Instance(Instance {
            class,
            arguments,
            items: Vec::new(),
            state: None,
        }));
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

    /// Returns the tensor for the arguments of `_rebuild_tensor_v2`: storage, offset, shape, strides, and values that
    /// only training needs.
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
        // The old format stores a class as ("module", class, file, source).
        if let &[tag, class, ..] = id.as_slice()
            && matches!(self.object(tag), Some(Object::Text(tag)) if tag == "module")
            && matches!(self.object(class), Some(Object::Global(_)))
        {
            self.push_value(class);
            return Ok(());
        }
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
