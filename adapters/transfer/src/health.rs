//! Health of a device: independent checks, and the worst of their states.

use alloc::{borrow::ToOwned as _, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::status::clip;

/// Maximum number of checks in [`Health`].
const MAX_CHECKS: usize = 32;
/// Maximum bytes of a check's name.
const MAX_NAME: usize = 64;
/// Maximum bytes of a check's text.
const MAX_TEXT: usize = 512;

/// Returns the text as one line that is safe to print on a terminal. Unprintable characters are escaped, quotes are
/// not.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\'' | '"' | '\\' => line.push(character),
            _ => line.extend(character.escape_debug()),
        }
    }
    line
}

/// State of a check, or of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HealthState {
    /// There is no problem.
    #[default]
    Ok,
    /// The device works, but needs attention.
    Degraded,
    /// The device does not work.
    Failed,
}

/// Result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// The name of the check, such as `source` or `disk`.
    pub name: String,
    /// State of the check.
    pub state: HealthState,
    /// The finding, in one line.
    pub text: String,
}

/// The health of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The worst state among the checks.
    #[serde(rename = "status")]
    pub state: HealthState,
    /// The checks, at most 32.
    pub checks: Vec<HealthCheck>,
}

impl Health {
    /// Adds a check.
    pub fn push(&mut self, name: &str, state: HealthState, text: &str) {
        self.state = self.state.max(state);
        self.checks.push(HealthCheck {
            name: name.to_owned(),
            state,
            text: printable(text),
        });
    }

    /// Truncates lists and texts to their caps.
    pub(crate) fn clip(&mut self) {
        self.checks.truncate(MAX_CHECKS);
        for check in &mut self.checks {
            clip(&mut check.name, MAX_NAME);
            clip(&mut check.text, MAX_TEXT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_check_is_the_state_and_texts_are_single_lines() {
        let mut health = Health::default();
        assert_eq!(health.state, HealthState::Ok);
        health.push("a", HealthState::Failed, "line\n\u{1b}[31m 'ü'");
        health.push("b", HealthState::Degraded, "");
        assert_eq!(health.state, HealthState::Failed);
        assert_eq!(health.checks[0].text, "line\\n\\u{1b}[31m 'ü'");
    }
}
