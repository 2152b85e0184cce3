//! Latency quantiles over the latest frames.

/// Number of latencies kept.
const WINDOW: usize = 1_024;

/// The latencies of the last frames, in milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    values: Vec<f32>,
    next: usize,
}

impl Latencies {
    pub(crate) fn push(&mut self, milliseconds: f32) {
        if self.values.len() < WINDOW {
            self.values.push(milliseconds);
        } else {
            self.values[self.next] = milliseconds;
        }
        self.next = (self.next + 1) % WINDOW;
    }

    /// Returns the number of frames in the statistics.
    pub(crate) fn len(&self) -> u32 {
        self.values.len() as u32
    }

    /// Returns the median and the 99th percentile in milliseconds; `None` before the first frame.
    pub(crate) fn quantiles(&self) -> Option<(f32, f32)> {
        let mut sorted = self.values.clone();
        sorted.sort_unstable_by(f32::total_cmp);
        let at = |share: f64| {
            sorted
                .get(((sorted.len().saturating_sub(1)) as f64 * share).round() as usize)
                .copied()
        };
        at(0.5).zip(at(0.99))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantiles_cover_the_latest_frames() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantiles(), None);
        (0..5_000).for_each(|_| latencies.push(1_000.0));
        (0..1_024).for_each(|at| latencies.push((at % 101) as f32));
        let (median, late) = latencies.quantiles().unwrap();
        assert!(
            (median - 50.0).abs() <= 1.0 && (late - 99.0).abs() <= 1.0,
            "{median} {late}"
        );
    }
}
