//! Classification of an image: logits, probabilities and ranking.

use std::sync::Arc;

use crate::ResidentAdapter;

/// The network's output for one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Classification {
    logits: Vec<f32>,
    labels: Arc<[String]>,
    temperature: f32,
}

/// One class of a ranking.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked<'a> {
    /// Index of the class among the adapter's labels.
    pub class: usize,
    /// The class's label; empty if the adapter has none for it.
    pub label: &'a str,
    /// Calibrated probability over all classes, in 0–1: the softmax of the logits divided by the adapter's temperature.
    pub probability: f32,
}

impl Classification {
    /// Creates the classification of an image from an adapter's logits.
    pub(crate) fn of(adapter: &ResidentAdapter, logits: Vec<f32>) -> Self {
        Self {
            logits,
            labels: Arc::clone(&adapter.labels),
            temperature: adapter.temperature,
        }
    }

    /// Returns the logits of the head, one per class.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Returns the softmax of the logits divided by the adapter's temperature, one probability per class. The largest
    /// logit is subtracted first, so nothing overflows. The sum uses double precision.
    pub fn probabilities(&self) -> Vec<f32> {
        let max = self.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponentials: Vec<f64> = self
            .logits
            .iter()
            .map(|&logit| ((f64::from(logit) - f64::from(max)) / f64::from(self.temperature)).exp())
            .collect();
        let sum: f64 = exponentials.iter().sum();
        exponentials.into_iter().map(|value| (value / sum) as f32).collect()
    }

    /// Returns the `count` most probable classes, best first. Classes of equal probability are in class order. Returns
    /// fewer if there are fewer classes.
    pub fn top(&self, count: usize) -> Vec<Ranked<'_>> {
        let probabilities = self.probabilities();
        let mut order: Vec<usize> = (0..self.logits.len()).collect();
        order.sort_by(|&a, &b| self.logits[b].total_cmp(&self.logits[a]).then(a.cmp(&b)));
        order
            .into_iter()
            .take(count)
            .map(|class| Ranked {
                class,
                label: self.labels.get(class).map_or("", String::as_str),
                probability: probabilities[class],
            })
            .collect()
    }

    /// Returns the most probable class.
    pub fn best(&self) -> Option<Ranked<'_>> {
        self.top(1).pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classification(logits: &[f32]) -> Classification {
        let labels: Vec<String> = (0..logits.len()).map(|class| format!("class {class}")).collect();
        Classification {
            logits: logits.to_vec(),
            labels: labels.into(),
            temperature: 1.0,
        }
    }

    #[test]
    fn ranks_by_logit_and_ties_by_class() {
        let answer = classification(&[1.0, 3.0, -2.0, 3.0]);
        let order: Vec<usize> = answer.top(10).iter().map(|ranked| ranked.class).collect();
        assert_eq!(order, [1, 3, 0, 2]);
        assert_eq!(answer.best().unwrap().label, "class 1");
        assert_eq!(answer.top(2).len(), 2);
    }

    #[test]
    fn a_temperature_changes_probabilities_and_never_the_ranking() {
        let order = |answer: &Classification| answer.top(9).iter().map(|ranked| ranked.class).collect::<Vec<_>>();
        for logits in [&[1.0, 3.0, -2.0, 3.0][..], &[0.0, 1e-6, 2e-6], &[500.0, -500.0]] {
            let plain = classification(logits);
            for temperature in [0.1, 0.7, 3.0, 1e4] {
                let answer = Classification {
                    temperature,
                    ..plain.clone()
                };
                assert_eq!(order(&answer), order(&plain));
                assert!((answer.probabilities().iter().sum::<f32>() - 1.0).abs() < 1e-6);
                let surer = answer.best().unwrap().probability >= plain.best().unwrap().probability;
                assert!(surer || temperature > 1.0);
            }
        }
    }

    #[test]
    fn probabilities_sum_to_one_and_do_not_overflow() {
        for logits in [&[1000.0, 999.0, -1000.0][..], &[-1000.0, -1001.0][..], &[0.0; 5][..]] {
            let probabilities = classification(logits).probabilities();
            assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
        let two = classification(&[1000.0, 999.0]).probabilities();
        assert!((two[0] - 1.0 / (1.0 + (-1.0f32).exp())).abs() < 1e-6);
    }
}
