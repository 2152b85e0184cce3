//! The device as a monitoring system sees it.

use std::{sync::atomic::Ordering, time::Duration};

use super::{Runtime, lock};
use crate::{
    daemon::{
        http::Monitored,
        metrics::{Exposition, Kind},
    },
    resident_memory,
};

/// An inference loop that has not come round for this long is stuck.
const STUCK: Duration = Duration::from_secs(10);

impl Monitored for Runtime {
    fn metrics(&self) -> String {
        let counters = &self.counters;
        let mut page = Exposition::default();
        let total = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed) as f64;
        page.metric(
            "clr_up",
            Kind::Gauge,
            "1 while the inference loop runs.",
            &[(&[], f64::from(u8::from(self.fault().is_none())))],
        );
        let by_task = lock(&counters.by_task).clone();
        let labels: Vec<[(&str, &str); 1]> = by_task.keys().map(|task| [("task", task.as_str())]).collect();
        let samples: Vec<_> = labels
            .iter()
            .zip(by_task.values())
            .map(|(labels, &count)| (&labels[..], count as f64))
            .collect();
        page.metric(
            "clr_frames_answered_total",
            Kind::Counter,
            "Frames answered, by task.",
            &samples,
        );
        page.metric(
            "clr_frames_dropped_total",
            Kind::Counter,
            "Frames replaced by newer ones.",
            &[(&[], total(&counters.dropped))],
        );
        page.metric(
            "clr_frames_failed_total",
            Kind::Counter,
            "Frames without an answer.",
            &[(&[], total(&counters.failed))],
        );
        page.metric(
            "clr_switches_total",
            Kind::Counter,
            "Changes of the active task.",
            &[(&[], total(&counters.switches))],
        );
        let refused = &counters.refused_connections;
        page.metric(
            "clr_connections_refused_total",
            Kind::Counter,
            "Connections turned away, by kind.",
            &[
                (&[("kind", "control")], total(&refused.control)),
                (&[("kind", "unknown")], total(&refused.unknown)),
                (&[("kind", "stranger")], total(&refused.stranger)),
                (&[("kind", "session")], total(&counters.refused_sessions)),
            ],
        );
        if let Some((median, p99)) = lock(&counters.latencies).quantiles() {
            let samples: [(&[(&str, &str)], f64); 2] = [
                (&[("quantile", "0.5")], f64::from(median) / 1e3),
                (&[("quantile", "0.99")], f64::from(p99) / 1e3),
            ];
            page.metric(
                "clr_frame_latency_seconds",
                Kind::Gauge,
                "From picture to answer, over the last 1,024 frames.",
                &samples,
            );
        }
        let (tasks, bytes) = self.resident();
        page.metric(
            "clr_tasks",
            Kind::Gauge,
            "Tasks ready in memory.",
            &[(&[], f64::from(tasks))],
        );
        page.metric(
            "clr_adapter_bytes",
            Kind::Gauge,
            "Memory of their adapters.",
            &[(&[], bytes as f64)],
        );
        let on_trial = self.store.tasks().iter().filter(|state| state.trial.is_some()).count();
        page.metric(
            "clr_tasks_on_trial",
            Kind::Gauge,
            "Tasks whose adapter is on trial.",
            &[(&[], on_trial as f64)],
        );
        page.metric(
            "clr_resident_memory_bytes",
            Kind::Gauge,
            "Resident memory of the process.",
            &[(&[], resident_memory() as f64)],
        );
        page.metric(
            "clr_uptime_seconds",
            Kind::Counter,
            "Since the start.",
            &[(&[], self.started.elapsed().as_secs_f64())],
        );
        page.finish()
    }

    fn fault(&self) -> Option<String> {
        let alive = *lock(&self.counters.alive);
        match alive {
            _ if self.stop.is_set() => Some("stopping".to_owned()),
            None => Some("starting".to_owned()),
            Some(at) if at.elapsed() > STUCK => Some(format!(
                "the inference loop has not come round for {} s",
                at.elapsed().as_secs()
            )),
            Some(_) => None,
        }
    }
}
