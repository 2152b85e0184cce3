//! Traversal of a pickle's objects to find its tensors. It follows dictionaries, lists and attributes. In a pickled
//! `nn.Module`, tensors get the names of its state dict.

use std::collections::{HashSet, VecDeque};

use super::pickle::{Instance, Object, TensorRef, Unpickled, Value};
use super::settings::Settings;

/// Maximum depth of nested keys.
const MAX_DEPTH: usize = 40;

/// Maximum bytes of a key; longer ones are not names of tensors.
const MAX_KEY: usize = 256;

/// Maximum bytes of all names together. A ResNet-152 with an optimiser's state has less than 200 KB.
const MAX_NAME_BYTES: usize = 64 << 20;

/// Keys under which training scripts store the name of the network.
const STATED: [&str; 7] = [
    "arch",
    "architecture",
    "model_name",
    "model",
    "backbone",
    "net",
    "encoder",
];

/// Content of a pickle.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    /// Every tensor once.
    pub(super) found: Vec<Found>,
    /// Texts found under keys such as `arch`.
    pub(super) stated: Vec<String>,
    /// Settings of layers in pickled modules.
    pub(super) settings: Settings,
}

/// A tensor and its name.
#[derive(Debug)]
pub(super) struct Found {
    /// Keys and attributes, joined with dots.
    pub(super) name: String,
    /// Number of bytes of the name that lead to the dictionary or module.
    pub(super) container: usize,
    /// The tensor, or the Python name of an object that cannot be read.
    pub(super) tensor: Result<TensorRef, String>,
}

/// A stop on the way.
struct Stop {
    value: Value,
    /// Ends with a dot or is empty.
    path: String,
    /// Inside a module, the length of the path to the outermost module.
    module: Option<usize>,
    depth: usize,
}

/// Returns all tensors that can be reached from the root. Every object is visited once, so cycles and shared parts take
/// no extra time.
pub(super) fn inventory(unpickled: &Unpickled) -> Result<Inventory, String> {
    let mut walk = Walk {
        unpickled,
        inventory: Inventory::default(),
        bytes: 0,
        seen: HashSet::new(),
        open: VecDeque::from([Stop {
            value: unpickled.root,
            path: String::new(),
            module: None,
            depth: 0,
        }]),
    };
    while let Some(stop) = walk.open.pop_front() {
        walk.visit(&stop)?;
    }
    Ok(walk.inventory)
}

struct Walk<'a> {
    unpickled: &'a Unpickled,
    inventory: Inventory,
    bytes: usize,
    seen: HashSet<usize>,
    open: VecDeque<Stop>,
}

