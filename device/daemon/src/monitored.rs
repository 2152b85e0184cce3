//! Metrics and health of the device for monitoring.

use std::sync::atomic::{AtomicU64, Ordering};

use clr_store::StoredTask;
use clr_transfer::{Health, HealthState};

use super::{
    health,
    http::Monitored,
    lock,
    metrics::{Exposition, Kind},
    runtime::Runtime,
};
use clr_engine::resident_memory;

impl Monitored for Runtime {
    fn metrics(&self) -> String {
        let mut page = Exposition::default();
        self.health_metrics(&mut page);
        self.frame_metrics(&mut page);
        self.source_metrics(&mut page);
        self.image_metrics(&mut page);
        self.task_metrics(&mut page);
        self.peer_metrics(&mut page);
        self.resource_metrics(&mut page);
        page.finish()
    }

    fn health(&self) -> Health {
        health::examine(self)
    }

    fn connection_refused(&self) {
        self.counters.connections_refused.add("http");
    }
}

fn value(count: &AtomicU64) -> f64 {
    count.load(Ordering::Relaxed) as f64
}

impl Runtime {
    fn health_metrics(&self, page: &mut Exposition) {
        let up = health::inference(self).0 == HealthState::Ok;
        page.gauge("clr_up", "1 while the inference loop runs.", f64::from(u8::from(up)));
        let health = health::examine(self);
        let states = health.checks.iter().map(|check| {
            let state = match check.state {
                HealthState::Ok => 0.0,
                HealthState::Degraded => 1.0,
                _ => 2.0,
            };
            (vec![("check", check.name.clone())], state)
        });
        page.family(
            "clr_health",
            Kind::Gauge,
            "State of each check of /healthz: 0 ok, 1 degraded, 2 failed.",
            states,
        );
        page.gauge(
            "clr_uptime_seconds",
            "Time since the start.",
            self.uptime().as_secs_f64(),
        );
    }

    fn frame_metrics(&self, page: &mut Exposition) {
        let counters = &self.counters;
        let by_task = lock(&counters.by_task).clone();
        page.family(
            "clr_frames_answered_total",
            Kind::Counter,
            "Classified frames, by task.",
            by_task
                .into_iter()
                .map(|(task, count)| (vec![("task", task)], count as f64)),
        );
        page.counter(
            "clr_frames_dropped_total",
            "Frames replaced by newer ones before they were classified.",
            value(&counters.dropped),
        );
        page.counter(
            "clr_frames_failed_total",
            "Frames that could not be classified.",
            value(&counters.failed),
        );
        page.counter(
            "clr_answers_lost_total",
            "Results that could not be written to stdout.",
            value(&counters.results_lost),
        );
        let quantiles = lock(&counters.latencies).quantiles();
        page.family(
            "clr_frame_latency_seconds",
            Kind::Gauge,
            "Time from image to result, over the last 1,024 frames.",
            quantiles.into_iter().flat_map(|(median, p99)| {
                [("0.5", median), ("0.99", p99)]
                    .map(|(quantile, time)| (vec![("quantile", quantile.to_owned())], f64::from(time) / 1e3))
            }),
        );
    }

    fn source_metrics(&self, page: &mut Exposition) {
        let Some(source) = self.counters.source.report() else {
            return;
        };
        let up = f64::from(u8::from(source.lost.is_none()));
        page.gauge("clr_source_up", "1 while the source is open.", up);
        page.counter(
            "clr_source_losses_total",
            "Times the source was lost.",
            source.losses as f64,
        );
        page.counter(
            "clr_source_lost_bytes_total",
            "Bytes of the stream outside complete images.",
            source.lost_bytes as f64,
        );
        page.counter(
            "clr_source_frames_total",
            "Frames that the source delivered.",
            source.frames as f64,
        );
        page.gauge(
            "clr_last_frame_age_seconds",
            "Time since the last frame of the source, or since the start.",
            source.frame_age.as_secs_f64(),
        );
    }

