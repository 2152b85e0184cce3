//! Client commands that take a single request.

use alloc::{borrow::ToOwned as _, string::String, vec::Vec};
use core::{fmt::Display, time::Duration};

use embedded_io::{Read, Write};

use super::{Client, ClientError, Repeat};
use crate::{
    access::{Enrolment, HostEntry, KeyRotation, Roles},
    failure::{Failure, FailureCode},
    group::{self, check_group},
    health::Health,
    message::{Committed, DeviceInfo, Kind, Request, Response},
    status::{Status, TaskSummary},
    teaching::{
        ExampleSelection, ExampleSummary, ExampleTask, RemovedExamples, TeachLimits, TeachPhase, TeachStatus,
        TuneForecast,
    },
    tuning::{TuneRequest, TuneStatus},
};

impl<S, F, E> Client<'_, S, F>
where
    S: Read + Write,
    F: FnMut() -> Result<S, E>,
    E: Display,
{
    /// Returns the device's name, software, backbone and capabilities.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub fn device(&mut self) -> Result<DeviceInfo, ClientError> {
        self.established().map(|link| link.device.clone())
    }

    /// Returns the device's current status.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub fn status(&mut self) -> Result<Status, ClientError> {
        self.ask(&Request::Status, Repeat::Safe, |response| match response {
            Response::Status(status) => Some(*status),
            _ => None,
        })
    }

    /// Returns the device's health; `None` if the device does not support this request.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub fn health(&mut self) -> Result<Option<Health>, ClientError> {
        let asked = self.ask(&Request::Health, Repeat::Safe, |response| match response {
            Response::Health(health) => Some(health),
            _ => None,
        });
        match asked {
            Err(ClientError::Refused(failure)) if failure.code == FailureCode::UNSUPPORTED => Ok(None),
            asked => asked.map(Some),
        }
    }

    /// Lists all tasks, sorted by name.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub fn list(&mut self) -> Result<Vec<TaskSummary>, ClientError> {
        let mut all: Vec<TaskSummary> = Vec::new();
        loop {
            self.established()?;
            let budget = self.pacing.size().max(1024);
            let after = all.last().map(|task| task.task.clone()).unwrap_or_default();
            let request = Request::List { after: &after, budget };
            let (tasks, more) = self.ask(&request, Repeat::Safe, |response| match response {
                Response::Tasks { tasks, more } => Some((tasks, more)),
                _ => None,
            })?;
            if more && tasks.is_empty() {
                return Err(ClientError::Unexpected { request: "list" });
            }
            all.extend(tasks);
            if !more {
                return Ok(all);
            }
        }
    }

    /// Switches to `task` from the next frame on.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub fn switch(&mut self, task: &str) -> Result<(), ClientError> {
        self.act(&Request::Switch { task }, Repeat::Safe)
    }

    /// Switches to a group of tasks from the next frame on: every frame is classified by all of them. A single name may
    /// also be `auto`, as in [`Client::switch`].
    ///
    /// # Errors
    /// [`ClientError`] if the request fails; [`ClientError::Refused`] also for an invalid group, which is not sent, and
    /// for a group if the device classifies with one task at a time.
    pub fn switch_group(&mut self, tasks: &[impl AsRef<str>]) -> Result<(), ClientError> {
        if let [task] = tasks {
            return self.switch(task.as_ref());
        }
        check_group(tasks).map_err(|fault| ClientError::Refused(fault.into()))?;
        let tasks = group::joined(tasks);
        let switched = self.act(&Request::SwitchGroup { tasks: &tasks }, Repeat::Safe);
        switched.map_err(|error| match error {
            ClientError::Refused(failure) if failure.code == FailureCode::UNSUPPORTED => {
                ClientError::Refused(Failure::new(
                    failure.code,
                    "this device classifies with one task at a time\nhint: update the device, or name one task",
                ))
            }
            error => error,
        })
    }

    /// Returns the names of the selected tasks in their order; `None` if the device does not support this request.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub fn selection(&mut self) -> Result<Option<Vec<String>>, ClientError> {
        let asked = self.ask(&Request::Selection, Repeat::Safe, |response| match response {
            Response::Selection(tasks) => Some(tasks),
            _ => None,
        });
        match asked {
            Err(ClientError::Refused(failure)) if failure.code == FailureCode::UNSUPPORTED => Ok(None),
            asked => asked.map(Some),
        }
    }

    /// Rolls a task back to its previous adapter.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails; [`ClientError::Uncertain`] if the connection broke before the reply.
    pub fn rollback(&mut self, task: &str) -> Result<(), ClientError> {
        self.act(&Request::Rollback { task }, Repeat::Never)
    }

    /// Replaces a tuned adapter by the publisher's original.
    ///
    /// # Errors
    /// [`ClientError`] in the same cases as [`Client::rollback`].
    pub fn restore(&mut self, task: &str) -> Result<(), ClientError> {
        self.act(&Request::Restore { task }, Repeat::Never)
    }

    /// Removes a task.
    ///
    /// # Errors
    /// [`ClientError`] in the same cases as [`Client::rollback`].
    pub fn remove(&mut self, task: &str) -> Result<(), ClientError> {
        self.act(&Request::Remove { task }, Repeat::Never)
    }

    /// Confirms the task's adapter on trial.
    ///
    /// # Errors
    /// [`ClientError`] in the same cases as [`Client::rollback`].
    pub fn mark_good(&mut self, task: &str) -> Result<(), ClientError> {
        self.act(&Request::MarkGood { task }, Repeat::Never)
    }

    /// Reverts the adapter on trial, or the last confirmed one if there is no trial.
    ///
    /// # Errors
    /// [`ClientError`] in the same cases as [`Client::rollback`].
    pub fn mark_bad(&mut self, task: &str) -> Result<(), ClientError> {
        self.act(&Request::MarkBad { task }, Repeat::Never)
    }

    /// Starts a tuning run.
    ///
    /// # Errors
    /// [`ClientError`] in the same cases as [`Client::rollback`].
    pub fn tune(&mut self, request: &TuneRequest) -> Result<(), ClientError> {
        self.act(&Request::Tune(request.clone()), Repeat::Never)
    }

    /// Returns the progress of the tuning run.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub fn tune_status(&mut self) -> Result<TuneStatus, ClientError> {
        self.ask(&Request::TuneStatus, Repeat::Safe, |response| match response {
            Response::Tuning(status) => Some(status),
            _ => None,
        })
    }

    /// Waits until the tuning run has ended. Polls every `step` and passes the progress to `watch`.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub fn follow_tuning(
        &mut self,
        step: Duration,
        watch: &mut dyn FnMut(&TuneStatus),
    ) -> Result<TuneStatus, ClientError> {
        loop {
            let status = self.tune_status()?;
            if !status.phase.is_running() {
                return Ok(status);
            }
            watch(&status);
            self.clock.sleep(step);
        }
    }

    /// Adds an image with a label to a task. Returns whether the task did not have the image yet.
    ///
    /// # Errors
    /// [`ClientError`] in the same cases as [`Client::push`].
    pub fn teach(&mut self, task: &str, label: &str, image: &[u8]) -> Result<bool, ClientError> {
        let kind = Kind::Example {
            task: task.to_owned(),
            label: label.to_owned(),
        };
        match self.push(image, kind, &mut |_| ())?.committed {
            Committed::Example { duplicate, .. } => Ok(!duplicate),
            Committed::Adapter { .. } => Err(ClientError::Unexpected { request: "commit" }),
        }
    }

    /// Starts to teach a class from its stored images. [`Client::follow_teaching`] returns the outcome.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub fn teach_class(&mut self, task: &str, label: &str) -> Result<(), ClientError> {
        self.act(&Request::Teach { task, label }, Repeat::Safe)
    }

    /// Waits until a class has been taught. Polls every `step`.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub fn follow_teaching(&mut self, task: &str, label: &str, step: Duration) -> Result<TeachStatus, ClientError> {
        loop {
            let request = Request::TeachStatus { task, label };
            let status = self.ask(&request, Repeat::Safe, |response| match response {
                Response::Teaching(status) => Some(status),
                _ => None,
            })?;
            if status.phase != TeachPhase::Running {
                return Ok(status);
            }
            self.clock.sleep(step);
        }
    }

    /// Returns the limits on a task's images.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub fn teach_limits(&mut self, task: &str) -> Result<TeachLimits, ClientError> {
        self.ask(
            &Request::TeachLimits { task },
            Repeat::Safe,
            |response| match response {
                Response::TeachLimits(limits) => Some(limits),
                _ => None,
            },
        )
    }

    /// Lists the tasks with stored images, sorted by name.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub fn example_tasks(&mut self) -> Result<Vec<ExampleTask>, ClientError> {
        let mut all: Vec<ExampleTask> = Vec::new();
        loop {
            self.established()?;
            let budget = self.pacing.size().max(1024);
            let after = all.last().map(|task| task.task.clone()).unwrap_or_default();
            let request = Request::ExampleTasks { after: &after, budget };
            let (tasks, more) = self.ask(&request, Repeat::Safe, |response| match response {
                Response::ExampleTasks { tasks, more } => Some((tasks, more)),
                _ => None,
            })?;
            if more && tasks.is_empty() {
                return Err(ClientError::Unexpected {
                    request: "example-tasks",
                });
            }
            all.extend(tasks);
            if !more {
                return Ok(all);
            }
        }
    }

    /// Lists the stored images of a task, sorted by digest.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub fn examples(&mut self, task: &str) -> Result<Vec<ExampleSummary>, ClientError> {
        let mut all: Vec<ExampleSummary> = Vec::new();
        loop {
            self.established()?;
            let budget = self.pacing.size().max(1024);
            let after = all.last().map(|example| example.id);
            let request = Request::Examples { task, after, budget };
            let (examples, more) = self.ask(&request, Repeat::Safe, |response| match response {
                Response::Examples { examples, more } => Some((examples, more)),
                _ => None,
            })?;
            if more && examples.is_empty() {
                return Err(ClientError::Unexpected { request: "examples" });
            }
            all.extend(examples);
            if !more {
                return Ok(all);
            }
        }
    }

    /// Removes stored images of a task.
    ///
    /// # Errors
    /// [`ClientError`] in the same cases as [`Client::rollback`].
    pub fn remove_examples(&mut self, task: &str, selection: ExampleSelection) -> Result<RemovedExamples, ClientError> {
        let request = Request::RemoveExamples { task, selection };
        self.ask(&request, Repeat::Never, |response| match response {
            Response::Removed(removed) => Some(removed),
            _ => None,
        })
    }

    /// Removes a class that was taught on the device, and its stored images.
    ///
    /// # Errors
    /// [`ClientError`] in the same cases as [`Client::rollback`].
    pub fn remove_class(&mut self, task: &str, label: &str) -> Result<RemovedExamples, ClientError> {
        let request = Request::RemoveClass { task, label };
        self.ask(&request, Repeat::Never, |response| match response {
            Response::Removed(removed) => Some(removed),
            _ => None,
        })
    }

    /// Returns a forecast of a tuning run without starting it.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub fn tune_check(&mut self, request: &TuneRequest) -> Result<TuneForecast, ClientError> {
        self.ask(
            &Request::TuneCheck(request.clone()),
            Repeat::Safe,
            |response| match response {
                Response::Forecast(forecast) => Some(forecast),
                _ => None,
            },
        )
    }

    /// Stops tuning.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub fn stop_tuning(&mut self) -> Result<(), ClientError> {
        self.act(&Request::StopTuning, Repeat::Safe)
    }

    /// Discards the data that the device holds of an uncommitted transfer.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub fn abort(&mut self, digest: clr_adapters::Digest) -> Result<(), ClientError> {
        self.act(&Request::Abort { digest }, Repeat::Safe)
    }

    /// Opens the device's enrolment for one new host.
    ///
    /// # Errors
    /// [`ClientError`] in the same cases as [`Client::rollback`].
    pub fn enrol(&mut self, roles: Roles, minutes: u32) -> Result<Enrolment, ClientError> {
        let request = Request::Enrol { roles, minutes };
        self.ask(&request, Repeat::Never, |response| match response {
            Response::Enrolment(enrolment) => Some(enrolment),
            _ => None,
        })
    }

    /// Lists the hosts known to the device.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub fn hosts(&mut self) -> Result<Vec<HostEntry>, ClientError> {
        self.ask(&Request::Hosts, Repeat::Safe, |response| match response {
            Response::Hosts(hosts) => Some(hosts),
            _ => None,
        })
    }

    /// Revokes a host, given by its name or key, and ends its sessions.
    ///
    /// # Errors
    /// [`ClientError`] in the same cases as [`Client::rollback`].
    pub fn revoke(&mut self, host: &str) -> Result<(), ClientError> {
        self.act(&Request::Revoke { host }, Repeat::Never)
    }

    /// Rotates the device's session key. With `drop_old`, keeps the current key and drops the previous one instead.
    ///
    /// # Errors
    /// [`ClientError`] in the same cases as [`Client::rollback`].
    pub fn rotate_key(&mut self, drop_old: bool) -> Result<KeyRotation, ClientError> {
        let rotation = self.ask(
            &Request::RotateKey { drop_old },
            Repeat::Never,
            |response| match response {
                Response::Rotated(rotation) => Some(rotation),
                _ => None,
            },
        )?;
        #[cfg(feature = "secure")]
        if let Ok(key) = rotation.key.parse() {
            self.follow(key);
        }
        Ok(rotation)
    }

    fn act(&mut self, request: &Request<'_>, repeat: Repeat) -> Result<(), ClientError> {
        self.ask(request, repeat, |response| {
            matches!(response, Response::Done).then_some(())
        })
    }
}