impl Walk<'_> {
    fn visit(&mut self, stop: &Stop) -> Result<(), String> {
        let Value::Object(index) = stop.value else {
            return Ok(());
        };
        if stop.depth > MAX_DEPTH || !self.seen.insert(index) {
            return Ok(());
        }
        let unpickled = self.unpickled;
        match unpickled.object(stop.value) {
            Some(Object::Dict(pairs)) => self.pairs(pairs, stop),
            Some(Object::List(items) | Object::Tuple(items)) => {
                for (position, &item) in items.iter().enumerate() {
                    self.child(&position.to_string(), item, stop, None)?;
                }
                Ok(())
            }
            Some(Object::Instance(instance)) => self.instance(instance, stop),
            _ => Ok(()),
        }
    }

    fn pairs(&mut self, pairs: &[(Value, Value)], stop: &Stop) -> Result<(), String> {
        let unpickled = self.unpickled;
        // In reverse order, because the last of equal keys counts.
        let mut keys = HashSet::new();
        for &(key, value) in pairs.iter().rev() {
            match key {
                Value::Int(number) => self.child(&number.to_string(), value, stop, None)?,
                _ => match unpickled.text(key) {
                    Some(text) if text.len() <= MAX_KEY && keys.insert(text) => {
                        if let (true, Some(name)) = (STATED.contains(&text), unpickled.text(value)) {
                            self.state(name);
                        }
                        self.child(text, value, stop, None)?;
                    }
                    _ => {}
                },
            }
        }
        Ok(())
    }

    fn state(&mut self, name: &str) {
        if name.len() <= MAX_KEY && self.inventory.stated.len() < 16 {
            self.inventory.stated.push(name.to_owned());
        }
    }

    /// Visits attributes and items. Of a module, visits only parameters, buffers and submodules; the names of these
    /// containers are not part of a tensor's name.
    fn instance(&mut self, instance: &Instance, stop: &Stop) -> Result<(), String> {
        let unpickled = self.unpickled;
        let attributes = instance.state.and_then(|state| match unpickled.object(state) {
            Some(Object::Tuple(parts)) => parts.first().copied(),
            _ => Some(state),
        });
        let attributes = match attributes.and_then(|attributes| unpickled.object(attributes)) {
            Some(Object::Dict(pairs)) => pairs.as_slice(),
            _ => &[],
        };
        let is_module = attributes
            .iter()
            .any(|&(key, _)| unpickled.text(key) == Some("_modules"));
        if !is_module {
            self.pairs(&instance.items, stop)?;
            // The dictionary from which an object of another class was created.
            if let Some(Object::Tuple(arguments)) = unpickled.object(instance.arguments)
                && let Some(Object::Dict(pairs)) = arguments.first().and_then(|&first| unpickled.object(first))
            {
                self.pairs(pairs, stop)?;
            }
            return self.pairs(attributes, stop);
        }
        let name = stop.path.trim_end_matches('.');
        self.inventory.settings.add(name, instance, attributes, unpickled);
        for &(key, value) in attributes {
            if matches!(unpickled.text(key), Some("_parameters" | "_buffers" | "_modules"))
                && let Some(Object::Dict(pairs) | Object::Instance(Instance { items: pairs, .. })) =
                    unpickled.object(value)
            {
                let outermost = stop.module.unwrap_or(stop.path.len());
                for &(key, value) in pairs {
                    if let Some(text) = unpickled.text(key).filter(|text| text.len() <= MAX_KEY) {
                        self.child(text, value, stop, Some(outermost))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Records a tensor, or visits an object that may contain some.
    fn child(&mut self, key: &str, value: Value, stop: &Stop, module: Option<usize>) -> Result<(), String> {
        let tensor = match self.unpickled.object(value) {
            Some(Object::Tensor(tensor)) => Ok(tensor.clone()),
            Some(Object::Instance(instance)) if is_array(self.unpickled.name(instance.class)) => {
                Err(self.unpickled.name(instance.class).to_owned())
            }
            Some(Object::Dict(_) | Object::List(_) | Object::Tuple(_) | Object::Instance(_)) => {
                let path = self.path(stop, key, ".")?;
                self.open.push_back(Stop {
                    value,
                    path,
                    module,
                    depth: stop.depth + 1,
                });
                return Ok(());
            }
            _ => return Ok(()),
        };
        let name = self.path(stop, key, "")?;
        self.inventory.found.push(Found {
            name,
            container: module.unwrap_or(stop.path.len()),
            tensor,
        });
        Ok(())
    }

    fn path(&mut self, stop: &Stop, key: &str, end: &str) -> Result<String, String> {
        self.bytes += stop.path.len() + key.len() + end.len();
        if self.bytes > MAX_NAME_BYTES {
            return Err(format!("names of more than {MAX_NAME_BYTES} bytes together"));
        }
        Ok([&stop.path, key, end].concat())
    }
}

/// Returns whether a class is another kind of tensor or a `NumPy` array. Weights may be saved in such classes, but
/// their values are not read.
fn is_array(class: &str) -> bool {
    class.starts_with("torch._utils._rebuild_") || class.ends_with(".multiarray._reconstruct")
}
