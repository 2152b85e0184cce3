//! An exponential moving average of the weights, with a ramp so that short runs forget their start.

pub(crate) struct Average {
    pub(crate) values: Vec<Vec<f32>>,
    decay: f64,
}

impl Average {
    pub(crate) fn new(values: Vec<Vec<f32>>, decay: f64) -> Self {
        Self { values, decay }
    }

    /// Takes in the values after update number `step` (from 1).
    pub(crate) fn update(&mut self, values: &[Vec<f32>], step: u64) {
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
