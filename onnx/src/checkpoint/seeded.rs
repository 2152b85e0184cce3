//! Backbones with random weights, for tests and benchmarks.

use clr_adapters::Head;

use super::Architecture;
use super::architecture_spec::{ArchitectureSpec, Parameter, Wanted};
use crate::{Backbone, Op, Tensor, ValueId};

/// Returns a backbone of `architecture` with random weights. It recognises nothing; it is meant for tests and
/// benchmarks.
///
/// The weights of convolutions have variance 1 / fan-in. Each channel's norm has statistics close to those of its input
/// activations, so values stay in range at any depth. The classifier has `classes` classes; with 0 there is none. The
/// same seed gives the same bits on every platform, because only IEEE additions, multiplications and square roots are
/// used.
///
/// # Panics
/// Never: the tests show for each architecture that its description is a valid graph.
pub fn seeded_backbone(architecture: Architecture, seed: u64, classes: usize) -> Backbone {
    let spec = architecture.spec(architecture.spellings()[0]);
    let mut random = Random(seed ^ 0x636c_7220_7365_6564);
    // The expected mean square of every value, from which norms get their variance. A normalised image has about 1.
    let mut power = vec![1.0_f32; spec.len() + 1];
    let graph = spec.graph(|index, wanted| {
        forward_power(&spec, &mut power, index);
        let before = power[spec.inputs(index)[0].0];
        match wanted {
            Wanted::Conv(parameter) => {
                let fan_in: usize = parameter.shape[1..].iter().product();
                power[index + 1] = before;
                vec![random.tensor(parameter, 0.0, (1.0 / fan_in as f32).sqrt())]
            }
            Wanted::Norm(parameters) => {
                power[index + 1] = 1.0;
                let [scale, bias, mean, variance] = parameters;
                vec![
                    random.tensor(scale, 1.0, 0.15),
                    random.tensor(bias, 0.0, 0.15),
                    random.tensor(mean, 0.0, 0.15 * before.sqrt()),
                    random.tensor(variance, before, 0.15 * before),
                ]
            }
        }
    });
    let head = (classes > 0).then(|| {
        let parameter = |shape| Parameter {
            name: String::new(),
            shape,
        };
        let weight = random.tensor(
            &parameter(vec![classes, spec.features]),
            0.0,
            (4.0 / spec.features as f32).sqrt(),
        );
        let bias = random.tensor(&parameter(vec![classes]), 0.0, 0.1);
        Head {
            features: spec.features,
            weight: weight.data().to_vec(),
            bias: bias.data().to_vec(),
        }
    });
    let name = format!("{architecture}-seed-{seed}");
    Backbone::new(name, graph, head, None, architecture.preprocessing()).expect("the architecture is a valid graph")
}

/// Updates `power` for the layers without parameters before layer `index`.
fn forward_power(spec: &ArchitectureSpec, power: &mut [f32], index: usize) {
    let plain = (0..index)
        .rev()
        .take_while(|&earlier| spec.plain(earlier).is_some())
        .count();
    for earlier in index - plain..index {
        let inputs = || spec.inputs(earlier).iter().map(|&ValueId(value)| power[value]);
        power[earlier + 1] = match spec.plain(earlier) {
            // An activation removes half of a norm's symmetric values. A sum with a positive shortcut mostly remains.
            Some(Op::Activation(_)) if spec.is_norm(spec.inputs(earlier)[0]) => inputs().sum::<f32>() / 2.0,
            // The maximum of many half-normal values.
            Some(Op::MaxPool(_)) => 3.0 * inputs().sum::<f32>(),
            // A sum of independent values. Other operations change little.
            _ => inputs().sum(),
        };
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Returns a nearly normal number with mean 0 and variance 1, within ±3.5: the sum of four uniform 16-bit integers.
    fn normal(&mut self) -> f32 {
        let bits = self.bits();
        let sum: i64 = (0..4).map(|part| ((bits >> (16 * part)) & 0xffff) as i64).sum();
        // Four uniform values of width 1 have variance 4 / 12.
        (sum - 2 * 0xffff) as f32 * (1.732_050_8 / 65_536.0)
    }

    fn tensor(&mut self, parameter: &Parameter, mean: f32, deviation: f32) -> Tensor {
        let count = parameter.shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| mean + deviation * self.normal()).collect();
        Tensor::new(parameter.shape.clone(), values)
    }
}
