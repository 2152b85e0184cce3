//! Comparison of methods, seed by seed.

use super::results::{Difference, MethodSummary};
use crate::metrics::mean;

/// Compares methods with `independent` and with `clr`, seed by seed.
pub(super) fn compare(methods: &mut [MethodSummary]) {
    let seeds_of = |name: &str| {
        methods
            .iter()
            .find(|method| method.method == name)
            .map(|of| of.seeds.clone())
    };
    let (alone, clr) = (seeds_of("independent"), seeds_of("clr"));
    for method in methods {
        for seed in &mut method.seeds {
            let alone = alone.iter().flatten().find(|alone| alone.seed == seed.seed);
            seed.intransigence = alone.and_then(|alone| mean_lead(&alone.accuracies, &seed.accuracies));
        }
        let Some(clr) = clr.as_ref().filter(|_| method.method != "clr") else {
            continue;
        };
        let pairs = method.seeds.iter().filter_map(|seed| {
            let clr = clr.iter().find(|clr| clr.seed == seed.seed)?;
            let error = (seed.standard_error?.powi(2) + clr.standard_error?.powi(2)).sqrt();
            Some((seed.average_accuracy - clr.average_accuracy, error))
        });
        let (differences, errors): (Vec<f64>, Vec<f64>) = pairs.unzip();
        method.against_clr = mean(differences).zip(mean(errors)).map(|(mean, error)| Difference {
            mean,
            level: mean.abs() <= 2.0 * error,
        });
    }
}

/// Returns how much one method is ahead of another directly after each task, in the mean.
fn mean_lead(ahead: &[Vec<f64>], behind: &[Vec<f64>]) -> Option<f64> {
    let directly = |rows: &[Vec<f64>]| -> Option<Vec<f64>> {
        let diagonal = rows.iter().enumerate().map(|(task, row)| row.get(task).copied());
        diagonal.collect()
    };
    let (ahead, behind) = (directly(ahead)?, directly(behind)?);
    mean(ahead.into_iter().zip(behind).map(|(ahead, behind)| ahead - behind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::SeedResult;

    /// A method whose accuracy on two tasks is the same after each.
    fn method(name: &str, accuracies: &[(u64, [f64; 2])]) -> MethodSummary {
        let seed = |&(seed, [first, second]): &(u64, [f64; 2])| SeedResult {
            seed,
            order: vec!["a".to_owned(), "b".to_owned()],
            accuracies: match name {
                "joint" => vec![vec![], vec![first, second]],
                _ => vec![vec![first], vec![first, second]],
            },
            average_accuracy: f64::midpoint(first, second),
            standard_error: Some(0.01),
            ..SeedResult::default()
        };
        MethodSummary {
            method: name.to_owned(),
            seeds: accuracies.iter().map(seed).collect(),
            ..MethodSummary::default()
        }
    }

    #[test]
    fn methods_are_compared_over_the_seeds_that_both_have() {
        let mut methods = [
            method("clr", &[(0, [0.8, 0.6]), (1, [0.9, 0.7])]),
            // Two standard errors of a difference are 2 · √2 · 0.01 = 0.028.
            method("bn", &[(0, [0.8, 0.64]), (2, [0.0, 0.0])]),
            method("sgd", &[(0, [0.8, 0.4])]),
            method("independent", &[(0, [0.9, 0.9])]),
            method("joint", &[(0, [0.5, 0.5])]),
        ];
        compare(&mut methods);
        let points = methods
            .each_ref()
            .map(|method| method.against_clr.map(Difference::points));
        assert_eq!(points[0], None);
        assert_eq!(points[1].as_deref(), Some("+2.0, level"));
        assert_eq!(points[2].as_deref(), Some("-10.0"));
        let lead = methods.each_ref().map(|method| method.seeds[0].intransigence);
        assert!((lead[0].expect("a lead") - 0.2).abs() < 1e-9);
        assert!((lead[2].expect("a lead") - 0.3).abs() < 1e-9);
        // Joint training has no accuracy directly after the first task.
        assert_eq!((lead[3], lead[4]), (Some(0.0), None));
        assert_eq!(methods[0].seeds[1].intransigence, None);
    }
}
