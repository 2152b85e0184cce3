//! Normalisations with image-dependent statistics, as ONNX nodes.

use super::builder::{Builder, float, int, ints};
use crate::{Shape, Tensor};

/// Scale and bias `[C]`, and ε.
type Parameters<'a> = (&'a Tensor, &'a Tensor, f32);

impl Builder {
    pub(super) fn layer_norm(
        &mut self,
        name: &str,
        (scale, bias, epsilon): Parameters<'_>,
        shape: Shape,
        input: &str,
        output: &str,
    ) {
        let scale = self.tensor(&format!("{name}.scale"), scale);
        let bias = self.tensor(&format!("{name}.bias"), bias);
        // The operator's default axis is the last one.
        let attributes = vec![float("epsilon", epsilon)];
        if shape.spatial().is_none() {
            self.node(name, "LayerNormalization", &[input, &scale, &bias], output, attributes);
            return;
        }
        let last = self.helper_node(name, "last", "Transpose", &[input], vec![ints("perm", &[0, 2, 3, 1])]);
        let normed = self.value(&format!("{name}.normed"));
        self.node(name, "LayerNormalization", &[&last, &scale, &bias], &normed, attributes);
        let first = self.helper(&format!("{name}.first"));
        self.node(
            &first,
            "Transpose",
            &[&normed],
            output,
            vec![ints("perm", &[0, 3, 1, 2])],
        );
    }

    pub(super) fn group_norm(
        &mut self,
        name: &str,
        groups: usize,
        (scale, bias, epsilon): Parameters<'_>,
        shape: Shape,
        input: &str,
        output: &str,
    ) {
        let attributes = vec![float("epsilon", epsilon)];
        let channels = scale.data().len();
        if groups == channels {
            let scale = self.tensor(&format!("{name}.scale"), scale);
            let bias = self.tensor(&format!("{name}.bias"), bias);
            self.node(
                name,
                "InstanceNormalization",
                &[input, &scale, &bias],
                output,
                attributes,
            );
            return;
        }
        let whole = [0].into_iter().chain(shape.dims().iter().map(|&dim| dim as i64));
        let whole = self.integers(&format!("{name}.whole"), &whole.collect::<Vec<_>>());
        let grouped = self.integers(&format!("{name}.grouped"), &[0, groups as i64, -1]);
        let one = self.constant(&format!("{name}.one"), &[groups], &vec![1.0; groups]);
        let zero = self.constant(&format!("{name}.zero"), &[groups], &vec![0.0; groups]);
        let grouped = self.helper_node(name, "groups", "Reshape", &[input, &grouped], vec![]);
        let normed = self.value(&format!("{name}.normed"));
        let inputs = [grouped.as_str(), &one, &zero];
        self.node(name, "InstanceNormalization", &inputs, &normed, attributes);
        let normalised = self.helper_node(name, "map", "Reshape", &[&normed, &whole], vec![]);
        let scale = self.constant(&format!("{name}.scale"), &[1, channels, 1, 1], scale.data());
        let bias = self.constant(&format!("{name}.bias"), &[1, channels, 1, 1], bias.data());
        let scaled = self.helper_node(name, "mul", "Mul", &[&normalised, &scale], vec![]);
        let add = self.helper(&format!("{name}.add"));
        self.node(&add, "Add", &[&scaled, &bias], output, vec![]);
    }

    pub(super) fn global_response_norm(
        &mut self,
        name: &str,
        (scale, bias, epsilon): Parameters<'_>,
        input: &str,
        output: &str,
    ) {
        let dims = [1, scale.data().len(), 1, 1];
        let scale = self.constant(&format!("{name}.scale"), &dims, scale.data());
        let bias = self.constant(&format!("{name}.bias"), &dims, bias.data());
        let epsilon = self.constant(&format!("{name}.epsilon"), &[], &[epsilon]);
        let norm = self.reduction(name, "norm", "ReduceL2", input, &[2, 3]);
        let mean = self.reduction(name, "mean", "ReduceMean", &norm, &[1]);
        let mean = self.helper_node(name, "stable", "Add", &[&mean, &epsilon], vec![]);
        let gain = self.helper_node(name, "gain", "Div", &[&norm, &mean], vec![]);
        let response = self.helper_node(name, "response", "Mul", &[input, &gain], vec![]);
        let scaled = self.helper_node(name, "scaled", "Mul", &[&response, &scale], vec![]);
        let shifted = self.helper_node(name, "shifted", "Add", &[&scaled, &bias], vec![]);
        self.node(name, "Add", &[input, &shifted], output, vec![]);
    }

    /// Adds a reduction that keeps its axes. They are an attribute before opset 18, and an input since.
    fn reduction(&mut self, name: &str, part: &str, op: &str, input: &str, axes: &[usize]) -> String {
        if self.opset < 18 {
            let attributes = vec![ints("axes", axes), int("keepdims", 1)];
            return self.helper_node(name, part, op, &[input], attributes);
        }
        let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
        let axes = self.integers(&format!("{name}.{part}.axes"), &axes);
        self.helper_node(name, part, op, &[input, &axes], vec![int("keepdims", 1)])
    }
}
