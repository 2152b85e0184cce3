//! Log set-up: one line per event, foreign text escaped, and no waiting for stderr.

use std::{
    fmt,
    io::{self, IsTerminal as _},
};

use tracing::field::Field;
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt as _,
    fmt::format::{FormatFields, Writer, debug_fn},
};

use super::{clock::LogTime, escape, stderr::LogLines};

/// Returns the format of an event's fields: each value on one line, with control characters escaped. All events pass
/// through it, so callers do not have to escape values.
fn fields() -> impl for<'writer> FormatFields<'writer> + Clone {
    debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        let value = escape::debug_on_one_line(value);
        match field.name() {
            "message" => writer.write_str(&value),
            name if writer.has_ansi_escapes() => write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}"),
            name => write!(writer, "{name}={value}"),
        }
    })
    .delimited(" ")
}

/// Starts logging to stderr. Under systemd the journal adds time and colour.
pub(super) fn start(verbose: u8) {
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    // The audit log has its own files, and its lines would dominate a terminal.
    let default = if journal {
        "warn,clr_daemon=info,clr_engine=info,clr_store=info"
    } else {
        "warn,clr_daemon=info,clr_engine=info,clr_daemon::audit=warn,clr_store=info"
    };
    let level = [
        default,
        "info,clr_daemon=debug,clr_engine=debug,clr_store=debug",
        "debug",
    ];
    let filter =
        EnvFilter::try_from_env("CLR_LOG").unwrap_or_else(|_| EnvFilter::new(level[usize::from(verbose.min(2))]));
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let format = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .fmt_fields(fields())
        .with_timer(LogTime)
        .with_writer(|| LogLines)
        .with_ansi(colour)
        .log_internal_errors(false)
        .with_target(false);
    if journal {
        format.without_time().init();
    } else {
        format.init();
    }
    log_panics();
}

/// Sends panics to the log, because their message may quote foreign text and must not wait for a stalled stderr.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(
            thread = thread.name(),
            place,
            "panicked: {}",
            panic.payload_as_str().unwrap_or("no message")
        );
    }));
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_its_fields_hold() {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(fields())
            .with_timer(LogTime)
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .finish();
        let foreign = "x\n2026-11-29T00:00:00Z ERROR forged\r\u{1b}[2J\u{9b}1m\u{202e}\u{2028}";
        let error = io::Error::other(foreign);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(task = foreign, peer = %foreign, label = ?foreign, error = &error as &dyn std::error::Error, "at {foreign}");
            let span = tracing::info_span!("session", peer = %foreign);
            span.in_scope(|| tracing::warn!("no\nhint: do"));
        });
        let log = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.lines().count(), 2, "{log}");
        assert!(log.ends_with('\n') && log.contains("no; hint: do"), "{log}");
        let shown = |character: char| character == '\n' || !escape::is_unsafe(character);
        assert!(log.chars().all(shown), "{log:?}");
        for field in ["task=", "peer=", "label=", "error="] {
            assert!(log.contains(field), "{log}");
        }
    }
}
