//! Layer, group and global response normalisation as sequences of nodes, as exporters write them.

use super::{
    super::{Import, attributes::Source, value::Value, view::Normalised},
    expression::{near, same},
};
use crate::{Shape, Tensor, graph::Op};

impl<'a> Import<'a> {
    /// Recognises `(x − mean) / √(mean((x − mean)²) + ε)`. Constants after it are merged in the canonical form.
    pub(super) fn written_out_norm(&mut self, source: Source<'a>) -> Option<Value> {
        let inputs: Vec<&'a str> = source.proto.input.iter().map(String::as_str).collect();
        let [left, right] = inputs[..] else { return None };
        let (centred, variance) = if source.operator() == "Div" {
            (left, self.root(right)?)
        } else {
            match self.inverse_root(right) {
                Some(variance) => (left, variance),
                None => (right, self.inverse_root(left)?),
            }
        };
        let (x, axes) = self.centred(centred)?;
        let (epsilon, terms) = self.terms(variance);
        let [mean] = terms[..] else { return None };
        let (squares, others) = self.reduction(mean, "ReduceMean")?;
        let (scale, factors) = self.factors(squares, None);
        let [first, second] = factors[..] else { return None };
        if !near(scale, 1.0) || epsilon < 0.0 {
            return None;
        }
        let view = self.layout(x)?;
        let axes = Self::front(&axes, &view)?;
        for part in [first, second] {
            let (other, over) = self.centred(part)?;
            if other != x || Self::front(&over, &view)? != axes {
                return None;
            }
        }
        if Self::front(&others, &view)? != axes {
            return None;
        }
        let shape = self.shape(view.value);
        let channels = shape.channels();
        let constant = |value: f32| Tensor::new([channels], vec![value; channels]);
        let (scale, bias, epsilon) = (constant(1.0), constant(0.0), epsilon as f32);
        let op = match view.normalised(&axes, shape)? {
            Normalised::Channels => Op::LayerNorm { scale, bias, epsilon },
            Normalised::Groups(groups) => Op::GroupNorm {
                groups,
                scale,
                bias,
                epsilon,
            },
        };
        self.push_on(source, op, &view).ok()
    }

    /// Returns the argument of a square root.
    fn root(&mut self, name: &'a str) -> Option<&'a str> {
        if let Some(inputs) = self.inputs_of(name, "Sqrt") {
            return inputs.first().copied();
        }
        let inputs = self.inputs_of(name, "Pow")?;
        let power = self.scalar(inputs.get(1)?)?;
        near(power, 0.5).then(|| inputs[0])
    }

    /// Returns the argument of an inverse square root.
    fn inverse_root(&mut self, name: &'a str) -> Option<&'a str> {
        if let Some(inputs) = self.inputs_of(name, "Reciprocal") {
            return self.root(inputs.first()?);
        }
        if let Some(inputs) = self.inputs_of(name, "Div")
            && let [one, root] = inputs[..]
            && self.scalar(one) == Some(1.0)
        {
            return self.root(root);
        }
        let inputs = self.inputs_of(name, "Pow")?;
        let power = self.scalar(inputs.get(1)?)?;
        near(power, -0.5).then(|| inputs[0])
    }

    /// For `x − mean(x)`, returns `x` and the axes of the mean.
    fn centred(&mut self, name: &'a str) -> Option<(&'a str, Vec<i64>)> {
        let inputs = self.inputs_of(name, "Sub")?;
        let [x, mean] = inputs[..] else { return None };
        let (of, axes) = self.reduction(mean, "ReduceMean")?;
        (of == x).then_some((x, axes))
    }

    /// Recognises `x + bias + scale · x · g / (mean(g) + ε)`, where `g` is the norm of each channel.
    pub(super) fn response_norm(&mut self, source: Source<'a>) -> Option<Value> {
        let output = source.proto.output.first()?;
        let (offset, terms) = self.terms(output);
        let [_, _, _] = terms[..] else { return None };
        if offset != 0.0 {
            return None;
        }
        let bias = terms.iter().position(|term| self.known(term).is_some())?;
        let rest: Vec<&'a str> = terms.iter().copied().filter(|&term| term != terms[bias]).collect();
        let [left, right] = rest[..] else { return None };
        for (x, product) in [(left, right), (right, left)] {
            if let Some((scale, epsilon)) = self.response(x, product) {
                let view = self.layout(x)?;
                let shape = self.shape(view.value);
                let bias = self.known(terms[bias])?;
                let op = Op::GlobalResponseNorm {
                    scale: view.per_channel(&scale, shape).ok()?,
                    bias: view.per_channel(&bias, shape).ok()?,
                    epsilon: epsilon as f32,
                };
                return self.push_on(source, op, &view).ok();
            }
        }
        None
    }

    /// Returns scale and ε of `scale · x · g / (mean(g) + ε)`.
    fn response(&mut self, x: &'a str, product: &'a str) -> Option<(Tensor, f64)> {
        let view = self.layout(x)?;
        matches!(self.shape(view.value), Shape::Map(_)).then_some(())?;
        let (factor, factors) = self.factors(product, Some(x));
        let [_, _, _] = factors[..] else { return None };
        let scale = factors.iter().copied().find(|name| self.known(name).is_some())?;
        let gain = factors.iter().copied().find(|&name| name != x && name != scale)?;
        (factor == 1.0 && same(factors, vec![x, scale, gain])).then_some(())?;
        let inputs = self.inputs_of(gain, "Div")?;
        let [norm, mean] = inputs[..] else { return None };
        let (epsilon, terms) = self.terms(mean);
        let [mean] = terms[..] else { return None };
        let (of, over) = self.reduction(mean, "ReduceMean")?;
        let (source, spatial) = self.norm(norm)?;
        let (over, spatial) = (Self::front(&over, &view)?, Self::front(&spatial, &view)?);
        let fits = of == norm
            && source == x
            && matches!(over[..], [axis] if view.is_channels(axis))
            && view.averaged(&spatial, true).is_some();
        let scale = self.known(scale)?;
        fits.then_some((scale, epsilon))
    }

    /// Returns the argument of a Euclidean norm, and its axes.
    fn norm(&mut self, name: &'a str) -> Option<(&'a str, Vec<i64>)> {
        if let Some(norm) = self.reduction(name, "ReduceL2") {
            return Some(norm);
        }
        let squares = self.root(name)?;
        if let Some(sum) = self.reduction(squares, "ReduceSumSquare") {
            return Some(sum);
        }
        let (squares, axes) = self.reduction(squares, "ReduceSum")?;
        let (factor, factors) = self.factors(squares, None);
        let [x, again] = factors[..] else { return None };
        (factor == 1.0 && x == again).then_some((x, axes))
    }
}
