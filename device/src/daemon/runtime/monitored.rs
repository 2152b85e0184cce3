//! The device as a monitoring system sees it.

use std::{sync::atomic::Ordering, time::Duration};

use super::{Runtime, lock};
use crate::{
    daemon::{
        http::Monitored,
        metrics::{Exposition, Kind},
        source::SourceReport,
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
            &[(&[], f64::from(u8::from(self.loop_fault().is_none())))],
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
        for (name, help, counter) in [
            (
                "clr_images_damaged_total",
                "Images that are cut or damaged, as frames or taught.",
                &counters.images_damaged,
            ),
            (
                "clr_images_over_limit_total",
                "Images refused for their bytes, pixels, memory or time.",
                &counters.images_over_limit,
            ),
            (
                "clr_images_rejected_total",
                "Images set aside after the device ended on them, and refusals of such.",
                &counters.images_rejected,
            ),
        ] {
            page.metric(name, Kind::Counter, help, &[(&[], total(counter))]);
        }
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
        page.metric(
            "clr_answers_lost_total",
            Kind::Counter,
            "Answers that stdout did not take.",
            &[(&[], total(&counters.answers_lost))],
        );
        if let Some(source) = counters.source.report() {
            source_metrics(&mut page, &source);
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
        let written = self.store.written();
        let samples: [(&[(&str, &str)], f64); 3] = [
            (&[("kind", "upload")], written.uploads as f64),
            (&[("kind", "adapter")], written.adapters as f64),
            (&[("kind", "example")], written.examples as f64),
        ];
        page.metric(
            "clr_written_bytes_total",
            Kind::Counter,
            "Bytes written on behalf of peers: pieces of announced uploads, verified adapters, examples.",
            &samples,
        );
        page.metric(
            "clr_troubles",
            Kind::Gauge,
            "Faults of the state folder that the device serves in spite of; the log names them.",
            &[(&[], self.troubles().len() as f64)],
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
        self.loop_fault().or_else(|| self.counters.source.fault())
    }
}

impl Runtime {
    fn loop_fault(&self) -> Option<String> {
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

fn source_metrics(page: &mut Exposition, source: &SourceReport) {
    let mut metric = |name, kind, help, value| page.metric(name, kind, help, &[(&[], value)]);
    let up = f64::from(u8::from(source.lost.is_none()));
    metric("clr_source_up", Kind::Gauge, "1 while the source is open.", up);
    metric(
        "clr_source_losses_total",
        Kind::Counter,
        "Times the source was lost.",
        source.losses as f64,
    );
    metric(
        "clr_source_lost_bytes_total",
        Kind::Counter,
        "Bytes of the stream that belonged to no complete image.",
        source.lost_bytes as f64,
    );
    metric(
        "clr_source_frames_total",
        Kind::Counter,
        "Frames that the source delivered.",
        source.frames as f64,
    );
    metric(
        "clr_last_frame_age_seconds",
        Kind::Gauge,
        "Since the last frame of the source, or since the start.",
        source.frame_age.as_secs_f64(),
    );
}
