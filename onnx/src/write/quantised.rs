//! Integer weights and grids as ONNX `QuantizeLinear` and `DequantizeLinear` (opset 13), in the places where other
//! engines expect them to compute in integers.

use super::builder::{Builder, int};
use crate::{ConvWeight, Quantisation, QuantisedTensor, proto::TensorProto, quantisation::dequantised};

impl Builder {
    /// Adds `output`, the nearest value of the grid for every value of `input`.
    pub(super) fn fake_quantise(&mut self, name: &str, grid: Quantisation, input: &str, output: &str) {
        let scale = self.constant(&format!("{name}.scale"), &[], &[grid.scale]);
        let zero_point = self.bytes(
            &format!("{name}.zero_point"),
            TensorProto::UINT8,
            &[],
            vec![grid.zero_point],
        );
        let quantised = self.value(&format!("{name}.bytes"));
        self.node(
            name,
            "QuantizeLinear",
            &[input, &scale, &zero_point],
            &quantised,
            vec![],
        );
        let real = self.helper(&format!("{name}.dequantised"));
        let inputs = [quantised.as_str(), &scale, &zero_point];
        self.node(&real, "DequantizeLinear", &inputs, output, vec![]);
    }

    /// Adds the weights and the bias of a convolution. Returns the names of their values. `grid` is that of the
    /// convolution's input: with it, the bias of integer weights is written as integers in steps of both scales, if
    /// this is exact.
    pub(super) fn convolution_weights(
        &mut self,
        name: &str,
        weight: &ConvWeight,
        bias: Option<&[f32]>,
        grid: Option<Quantisation>,
    ) -> (String, Option<String>) {
        let wanted = format!("{name}.bias");
        match weight {
            ConvWeight::Float(tensor) => {
                let weight = self.tensor(&format!("{name}.weight"), tensor);
                (weight, bias.map(|bias| self.constant(&wanted, &[bias.len()], bias)))
            }
            ConvWeight::Int8(tensor) => {
                let weight = self.quantised_tensor(name, tensor);
                let bias = bias.map(|bias| {
                    let steps = grid.map(|grid| bias_steps(tensor.scale(), grid));
                    let integers = steps.as_deref().and_then(|steps| bias_integers(bias, steps));
                    match (integers, steps) {
                        (Some(integers), Some(steps)) => self.quantised_bias(&wanted, &integers, &steps),
                        _ => self.constant(&wanted, &[bias.len()], bias),
                    }
                });
                (weight, bias)
            }
        }
    }

    /// Adds a dense layer with integer weights.
    pub(super) fn quantised_dense(
        &mut self,
        name: &str,
        weight: &QuantisedTensor,
        bias: &[f32],
        input: &str,
        output: &str,
    ) {
        let weight = self.quantised_tensor(name, weight);
        let bias = self.constant(&format!("{name}.bias"), &[bias.len()], bias);
        self.node(name, "Gemm", &[input, &weight, &bias], output, vec![int("transB", 1)]);
    }

    fn quantised_tensor(&mut self, name: &str, tensor: &QuantisedTensor) -> String {
        let values = tensor.values().iter().map(|value| value.cast_unsigned()).collect();
        let channels = tensor.scale().len();
        let weight = self.bytes(&format!("{name}.weight"), TensorProto::INT8, tensor.shape(), values);
        let scale = self.constant(&format!("{name}.weight_scale"), &[channels], tensor.scale());
        let zero = self.bytes(
            &format!("{name}.weight_zero_point"),
            TensorProto::INT8,
            &[channels],
            vec![0; channels],
        );
        let inputs = [weight.as_str(), &scale, &zero];
        self.helper_node(
            name,
            "dequantised_weight",
            "DequantizeLinear",
            &inputs,
            vec![int("axis", 0)],
        )
    }

    fn quantised_bias(&mut self, wanted: &str, integers: &[i32], steps: &[f32]) -> String {
        let raw = integers.iter().flat_map(|value| value.to_le_bytes()).collect();
        let bias = self.bytes(wanted, TensorProto::INT32, &[integers.len()], raw);
        let scale = self.constant(&format!("{wanted}_scale"), &[steps.len()], steps);
        self.helper_node(
            wanted,
            "dequantised",
            "DequantizeLinear",
            &[&bias, &scale],
            vec![int("axis", 0)],
        )
    }
}

/// Rounds the bias of integer weights to the steps in which a file has it as integers, where all of them have 32 bits.
pub(crate) fn rounded_bias(weight: &ConvWeight, bias: &[f32], grid: Option<Quantisation>) -> Vec<f32> {
    let rounded = weight.int8().zip(grid).and_then(|(weight, grid)| {
        let steps = bias_steps(weight.scale(), grid);
        let rounded = bias.iter().zip(steps);
        rounded
            .map(|(&bias, step)| nearest(bias, step).map(|integer| dequantised(integer.into(), step)))
            .collect()
    });
    rounded.unwrap_or_else(|| bias.to_vec())
}

/// Returns the step of each channel's integer bias: the scale of its weights times that of the input.
fn bias_steps(weight: &[f32], grid: Quantisation) -> Vec<f32> {
    weight.iter().map(|scale| scale * grid.scale).collect()
}

/// Returns the integer bias, if it has exactly these real values.
fn bias_integers(bias: &[f32], steps: &[f32]) -> Option<Vec<i32>> {
    let integers = bias.iter().zip(steps).map(|(&bias, &step)| {
        let integer = nearest(bias, step)?;
        (dequantised(integer.into(), step) == bias).then_some(integer)
    });
    integers.collect()
}

/// Returns the integer whose multiple of `step` is nearest to `value`, if it has 32 bits.
fn nearest(value: f32, step: f32) -> Option<i32> {
    let integer = (f64::from(value) / f64::from(step)).round_ties_even();
    (integer.abs() <= f64::from(i32::MAX)).then_some(integer as i32)
}
