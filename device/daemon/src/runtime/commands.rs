//! Implementation of the update protocol's requests on the running device.

use std::sync::{Arc, atomic::Ordering};

use clr_adapters::Digest;
use clr_store::StoreError;
use clr_transfer::{
    Begin, Capabilities, Committed, Device, DeviceInfo, ExampleSelection, ExampleSummary, ExampleTask, Failure,
    FailureCode, Frames, Latency, Memory, PullInfo, RemovedExamples, RevertReport, Slot, Status, TaskState,
    TaskSummary, TeachLimits, TrialStatus,
};

use super::{Runtime, failure, lock, stamp};
use crate::{task_choice::TaskChoice, trial::TrialRun};
use clr_engine::{resident_memory, trim_heap};

impl Runtime {
    /// Changes the store, then loads the adapter that the store now selects for the task.
    fn change<T>(&self, task: &str, change: impl FnOnce() -> Result<T, StoreError>) -> Result<(), Failure> {
        let changing = self.serving.lock_updates();
        change().map_err(failure::of_store)?;
        self.load(&changing, task).map_err(failure::of_daemon)
    }

    /// Returns the names of the selected tasks in their order.
    pub(crate) fn selected_tasks(&self) -> Vec<String> {
        let selection = self.serving.tasks().selection();
        selection.map_or_else(Vec::new, |selection| selection.names().map(str::to_owned).collect())
    }

    /// Switches from the next frame on, and persists the choice. If a task is unknown, nothing changes.
    fn choose(&self, choice: TaskChoice) -> Result<(), Failure> {
        // The guard orders concurrent requests, so that the persisted choice is the one in effect.
        let switching = self.serving.lock_switches();
        match &choice {
            TaskChoice::Auto => {
                switching.switch_to_auto();
                tracing::info!("switched to automatic choice");
            }
            TaskChoice::Tasks(tasks) => {
                switching.switch(tasks).map_err(failure::of_engine)?;
                self.counters.switches.fetch_add(1, Ordering::Relaxed);
                tracing::info!(task = tasks.join(", "), "switched");
            }
        }
        // The switch takes effect even if the write fails.
        self.persist(choice)
    }
}

