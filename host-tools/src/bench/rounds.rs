//! Measurement in rounds. The workers take turns, so that changes of the machine affect all of them equally.

use serde::Serialize;

use super::{Times, Worker};

/// Number of rounds, and the length of one worker's turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    pub(crate) count: usize,
    pub(crate) seconds: f64,
    /// Minimum number of runs in a turn.
    pub(crate) least: usize,
}

/// Times of one worker over all rounds, in seconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) best: f64,
    /// Median of the rounds' best times.
    pub(crate) median: f64,
    /// Best time of each round.
    pub(crate) rounds: Vec<f64>,
    pub(crate) runs: usize,
    /// Peak resident memory of the process.
    pub(crate) peak_bytes: Option<u64>,
}

impl Measured {
    fn new(turns: &[Times]) -> Self {
        let rounds: Vec<f64> = turns.iter().map(|times| times.best).collect();
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        Self {
            best: sorted[0],
            median: sorted[sorted.len() / 2],
            rounds,
            runs: turns.iter().map(|times| times.runs).sum(),
            peak_bytes: turns.iter().filter_map(|times| times.peak_bytes).max(),
        }
    }
}

/// Measures all workers. Each round starts with a different one. A worker that fails is left out of later rounds.
pub(crate) fn in_turns(workers: &mut [Worker], rounds: Rounds) -> Vec<anyhow::Result<Measured>> {
    let mut turns: Vec<anyhow::Result<Vec<Times>>> = workers.iter().map(|_| Ok(Vec::new())).collect();
    for round in 0..rounds.count.max(1) {
        for place in 0..workers.len() {
            let index = (round + place) % workers.len();
            let Ok(times) = &mut turns[index] else { continue };
            match workers[index].run(rounds.seconds, rounds.least) {
                Ok(turn) => times.push(turn),
                Err(error) => turns[index] = Err(error),
            }
        }
    }
    turns
        .into_iter()
        .map(|turns| turns.map(|turns| Measured::new(&turns)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_all_rounds_counts_and_the_median_shows_their_spread() {
        let turn = |best: f64| Times {
            median: 2.0 * best,
            best,
            runs: 3,
            peak_bytes: Some((1e3 * best) as u64),
        };
        let measured = Measured::new(&[turn(0.3), turn(0.1), turn(0.2)]);
        assert_eq!((measured.best, measured.median, measured.runs), (0.1, 0.2, 9));
        assert_eq!(measured.rounds, [0.3, 0.1, 0.2]);
        assert_eq!(measured.peak_bytes, Some(300));
    }
}
