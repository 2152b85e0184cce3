//! Products and sums of the file's values, with their constants collected.

use super::super::{
    Import,
    operators::normalise,
    value::{Dim, Value},
    view::View,
};
use crate::{Tensor, proto::NodeProto};

/// Maximum depth of an expression.
const MAX_DEPTH: usize = 8;
/// Maximum number of factors or terms.
const MAX_PARTS: usize = 16;

/// A constant, and the names of the values that it is multiplied with or added to.
pub(super) type Parts<'a> = (f64, Vec<&'a str>);

impl<'a> Import<'a> {
    /// Returns the node that produces a value, skipping nodes that only pass it through.
    pub(super) fn producer(&self, name: &'a str) -> Option<&'a NodeProto> {
        let mut name = name;
        for _ in 0..MAX_DEPTH {
            let node = &self.file.node[*self.producers.get(name)?];
            match node.op_type.as_deref()? {
                "Identity" => name = node.input.first()?,
                _ => return Some(node),
            }
        }
        None
    }

    /// Returns the inputs of the node that produces `name`, if its type is `operator`.
    pub(super) fn inputs_of(&self, name: &'a str, operator: &str) -> Option<Vec<&'a str>> {
        let node = self.producer(name)?;
        (node.op_type.as_deref() == Some(operator)).then(|| node.input.iter().map(String::as_str).collect())
    }

    /// Returns a float constant.
    pub(super) fn known(&mut self, name: &'a str) -> Option<Tensor> {
        self.load(name)?;
        match self.values.get(name)? {
            Value::Tensor(tensor) => Some(tensor.clone()),
            _ => None,
        }
    }

    /// Returns a constant that has a single value.
    pub(super) fn scalar(&mut self, name: &'a str) -> Option<f64> {
        match self.known(name)?.data() {
            &[value] => Some(f64::from(value)),
            _ => None,
        }
    }

    /// Returns the factors of a value. The value `stop` is not split further.
    pub(super) fn factors(&mut self, name: &'a str, stop: Option<&str>) -> Parts<'a> {
        let mut parts = (1.0, Vec::new());
        self.add_factors(name, stop, MAX_DEPTH, &mut parts);
        parts
    }

    fn add_factors(&mut self, name: &'a str, stop: Option<&str>, depth: usize, parts: &mut Parts<'a>) {
        if Some(name) != stop && depth > 0 && parts.1.len() < MAX_PARTS {
            if let Some(value) = self.scalar(name) {
                parts.0 *= value;
                return;
            }
            if let Some(node) = self.producer(name) {
                let inputs: Vec<&'a str> = node.input.iter().map(String::as_str).collect();
                match (node.op_type.as_deref(), &inputs[..]) {
                    (Some("Mul"), &[left, right]) => {
                        self.add_factors(left, stop, depth - 1, parts);
                        self.add_factors(right, stop, depth - 1, parts);
                        return;
                    }
                    (Some("Div"), &[left, right]) => {
                        if let Some(value) = self.scalar(right) {
                            parts.0 /= value;
                            self.add_factors(left, stop, depth - 1, parts);
                            return;
                        }
                    }
                    (Some("Pow"), &[base, power]) => {
                        let power = self.scalar(power).or_else(|| self.whole(power));
                        if let Some(times @ (2.0 | 3.0)) = power {
                            for _ in 0..times as usize {
                                self.add_factors(base, stop, depth - 1, parts);
                            }
                            return;
                        }
                    }
                    _ => {}
                }
            }
        }
        parts.1.push(name);
    }

    /// Returns an integer constant that has a single value.
    fn whole(&mut self, name: &'a str) -> Option<f64> {
        match self.list(name)?[..] {
            [value] => Some(value as f64),
            _ => None,
        }
    }

    /// Returns the terms of a value. Constants with several values are terms too.
    pub(super) fn terms(&mut self, name: &'a str) -> Parts<'a> {
        let mut parts = (0.0, Vec::new());
        self.add_terms(name, MAX_DEPTH, &mut parts);
        parts
    }

    fn add_terms(&mut self, name: &'a str, depth: usize, parts: &mut Parts<'a>) {
        if depth > 0 && parts.1.len() < MAX_PARTS {
            if let Some(value) = self.scalar(name) {
                parts.0 += value;
                return;
            }
            if let Some(inputs) = self.inputs_of(name, "Add")
                && let [left, right] = inputs[..]
            {
                self.add_terms(left, depth - 1, parts);
                self.add_terms(right, depth - 1, parts);
                return;
            }
        }
        parts.1.push(name);
    }

    /// Returns every value in a tree of products, including inner ones.
    pub(super) fn product_tree(&mut self, name: &'a str) -> Vec<&'a str> {
        let mut found = Vec::new();
        let mut open = vec![(name, MAX_DEPTH / 2)];
        while let Some((name, depth)) = open.pop() {
            if found.len() >= MAX_PARTS || depth == 0 {
                continue;
            }
            for operator in ["Mul", "Div"] {
                for input in self.inputs_of(name, operator).unwrap_or_default() {
                    if !found.contains(&input) && self.known(input).is_none() {
                        found.push(input);
                        open.push((input, depth - 1));
                    }
                }
            }
        }
        found
    }

    /// Returns the input of a reduction and its axes, counted with the batch, if it keeps its dimensions.
    pub(super) fn reduction(&mut self, name: &'a str, operator: &str) -> Option<(&'a str, Vec<i64>)> {
        let node = self.producer(name)?;
        (node.op_type.as_deref() == Some(operator)).then_some(())?;
        let attribute = |wanted: &str| node.attribute.iter().find(|own| own.name.as_deref() == Some(wanted));
        if attribute("keepdims").is_some_and(|keep| keep.i == Some(0)) {
            return None;
        }
        let input = node.input.first()?;
        let axes = match attribute("axes") {
            Some(axes) => axes.ints.clone(),
            None => self.list(node.input.get(1)?)?,
        };
        Some((input, axes))
    }

    /// Returns the values of an integer constant.
    pub(super) fn list(&mut self, name: &'a str) -> Option<Vec<i64>> {
        self.load(name)?;
        let Value::Integers { values, .. } = self.values.get(name)? else {
            return None;
        };
        let known = |value: &Dim| match value {
            Dim::Known(value) => Some(*value),
            Dim::Batch(_) => None,
        };
        values.iter().map(known).collect()
    }

    /// Reads an initialiser, unless that was already done.
    fn load(&mut self, name: &'a str) -> Option<()> {
        if !self.values.contains_key(name) {
            let tensor = *self.constants.get(name)?;
            let value = self.constant(tensor, name).ok()?;
            self.values.insert(name, value);
        }
        Some(())
    }

    /// Returns the layout of a computed value of the file.
    pub(in super::super) fn layout(&self, name: &str) -> Option<View> {
        match self.values.get(name)? {
            Value::Data(value) => Some(View::plain(*value, self.shape(*value))),
            Value::View(view) => Some(view.clone()),
            _ => None,
        }
    }

    /// Returns axes counted from the front of a layout, including the batch.
    pub(super) fn front(axes: &[i64], view: &View) -> Option<Vec<usize>> {
        normalise(axes, view.rank())
    }
}

/// Returns whether two numbers are equal up to rounding to single precision.
pub(super) fn near(value: f64, expected: f64) -> bool {
    (value - expected).abs() <= 1e-4 * expected.abs()
}

/// Returns whether two lists contain the same names, in any order.
pub(super) fn same(mut left: Vec<&str>, mut right: Vec<&str>) -> bool {
    left.sort_unstable();
    right.sort_unstable();
    left == right
}
