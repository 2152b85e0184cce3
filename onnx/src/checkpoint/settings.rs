//! Settings of layers in a pickled module: stride, padding and dilation of a convolution, ε of a norm. A state dict
//! does not contain them; in that case the architecture's own values are used.

use std::collections::BTreeMap;

use super::architecture_spec::ArchitectureSpec;
use super::pickle::{Instance, Object, Unpickled, Value};

/// Classes of layers without weights that have no effect in the supported networks, or that these networks contain.
const KNOWN: [&str; 16] = [
    "AdaptiveAvgPool2d",
    "AlphaDropout",
    "CrossEntropyLoss",
    "DropPath",
    "Dropout",
    "Dropout2d",
    "Flatten",
    "Identity",
    "LogSoftmax",
    "MaxPool2d",
    "ReLU",
    "ReLU6",
    "SelectAdaptivePool2d",
    "Softmax",
    "StochasticDepth",
    "AvgPool2d",
];

/// The settings of the layers of pickled modules.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// Values by module name and attribute, such as `layer1.0.conv1` and `stride`.
    values: BTreeMap<(String, &'static str), Vec<f64>>,
    /// Class and name of layers without weights.
    weightless: Vec<(String, String)>,
}

impl Settings {
    /// Records the settings of a module called `name`. `attributes` are its attributes by key.
    pub(super) fn add(
        &mut self,
        name: &str,
        instance: &Instance,
        attributes: &[(Value, Value)],
        unpickled: &Unpickled,
    ) {
        for &(key, value) in attributes {
            let key = match unpickled.text(key) {
                Some("eps") => "eps",
                Some("stride") => "stride",
                Some("padding") => "padding",
                Some("dilation") => "dilation",
                _ => continue,
            };
            if let Some(values) = numbers(value, unpickled) {
                self.values.insert((name.to_owned(), key), values);
            }
        }
        let is_empty = |wanted: &str| {
            attributes.iter().any(|&(key, value)| {
                unpickled.text(key) == Some(wanted)
                    && match unpickled.object(value) {
                        Some(Object::Dict(pairs) | Object::Instance(Instance { items: pairs, .. })) => pairs.is_empty(),
                        _ => false,
                    }
            })
        };
        if ["_parameters", "_buffers", "_modules"].into_iter().all(is_empty) {
            let class = unpickled.name(instance.class);
            let class = class.rsplit('.').next().unwrap_or(class);
            if !KNOWN.contains(&class) {
                self.weightless.push((class.to_owned(), name.to_owned()));
            }
        }
    }

    /// Adds the settings of another file.
    pub(super) fn merge(&mut self, other: Self) {
        self.values.extend(other.values);
        self.weightless.extend(other.weightless);
    }

    /// Returns the layers of `spec` under `prefix` with different settings: name, setting, expected value and value
    /// found.
    pub(super) fn differing(&self, spec: &ArchitectureSpec, prefix: &str) -> Vec<(String, String, String)> {
        let mut differing = Vec::new();
        for (layer, expected) in spec.settings() {
            let name = [prefix, &layer].concat();
            for (key, expected) in expected {
                let got = self.values.get(&(name.clone(), key));
                let differs = got.is_some_and(|got| got.iter().any(|got| (got - expected).abs() > 1e-9));
                if let (true, Some(got)) = (differs, got) {
                    differing.push((
                        format!("{name}.{key}"),
                        (expected as f32).to_string(),
                        format!("{got:?}"),
                    ));
                }
            }
        }
        differing
    }

    /// Returns class and name of the layers without weights under `prefix` that the supported networks do not contain.
    pub(super) fn unknown<'a>(&'a self, prefix: &str) -> Vec<(&'a str, &'a str)> {
        let under = |(class, name): &'a (String, String)| Some((class.as_str(), name.strip_prefix(prefix)?));
        self.weightless.iter().filter_map(under).collect()
    }
}

/// Returns a number, or a tuple of up to four.
fn numbers(value: Value, unpickled: &Unpickled) -> Option<Vec<f64>> {
    let number = |value: &Value| match *value {
        Value::Int(value) => Some(value as f64),
        Value::Float(value) => Some(value),
        _ => None,
    };
    match unpickled.object(value) {
        Some(Object::Tuple(items)) if items.len() <= 4 => items.iter().map(number).collect(),
        Some(_) => None,
        None => number(&value).map(|value| vec![value]),
    }
}