impl Device for Runtime {
    fn hello(&self) -> DeviceInfo {
        DeviceInfo {
            device: self.config.load().name.clone(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
            backbone: self.engine.backbone().digest(),
            capabilities: Capabilities {
                delta: true,
                examples: true,
                tuning: cfg!(feature = "tuning"),
            },
        }
    }

    fn begin(&self, begin: &Begin) -> Result<u64, Failure> {
        self.begin_transfer(begin)
    }

    fn chunk(&self, digest: &Digest, offset: u64, data: &[u8]) -> Result<u64, Failure> {
        match self.store.append(digest, offset, data) {
            // Another host sends the same file, so the reply is the current offset.
            Err(StoreError::Offset { held, .. }) => Ok(held),
            held => held.map_err(failure::of_store),
        }
    }

    fn commit(&self, begin: &Begin) -> Result<Committed, Failure> {
        self.commit_transfer(begin)
    }

    fn abort(&self, digest: &Digest) -> Result<(), Failure> {
        if let Err(error) = self.store.discard(digest) {
            tracing::warn!("{error}");
        }
        Ok(())
    }

    fn status(&self) -> Result<Status, Failure> {
        let counters = &self.counters;
        let (median, p99, frames) = {
            let latencies = lock(&counters.latencies);
            let (median, p99) = latencies.quantiles().unwrap_or_default();
            (median, p99, latencies.len())
        };
        let microseconds = |milliseconds: f32| (f64::from(milliseconds) * 1e3) as u64;
        let (resident_tasks, adapter_bytes) = self.resident();
        let states = self.store.tasks();
        let mut reverts: Vec<RevertReport> = states
            .iter()
            .filter_map(|state| {
                let reverted = state.reverted.as_ref()?;
                Some(RevertReport {
                    task: state.task.clone(),
                    version: reverted.held.version,
                    reason: reverted.reason.clone(),
                    at: reverted.at,
                })
            })
            .collect();
        reverts.sort_by_key(|revert| std::cmp::Reverse(revert.at));
        let trials = states.iter().filter_map(|state| {
            let trial = state.trial?;
            let left = self.detail(&state.task, |detail| detail.trial.as_ref().map(TrialRun::left));
            Some(TrialStatus {
                task: state.task.clone(),
                version: trial.held.version,
                revision: trial.held.revision,
                frames_left: left.flatten().unwrap_or(0),
            })
        });
        Ok(Status {
            device: self.config.load().name.clone(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
            backbone: self.engine.backbone().digest(),
            active_task: self.serving.tasks().active().map(|adapter| adapter.task().to_owned()),
            auto: self.serving.auto(),
            uptime_seconds: self.started.elapsed().as_secs(),
            frames: Frames {
                served: counters.served.load(Ordering::Relaxed),
                dropped: counters.dropped.load(Ordering::Relaxed),
                failed: counters.failed.load(Ordering::Relaxed),
            },
            latency: Latency {
                median_us: microseconds(median),
                p99_us: microseconds(p99),
                frames,
            },
            memory: Memory {
                resident_bytes: resident_memory(),
                resident_after_start_bytes: self.resident_after_start.load(Ordering::Relaxed),
                resident_tasks,
                adapter_bytes,
            },
            trials: trials.collect(),
            reverts,
            #[cfg(feature = "tuning")]
            tuning: Some(self.learning.status()),
            #[cfg(not(feature = "tuning"))]
            tuning: None,
        })
    }

    fn list(&self) -> Result<Vec<TaskSummary>, Failure> {
        let selection = self.serving.tasks().selection();
        let is_active = |task: &str| {
            let active = selection.as_ref().map(|selection| selection.adapters());
            active.is_some_and(|mut active| active.any(|adapter| adapter.task() == task))
        };
        let states = self.store.tasks();
        let summaries = states.iter().filter_map(|state| {
            let serving = state.trial.map(|trial| trial.held).or(state.confirmed);
            // A removed task of which only the highest version is kept is not listed.
            if serving.is_none() && state.reverted.is_none() {
                return None;
            }
            let mut summary = TaskSummary {
                task: state.task.clone(),
                labels: 0,
                version: serving.map_or(0, |held| held.version),
                revision: serving.map_or(0, |held| held.revision),
                digest: serving.map_or(Digest([0; 32]), |held| held.digest),
                file_bytes: serving.map_or(0, |held| held.bytes),
                active: is_active(&state.task),
                state: if serving.is_some() {
                    TaskState::Confirmed
                } else {
                    TaskState::Empty
                },
                provenance: clr_adapters::Provenance::HostTrained,
                signer: None,
                has_last_good: state.last_good.is_some(),
                has_original: state.restore.is_some(),
                last_revert: state.reverted.as_ref().map(|reverted| reverted.reason.clone()),
            };
            self.detail(&state.task, |detail| {
                summary.labels = detail.labels;
                (summary.version, summary.revision) = (detail.version, detail.revision);
                (summary.digest, summary.file_bytes) = (detail.digest, detail.file_bytes);
                summary.provenance = detail.provenance;
                summary.signer = detail.signer.map(|key| Digest(key.0).to_string());
                if let Some(trial) = &detail.trial {
                    summary.state = TaskState::OnTrial {
                        frames_left: trial.left(),
                    };
                }
            });
            Some(summary)
        });
        // Tasks that only have stored images are listed too, because they occupy space.
        let taught = self.store.taught_only().into_iter().map(|task| TaskSummary {
            task,
            labels: 0,
            version: 0,
            revision: 0,
            digest: Digest([0; 32]),
            file_bytes: 0,
            active: false,
            state: TaskState::Empty,
            provenance: clr_adapters::Provenance::DeviceTuned,
            signer: None,
            has_last_good: false,
            has_original: false,
            last_revert: None,
        });
        Ok(summaries.chain(taught).collect())
    }

    fn switch(&self, task: &str) -> Result<(), Failure> {
        self.choose(TaskChoice::of_names(&[task])?)
    }

    fn switch_group(&self, tasks: &[&str]) -> Result<(), Failure> {
        self.choose(TaskChoice::of_names(tasks)?)
    }

    fn selection(&self) -> Result<Vec<String>, Failure> {
        Ok(self.selected_tasks())
    }

    fn rollback(&self, task: &str) -> Result<(), Failure> {
        self.change(task, || self.store.rollback(task, stamp()))
    }

    fn restore(&self, task: &str) -> Result<(), Failure> {
        self.change(task, || self.store.restore(task, stamp()))
    }

    fn remove(&self, task: &str) -> Result<(), Failure> {
        // No switch may select the task between its removal from the store and from memory.
        let _switching = self.serving.lock_switches();
        let changing = self.serving.lock_updates();
        self.store.remove(task).map_err(failure::of_store)?;
        self.forget_choice(task);
        changing.remove(task);
        lock(&self.kept_frames).remove(task);
        trim_heap();
        tracing::info!(task, "removed");
        Ok(())
    }

    fn mark_good(&self, task: &str) -> Result<(), Failure> {
        self.change(task, || self.store.mark_good(task))
    }

    fn mark_bad(&self, task: &str) -> Result<(), Failure> {
        self.change(task, || self.store.mark_bad(task, stamp()))
    }

    fn open(&self, task: &str, slot: Slot) -> Result<PullInfo, Failure> {
        let state = self.store.task(task).map_err(failure::of_store)?;
        let trial = state.trial.map(|trial| trial.held);
        let held = match slot {
            Slot::Serving => trial.or(state.confirmed),
            Slot::Confirmed => state.confirmed,
            Slot::OnTrial => trial,
            Slot::LastGood => state.last_good,
            Slot::Original => state.restore,
            _ => None,
        };
        let held = held.ok_or_else(|| {
            Failure::new(
                FailureCode::NO_FILE,
                format_args!("task `{task}` has no such file ({slot:?})"),
            )
        })?;
        Ok(PullInfo {
            digest: held.digest,
            length: held.bytes,
        })
    }

    fn read(&self, digest: &Digest, offset: u64, out: &mut [u8]) -> Result<usize, Failure> {
        let mut reading = lock(&self.reading);
        let bytes = match &*reading {
            Some((known, bytes)) if known == digest => Arc::clone(bytes),
            _ => {
                let bytes: Arc<[u8]> = self.stored_file(digest).map_err(failure::of_store)?.into();
                *reading = Some((*digest, Arc::clone(&bytes)));
                bytes
            }
        };
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| bytes.get(offset..))
            .unwrap_or_default();
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        // Drop the copy after the last piece.
        if count == rest.len() {
            *reading = None;
        }
        Ok(count)
    }

    #[cfg(feature = "tuning")]
    fn tune_status(&self) -> Result<clr_transfer::TuneStatus, Failure> {
        Ok(self.learning.status())
    }

    #[cfg(feature = "tuning")]
    fn stop_tuning(&self) -> Result<(), Failure> {
        self.learning.request_stop();
        Ok(())
    }

    fn refused(&self, request: &'static str, failure: &Failure) {
        tracing::debug!(request, code = %failure.code, "request refused");
        self.counters.refused.add(failure.code);
    }

    fn teach_limits(&self, task: &str) -> Result<TeachLimits, Failure> {
        self.limits_for_images(task)
    }

    fn example_tasks(&self) -> Result<Vec<ExampleTask>, Failure> {
        self.list_example_tasks()
    }

    fn examples(&self, task: &str) -> Result<Vec<ExampleSummary>, Failure> {
        self.list_examples(task)
    }

    fn open_example(&self, task: &str, id: &Digest) -> Result<PullInfo, Failure> {
        self.open_stored_example(task, id)
    }

    fn remove_examples(&self, task: &str, selection: &ExampleSelection) -> Result<RemovedExamples, Failure> {
        self.remove_stored_examples(task, selection)
    }

    #[cfg(feature = "tuning")]
    fn teach_status(&self, task: &str, label: &str) -> Result<clr_transfer::TeachStatus, Failure> {
        Ok(self.learning.outcome(task, label))
    }

    fn stopping(&self) -> bool {
        self.stop.is_set()
    }
}
