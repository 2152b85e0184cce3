//! Measures of a matrix of accuracies, `R[i][j]`: the accuracy on task `j` after task `i`.

/// Accuracies in 0–1. Row `i` has the tasks `0..=i`; a method that learns all tasks at once has empty rows but the last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccuracyMatrix {
    rows: Vec<Vec<f64>>,
}

impl AccuracyMatrix {
    /// Creates a matrix from its rows.
    pub fn new(rows: Vec<Vec<f64>>) -> Self {
        Self { rows }
    }

    /// Returns the rows.
    pub fn rows(&self) -> &[Vec<f64>] {
        &self.rows
    }

    /// Returns the accuracy on the first task after each task.
    pub fn first_task(&self) -> Vec<Option<f64>> {
        self.rows.iter().map(|row| row.first().copied()).collect()
    }

    /// Returns the mean accuracy on the tasks so far, after each task: `Aᵢ`.
    pub fn means(&self) -> Vec<Option<f64>> {
        self.rows.iter().map(|row| mean(row.iter().copied())).collect()
    }

    /// Returns the mean accuracy on all tasks after the last one.
    pub fn average_accuracy(&self) -> Option<f64> {
        self.means().last().copied().flatten()
    }

    /// Returns the forgetting (Chaudhry et al. 2018): the mean over all tasks but the last of the largest accuracy before
    /// the last task, minus that after it. It is negative if tasks become better.
    pub fn forgetting(&self) -> Option<f64> {
        let (last, before) = self.rows.split_last()?;
        let of_task = |task: usize| {
            let largest = before
                .iter()
                .filter_map(|row| row.get(task))
                .copied()
                .reduce(f64::max)?;
            Some(largest - last[task])
        };
        mean_of((0..before.len()).map(of_task))
    }

    /// Returns the backward transfer (Lopez-Paz and Ranzato 2017): the mean over all tasks but the last of the accuracy
    /// after the last task, minus that directly after the task.
    pub fn backward_transfer(&self) -> Option<f64> {
        let (last, before) = self.rows.split_last()?;
        mean_of((before.iter().enumerate()).map(|(task, row)| Some(last[task] - row.get(task)?)))
    }
}

/// Returns the mean of values; `None` without any.
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0_usize);
    for value in values {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / count as f64)
}

/// Returns the mean of values that must all be there.
fn mean_of(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    mean(values.collect::<Option<Vec<f64>>>()?)
}

/// Returns the standard error of a mean of accuracies that were measured on images: pairs of correct images and all
/// images. It is that of the choice of images, not of seeds.
pub(crate) fn standard_error(counts: &[(usize, usize)]) -> Option<f64> {
    let variance = counts.iter().map(|&(correct, total)| {
        let share = correct as f64 / total as f64;
        share * (1.0 - share) / total as f64
    });
    let sum: f64 = variance.sum();
    (!counts.is_empty() && sum.is_finite()).then(|| sum.sqrt() / counts.len() as f64)
}

/// Returns the standard deviation of a sample; `None` for fewer than two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values.iter().copied()).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: Option<f64>, expected: f64) {
        let got = got.expect("a value");
        assert!((got - expected).abs() < 1e-9, "{got} {expected}");
    }

    #[test]
    fn the_measures_of_three_tasks_are_those_of_their_definitions() {
        let matrix = AccuracyMatrix::new(vec![vec![0.9], vec![0.7, 0.8], vec![0.6, 0.9, 0.7]]);
        close(matrix.average_accuracy(), 2.2 / 3.0);
        // Task 2 became better: 0.9 − 0.6 and 0.8 − 0.9.
        close(matrix.forgetting(), 0.1);
        close(matrix.backward_transfer(), -0.1);
        assert_eq!(matrix.first_task(), [Some(0.9), Some(0.7), Some(0.6)]);
    }

    #[test]
    fn a_method_that_learns_all_at_once_has_no_forgetting() {
        let matrix = AccuracyMatrix::new(vec![vec![], vec![0.5, 0.7]]);
        close(matrix.average_accuracy(), 0.6);
        assert_eq!((matrix.forgetting(), matrix.backward_transfer()), (None, None));
    }

    #[test]
    fn the_error_of_a_mean_is_smaller_than_that_of_its_accuracies() {
        close(standard_error(&[(80, 100)]), 0.04);
        close(standard_error(&[(80, 100), (80, 100), (20, 100), (20, 100)]), 0.02);
        assert_eq!((standard_error(&[]), standard_error(&[(0, 0)])), (None, None));
    }

    #[test]
    fn a_deviation_needs_two_values() {
        assert_eq!(standard_deviation(&[1.0]), None);
        close(standard_deviation(&[1.0, 3.0]), 2.0_f64.sqrt());
    }
}
