//! Counters and gauges in Prometheus' text format 0.0.4.

use std::fmt::Write as _;

/// Writes metrics one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    text: String,
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
}

impl Exposition {
    /// A metric with its samples: labels and value.
    pub(crate) fn metric(&mut self, name: &str, kind: Kind, help: &str, samples: &[(&[(&str, &str)], f64)]) {
        if samples.is_empty() {
            return;
        }
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let labels: Vec<String> = labels
                .iter()
                .map(|(key, text)| format!("{key}=\"{}\"", escaped(text)))
                .collect();
            let labels = if labels.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", labels.join(","))
            };
            let _ = writeln!(self.text, "{name}{labels} {value}");
        }
    }

    pub(crate) fn finish(self) -> String {
        self.text
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_carry_help_type_and_escaped_labels() {
        let mut page = Exposition::default();
        page.metric(
            "clr_frames_total",
            Kind::Counter,
            "Frames answered.",
            &[(&[("task", "a\"b")], 3.0)],
        );
        page.metric("clr_up", Kind::Gauge, "Whether.", &[(&[], 1.5)]);
        page.metric("clr_none", Kind::Gauge, "Nothing.", &[]);
        assert_eq!(
            page.finish(),
            "# HELP clr_frames_total Frames answered.\n# TYPE clr_frames_total counter\nclr_frames_total{task=\"a\\\"b\"} 3\n\
             # HELP clr_up Whether.\n# TYPE clr_up gauge\nclr_up 1.5\n"
        );
    }
}
