//! GELU and Mish as sequences of nodes, as exporters write them.

use super::{
    super::{Import, attributes::Source, value::Value},
    expression::{near, same},
};
use crate::graph::{Activation, Op};

impl<'a> Import<'a> {
    /// Returns the activation that ends in this product.
    pub(super) fn written_out(&mut self, source: Source<'a>) -> Option<Value> {
        let output = source.proto.output.first()?;
        let tree = self.product_tree(output);
        for &x in &tree {
            if self.layout(x).is_none() {
                continue;
            }
            let (constant, factors) = self.factors(output, Some(x));
            let [left, right] = factors[..] else { continue };
            let Some(gate) = [(left, right), (right, left)]
                .into_iter()
                .find(|&(own, _)| own == x)
                .map(|(_, gate)| gate)
            else {
                continue;
            };
            let Some(activation) = self.gate(x, gate, constant) else {
                continue;
            };
            let view = self.layout(x)?;
            return self.push_on(source, Op::Activation(activation), &view).ok();
        }
        None
    }

    /// Returns the activation that equals `constant · x · gate`.
    fn gate(&mut self, x: &'a str, gate: &'a str, constant: f64) -> Option<Activation> {
        if near(constant, 1.0) && self.is_mish_gate(x, gate) {
            return Some(Activation::Mish);
        }
        // s + s · f(x) with s · constant = ½.
        let (offset, terms) = self.terms(gate);
        let [term] = terms[..] else { return None };
        let (scale, function) = self.factors(term, None);
        let [function] = function[..] else { return None };
        if !near(scale, offset) || !near(constant * offset, 0.5) {
            return None;
        }
        if let Some(inputs) = self.inputs_of(function, "Erf") {
            let (scale, argument) = self.factors(inputs.first()?, Some(x));
            return (argument == [x] && near(scale, std::f64::consts::FRAC_1_SQRT_2)).then_some(Activation::Gelu);
        }
        let inputs = self.inputs_of(function, "Tanh")?;
        self.is_cubic(x, inputs.first()?).then_some(Activation::GeluTanh)
    }

    /// Returns whether `name` is `√(2/π) · (x + 0.044715 · x³)`.
    fn is_cubic(&mut self, x: &'a str, name: &'a str) -> bool {
        const CUBIC: f64 = 0.044_715;
        let root = (2.0 / std::f64::consts::PI).sqrt();
        let (scale, factors) = self.factors(name, Some(x));
        if !near(scale, root) {
            return false;
        }
        match factors[..] {
            [sum] => {
                let (offset, terms) = self.terms(sum);
                let Some(rest) = terms.iter().position(|&term| term == x) else {
                    return false;
                };
                let [cube] = [&terms[..rest], &terms[rest + 1..]].concat()[..] else {
                    return false;
                };
                let (scale, factors) = self.factors(cube, Some(x));
                offset == 0.0 && near(scale, CUBIC) && same(factors, vec![x; 3])
            }
            [left, right] => {
                let sum = if left == x { right } else { left };
                let (offset, terms) = self.terms(sum);
                let [square] = terms[..] else { return false };
                let (scale, factors) = self.factors(square, Some(x));
                (left == x || right == x) && near(offset, 1.0) && near(scale, CUBIC) && same(factors, vec![x; 2])
            }
            _ => false,
        }
    }

    /// Returns whether `gate` is `tanh(ln(1 + e^x))`.
    fn is_mish_gate(&mut self, x: &'a str, gate: &'a str) -> bool {
        let Some(&[soft]) = self.inputs_of(gate, "Tanh").as_deref() else {
            return false;
        };
        if let Some(inputs) = self.inputs_of(soft, "Softplus") {
            return inputs == [x];
        }
        let Some(&[sum]) = self.inputs_of(soft, "Log").as_deref() else {
            return false;
        };
        let (offset, terms) = self.terms(sum);
        let [power] = terms[..] else { return false };
        near(offset, 1.0) && self.inputs_of(power, "Exp").is_some_and(|inputs| inputs == [x])
    }
}
