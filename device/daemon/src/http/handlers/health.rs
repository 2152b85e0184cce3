//! `/healthz`: status 200 and `ok`, or 503 and one line per fault. The body is JSON if the query has `json` or the
//! `Accept` field asks for it.

use std::fmt::Write as _;

use clr_transfer::{Health, HealthState};
use hyper::{StatusCode, http::request::Parts};
use serde::Serialize;

use crate::http::{
    Monitored,
    reply::{JSON, Reply, TEXT},
    router::{accepts, has_parameter},
};

/// Schema of the document. Its number increases when a field changes its meaning or is removed.
const SCHEMA: &str = "clr.health/1";

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    #[serde(flatten)]
    health: &'a Health,
}

pub(in crate::http) fn get(device: &dyn Monitored, head: &Parts) -> Reply {
    let health = device.health();
    let status = match health.state {
        HealthState::Failed => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    if has_parameter(head, "json") || accepts(head, JSON) {
        let document = Document {
            schema: SCHEMA,
            health: &health,
        };
        return match serde_json::to_string(&document) {
            Ok(text) => Reply::new(status, JSON, text + "\n"),
            Err(error) => Reply::text(StatusCode::INTERNAL_SERVER_ERROR, error),
        };
    }
    Reply::new(status, TEXT, text(&health))
}

/// Returns `ok` unless a check failed, and one line per failed or degraded check.
fn text(health: &Health) -> String {
    let mut text = if health.state == HealthState::Failed {
        String::new()
    } else {
        "ok\n".to_owned()
    };
    for (state, name) in [(HealthState::Failed, "failed"), (HealthState::Degraded, "degraded")] {
        for check in health.checks.iter().filter(|check| check.state == state) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name} {}: {}", check.name, check.text);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_a_line_and_failures_come_first() {
        let mut health = Health::default();
        assert_eq!(text(&health), "ok\n");
        health.push("time", HealthState::Degraded, "the clock was\nnever set");
        assert_eq!(text(&health), "ok\ndegraded time: the clock was\\nnever set\n");
        health.push("source", HealthState::Failed, "lost");
        assert_eq!(
            text(&health),
            "failed source: lost\ndegraded time: the clock was\\nnever set\n"
        );
    }
}
