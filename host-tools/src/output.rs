//! Output: data on stdout, progress and logs on stderr, progress bars only on a terminal.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use clr_fetch::{Bar, Progress, Unit};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Output options of a command.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// Whether to print one JSON document in place of text.
    pub(crate) json: bool,
    /// Whether to show no progress.
    quiet: bool,
    /// Whether stdout may contain colours.
    colour: bool,
}

/// A JSON document that starts with its versioned schema.
#[derive(Serialize)]
struct Document<'a, T> {
    schema: String,
    #[serde(flatten)]
    body: &'a T,
}

/// Versions of the documents whose keys have changed since version 1.
const VERSIONS: [(&str, u32); 3] = [("bench", 2), ("eval-auto", 2), ("inspect", 2)];

/// Returns `body` as a document `clr.<command>/<version>`.
pub(crate) fn document<T: Serialize>(command: &str, body: &T) -> std::io::Result<String> {
    let version = VERSIONS.iter().find(|(name, _)| *name == command);
    let document = Document {
        schema: format!("clr.{command}/{}", version.map_or(1, |(_, version)| *version)),
        body,
    };
    serde_json::to_string_pretty(&document).map_err(std::io::Error::other)
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        let colour =
            std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::io::stdout().is_terminal();
        Self { json, quiet, colour }
    }

    /// Writes `body` as a document `clr.<command>/<version>`.
    pub(crate) fn document<T: Serialize>(&self, command: &str, body: &T) -> std::io::Result<()> {
        self.line(&document(command, body)?)
    }

    /// Writes one line of data.
    #[expect(
        clippy::unused_self,
        reason = "all output goes through the value, where a test could redirect it"
    )]
    pub(crate) fn line(&self, text: &str) -> std::io::Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.write_all(b"\n")?;
        stdout.flush()
    }

    /// Writes a table with aligned columns. On a terminal, its head is emphasised.
    pub(crate) fn table(&self, table: &Table) -> std::io::Result<()> {
        for (index, line) in table.lines().iter().enumerate() {
            if index == 0 && self.colour {
                self.line(&format!("\u{1b}[1m{line}\u{1b}[0m"))?;
            } else {
                self.line(line)?;
            }
        }
        Ok(())
    }

    /// Returns a bar of `length` steps; hidden unless stderr is a terminal.
    pub(crate) fn bar(&self, length: u64, message: &str) -> ProgressBar {
        self.styled(length, message, "{msg:<28} {bar:28} {pos}/{len} {eta}")
    }

    /// Returns a bar over bytes; hidden unless stderr is a terminal.
    pub(crate) fn bytes_bar(&self, length: u64, message: &str) -> ProgressBar {
        self.styled(
            length,
            message,
            "{msg:<28} {bar:28} {bytes}/{total_bytes} {bytes_per_sec}",
        )
    }

    fn styled(&self, length: u64, message: &str, template: &str) -> ProgressBar {
        let target = if self.quiet || !std::io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(8)
        };
        let bar = ProgressBar::with_draw_target(Some(length), target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(message.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        bar
    }
}

impl Progress for Output {
    fn start(&self, unit: Unit, length: u64, message: &str) -> Box<dyn Bar> {
        let bar = match unit {
            Unit::Bytes => self.bytes_bar(length, message),
            Unit::Images => self.bar(length, message),
        };
        Box::new(FetchBar(bar))
    }
}

/// A bar that disappears when it is dropped.
struct FetchBar(ProgressBar);

impl Bar for FetchBar {
    fn set_length(&self, length: u64) {
        self.0.set_length(length);
    }

    fn set_position(&self, position: u64) {
        self.0.set_position(position);
    }
}

impl Drop for FetchBar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Rows of text in aligned columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Returns a table with these column heads.
    pub(crate) fn new<'a>(head: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            rows: vec![head.into_iter().map(str::to_owned).collect()],
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Returns the lines, with two spaces between columns and numbers aligned to the right.
    pub(crate) fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let numeric = |column: usize| {
            self.rows.iter().skip(1).filter_map(|row| row.get(column)).all(|cell| {
                cell.is_empty() || cell == "-" || cell.starts_with(|c: char| c.is_ascii_digit() || c == '.' || c == '±')
            })
        };
        let layout: Vec<(usize, bool)> = (0..columns).map(|column| (width(column), numeric(column))).collect();
        let line = |row: &Vec<String>| {
            let mut text = String::new();
            for (cell, &(width, right)) in row.iter().zip(&layout) {
                if !text.is_empty() {
                    text.push_str("  ");
                }
                let pad = " ".repeat(width - cell.chars().count());
                if right {
                    text.push_str(&pad);
                    text.push_str(cell);
                } else {
                    text.push_str(cell);
                    text.push_str(&pad);
                }
            }
            text.trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

/// Formats a number of bytes: `950 B`, `128.4 kB`, `17.4 MB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// Formats a duration in seconds: `850 ns`, `1.2 µs`, `3.4 ms`, `12.0 s`, `4 min 05 s`.
pub(crate) fn human_time(seconds: f64) -> String {
    match seconds {
        0.0 => "0 s".to_owned(),
        s if s < 1e-6 => format!("{:.0} ns", s * 1e9),
        s if s < 1e-3 => format!("{:.1} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s => format!("{:.0} min {:02.0} s", (s / 60.0).floor(), s % 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_right_aligned() {
        let mut table = Table::new(["name", "bytes"]);
        table.row(["a".to_owned(), "1".to_owned()]);
        table.row(["long".to_owned(), "1000".to_owned()]);
        assert_eq!(table.lines(), ["name  bytes", "a         1", "long   1000"]);
    }

    #[test]
    fn a_text_column_is_left_aligned() {
        let mut table = Table::new(["id", "text"]);
        table.row(["x".to_owned(), "word".to_owned()]);
        assert_eq!(table.lines(), ["id  text", "x   word"]);
    }

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!(human_bytes(999), "999 B");
        assert_eq!(human_bytes(128_400), "128.4 kB");
        assert_eq!(human_bytes(17_364_911), "17.4 MB");
        assert_eq!(human_time(0.0), "0 s");
        assert_eq!(human_time(8.5e-7), "850 ns");
        assert_eq!(human_time(0.0034), "3.4 ms");
        assert_eq!(human_time(245.0), "4 min 05 s");
    }
}
