//! Dense layer.

use super::*;

#[test]
fn dense_layer_equals_its_definition() {
    let mut random = Random(4);
    let many = if cfg!(miri) { 130 } else { 1280 };
    for (inputs, outputs) in [(many, 10), (67, 3), (5, 1)] {
        let (weight, bias, x) = (
            random.vector(inputs * outputs),
            random.vector(outputs),
            random.vector(inputs),
        );
        let want: Vec<f32> = (0..outputs)
            .map(|o| {
                let row = &weight[o * inputs..(o + 1) * inputs];
                let sum: f64 = row.iter().zip(&x).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                (sum + f64::from(bias[o])) as f32
            })
            .collect();
        for isa in Isa::available() {
            let mut got = vec![0.0; outputs];
            dense(isa, &weight, &bias, &x, &mut got);
            close(&got, &want, largest(&want), "dense");
        }
    }
}