    fn image_metrics(&self, page: &mut Exposition) {
        let counters = &self.counters;
        page.counter(
            "clr_images_damaged_total",
            "Truncated or damaged images, frames and taught ones.",
            value(&counters.images_damaged),
        );
        page.counter(
            "clr_images_over_limit_total",
            "Images refused for their bytes, pixels, memory or time.",
            value(&counters.images_over_limit),
        );
        page.counter(
            "clr_images_rejected_total",
            "Images quarantined after a crash while decoding them, and refusals of such images.",
            value(&counters.images_rejected),
        );
    }

    fn task_metrics(&self, page: &mut Exposition) {
        let counters = &self.counters;
        let (tasks, bytes) = self.resident();
        page.gauge("clr_tasks", "Tasks ready in memory.", f64::from(tasks));
        page.gauge(
            "clr_adapter_bytes",
            "Memory of the adapters of these tasks.",
            bytes as f64,
        );
        let states = self.store.tasks();
        let on_trial = states.iter().filter(|state| state.trial.is_some()).count();
        page.gauge(
            "clr_tasks_on_trial",
            "Tasks whose adapter is on trial.",
            on_trial as f64,
        );
        page.gauge(
            "clr_stored_adapter_bytes",
            "Bytes of all adapter files in the store.",
            stored_bytes(&states) as f64,
        );
        page.counter(
            "clr_switches_total",
            "Changes of the active task.",
            value(&counters.switches),
        );
        page.counter(
            "clr_reverts_total",
            "Adapters on trial that were reverted.",
            value(&counters.reverts),
        );
        let runs = counters.learning_runs.counts().into_iter();
        page.family(
            "clr_learning_runs_total",
            Kind::Counter,
            "Learning runs that ended, by result.",
            runs.map(|(result, count)| (vec![("result", result.to_owned())], count as f64)),
        );
    }

    fn peer_metrics(&self, page: &mut Exposition) {
        let refused = self.counters.refused.counts().into_iter();
        page.family(
            "clr_requests_refused_total",
            Kind::Counter,
            "Failed requests of hosts, by name and number of the reason.",
            refused.map(|(code, count)| {
                let labels = vec![("code", code.name().to_owned()), ("number", code.0.to_string())];
                (labels, count as f64)
            }),
        );
        let connections = self.counters.connections_refused.counts().into_iter();
        page.family(
            "clr_connections_refused_total",
            Kind::Counter,
            "Connections refused, by kind.",
            connections.map(|(kind, count)| (vec![("kind", kind.to_owned())], count as f64)),
        );
        let written = self.store.written();
        let kinds = [
            ("upload", written.uploads),
            ("adapter", written.adapters),
            ("example", written.examples),
        ];
        page.family(
            "clr_written_bytes_total",
            Kind::Counter,
            "Bytes written on behalf of peers: pieces of announced uploads, verified adapters, examples.",
            kinds
                .into_iter()
                .map(|(kind, bytes)| (vec![("kind", kind.to_owned())], bytes as f64)),
        );
    }

    fn resource_metrics(&self, page: &mut Exposition) {
        page.gauge(
            "clr_troubles",
            "Faults of the state folder that do not stop the device; the log names them.",
            self.faults().len() as f64,
        );
        page.gauge(
            "clr_resident_memory_bytes",
            "Resident memory of the process.",
            resident_memory() as f64,
        );
        let free = health::free_disk(self).ok().map(|(free, _)| (Vec::new(), free as f64));
        page.family(
            "clr_state_disk_free_bytes",
            Kind::Gauge,
            "Bytes free on the disk of the state folder.",
            free,
        );
    }
}

/// Returns the bytes of all referenced adapter files, each counted once.
fn stored_bytes(states: &[StoredTask]) -> u64 {
    let files = states.iter().flat_map(|state| {
        let trial = state.trial.map(|trial| trial.held);
        [trial, state.confirmed, state.last_good, state.restore]
    });
    let files: std::collections::HashMap<_, _> = files.flatten().map(|held| (held.digest, held.bytes)).collect();
    files.values().sum()
}
