//! Requests of an open session, carried out by the device.

use alloc::{boxed::Box, vec, vec::Vec};

use super::{Reply, Session};
use crate::{
    access::clip_hosts,
    failure::Failure,
    frame::MAX_BODY,
    group,
    message::{MAX_GROUP, MIN_CHUNK, MessageFault, Request, Response},
    status::TaskSummary,
};

impl Session<'_> {
    /// Carries out a request of the open session.
    pub(super) fn carry_out(&mut self, request: Request<'_>) -> Result<Reply, Failure> {
        let device = self.device;
        let done = |()| Response::Done;
        let response = match request {
            Request::Begin(begin) => self.transfers.begin(device, &self.limits, begin)?,
            Request::Chunk { transfer, offset, data } => {
                let cap = self.chunk_cap();
                self.transfers.chunk(device, cap, (transfer, offset, data))?
            }
            Request::Commit(begin) => Response::Committed(self.transfers.commit(device, &self.limits, &begin)?),
            Request::Abort { digest } => self.transfers.abort(device, &digest).map(done)?,
            Request::Status => {
                let mut status = device.status()?;
                status.clip();
                Response::Status(Box::new(status))
            }
            Request::List { after, budget } => self.list(after, budget)?,
            Request::Teach { task, label } => device.teach(task, label).map(done)?,
            Request::TeachStatus { task, label } => {
                let mut status = device.teach_status(task, label)?;
                status.clip();
                Response::Teaching(status)
            }
            Request::TeachLimits { task } => Response::TeachLimits(device.teach_limits(task)?),
            Request::ExampleTasks { after, budget } => {
                let mut tasks = device.example_tasks()?;
                tasks.retain(|task| task.task.as_str() > after);
                tasks.sort_by(|a, b| a.task.cmp(&b.task));
                let more = page(&mut tasks, self.page_bytes(budget));
                Response::ExampleTasks { tasks, more }
            }
            Request::Examples { task, after, budget } => {
                let mut examples = device.examples(task)?;
                examples.retain(|example| Some(example.id) > after);
                examples.sort_by_key(|example| example.id);
                let more = page(&mut examples, self.page_bytes(budget));
                Response::Examples { examples, more }
            }
            Request::OpenExample { task, id } => Response::Opened(device.open_example(task, &id)?),
            Request::RemoveExamples { task, selection } => {
                let mut removed = device.remove_examples(task, &selection)?;
                removed.clip();
                Response::Removed(removed)
            }
            Request::RemoveClass { task, label } => {
                let mut removed = device.remove_class(task, label)?;
                removed.clip();
                Response::Removed(removed)
            }
            Request::TuneCheck(request) => {
                let mut forecast = device.tune_check(&request)?;
                forecast.clip();
                Response::Forecast(forecast)
            }
            Request::Switch { task } => device.switch(task).map(done)?,
            Request::SwitchGroup { tasks } => device.switch_group(&group::parse(tasks)?).map(done)?,
            Request::Selection => {
                let mut tasks = device.selection()?;
                tasks.truncate(MAX_GROUP);
                Response::Selection(tasks)
            }
            Request::Rollback { task } => device.rollback(task).map(done)?,
            Request::Restore { task } => device.restore(task).map(done)?,
            Request::Remove { task } => device.remove(task).map(done)?,
            Request::MarkGood { task } => device.mark_good(task).map(done)?,
            Request::MarkBad { task } => device.mark_bad(task).map(done)?,
            Request::Open { task, slot } => Response::Opened(device.open(task, slot)?),
            Request::Read { digest, offset, length } => {
                let length = length.min(self.chunk_cap()) as usize;
                if self.data.len() < length {
                    self.data = vec![0; length];
                }
                let read = device.read(&digest, offset, &mut self.data[..length])?;
                return Ok(Reply::Data {
                    offset,
                    length: read.min(length),
                });
            }
            Request::Tune(request) => device.tune(&request).map(done)?,
            Request::TuneStatus => {
                let mut status = device.tune_status()?;
                status.clip();
                Response::Tuning(status)
            }
            Request::StopTuning => device.stop_tuning().map(done)?,
            Request::Health => {
                let mut health = device.health()?;
                health.clip();
                Response::Health(health)
            }
            Request::Enrol { roles, minutes } => Response::Enrolment(device.enrol(roles, minutes)?),
            Request::Hosts => {
                let mut hosts = device.hosts()?;
                clip_hosts(&mut hosts);
                Response::Hosts(hosts)
            }
            Request::Revoke { host } => device.revoke(host).map(done)?,
            Request::RotateKey { drop_old } => Response::Rotated(device.rotate_key(drop_old)?),
            Request::Hello { .. } => return Err(MessageFault::Unreadable.into()),
        };
        Ok(Reply::Message(response))
    }

    /// Returns the maximum bytes of a page: the requested budget, limited to what fits a frame.
    fn page_bytes(&self, budget: u32) -> usize {
        (budget as usize).min(self.largest - 1024)
    }

    fn chunk_cap(&self) -> u32 {
        self.settled.map_or(MIN_CHUNK, |settled| settled.chunk)
    }

    fn list(&self, after: &str, budget: u32) -> Result<Response<'static>, Failure> {
        let mut tasks = self.device.list()?;
        tasks.retain(|task| task.task.as_str() > after);
        tasks.sort_by(|a, b| a.task.cmp(&b.task));
        tasks.iter_mut().for_each(TaskSummary::clip);
        let more = page(&mut tasks, self.page_bytes(budget));
        Ok(Response::Tasks { tasks, more })
    }
}

/// Truncates a list to a page of about `budget` bytes, but at least one entry. Returns whether entries were left out.
fn page<T: serde::Serialize>(entries: &mut Vec<T>, budget: usize) -> bool {
    let (mut bytes, mut fit) = (0, 0);
    for entry in &*entries {
        bytes += postcard::experimental::serialized_size(entry).unwrap_or(MAX_BODY);
        if fit > 0 && bytes > budget {
            break;
        }
        fit += 1;
    }
    let more = fit < entries.len();
    entries.truncate(fit);
    more
}
