//! Exponential moving average of the weights, with a ramp of the decay for short runs.

/// An exponential moving average of parameters.
pub struct Ema {
    /// The averages, in the parameters' order.
    pub values: Vec<Vec<f32>>,
    decay: f64,
}

impl Ema {
    /// Creates an average that starts at `values`. `decay` is the weight of the old average after the ramp, in 0–1.
    pub fn new(values: Vec<Vec<f32>>, decay: f64) -> Self {
        Self { values, decay }
    }

    /// Adds the values after update number `step` (from 1), with the decay `min(decay, (1 + step) / (10 + step))`.
    pub fn update(&mut self, values: &[Vec<f32>], step: u64) {
        let step = step as f64;
        let decay = self.decay.min((1.0 + step) / (10.0 + step)) as f32;
        for (average, values) in self.values.iter_mut().zip(values) {
            average
                .iter_mut()
                .zip(values)
                .for_each(|(average, value)| *average += (1.0 - decay) * (value - *average));
        }
    }
}
