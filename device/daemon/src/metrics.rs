//! Prometheus text format 0.0.4.

use std::fmt::Write as _;

/// Labels of a sample, as pairs of name and value.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// A page of metrics.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    text: String,
}

/// Type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only increases; its name ends in `_total`.
    Counter,
    /// May increase and decrease.
    Gauge,
}

impl Exposition {
    /// Writes a metric with its samples, each a pair of labels and value. Writes nothing if there are no samples.
    pub(crate) fn metric(&mut self, name: &str, kind: Kind, help: &str, samples: &[(&[(&str, &str)], f64)]) {
        let rendered = samples
            .iter()
            .map(|(labels, value)| (braces(labels.iter().copied()), *value));
        self.write(name, kind, help, rendered);
    }

    /// Writes a metric like [`Exposition::metric`], but with owned labels.
    pub(crate) fn family(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        let rendered = samples
            .into_iter()
            .map(|(labels, value)| (braces(labels.iter().map(|(key, text)| (*key, text.as_str()))), value));
        self.write(name, kind, help, rendered);
    }

    /// Writes a counter without labels.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.metric(name, Kind::Counter, help, &[(&[], value)]);
    }

    /// Writes a gauge without labels.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.metric(name, Kind::Gauge, help, &[(&[], value)]);
    }

    fn write(&mut self, name: &str, kind: Kind, help: &str, samples: impl Iterator<Item = (String, f64)>) {
        let mut samples = samples.peekable();
        if samples.peek().is_none() {
            return;
        }
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(self.text, "{name}{labels} {value}");
        }
    }

    pub(crate) fn finish(self) -> String {
        self.text
    }
}

/// Returns the labels of a sample in the text format.
fn braces<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let labels: Vec<String> = labels
        .map(|(key, text)| format!("{key}=\"{}\"", escaped(text)))
        .collect();
    if labels.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", labels.join(","))
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_help_type_and_escaped_labels() {
        let mut page = Exposition::default();
        page.metric(
            "clr_frames_total",
            Kind::Counter,
            "Frames\nanswered.",
            &[(&[("task", "a\"b\\\n")], 3.0)],
        );
        page.gauge("clr_ratio", "Some ratio.", 1.5);
        page.metric("clr_none", Kind::Gauge, "Nothing.", &[]);
        page.family("clr_none", Kind::Gauge, "Nothing.", []);
        assert_eq!(
            page.finish(),
            "# HELP clr_frames_total Frames\\nanswered.\n# TYPE clr_frames_total counter\n\
             clr_frames_total{task=\"a\\\"b\\\\\\n\"} 3\n# HELP clr_ratio Some ratio.\n# TYPE clr_ratio gauge\nclr_ratio 1.5\n"
        );
    }
}
