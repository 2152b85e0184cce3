//! Access control per connection: checks the role for each request, counts it towards the quotas, and writes its audit
//! line.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use clr_adapters::SignedRelease;
use clr_transfer::{
    Begin, Committed, Device, DeviceInfo, Digest, Enrolment, ExampleSelection, ExampleSummary, ExampleTask, Failure,
    FailureCode, Health, HostEntry, KeyRotation, Kind, PeerKey, PullInfo, RemovedExamples, Role, Roles, Slot, Status,
    TaskSummary, TeachLimits, TeachStatus, TuneForecast, TuneRequest, TuneStatus,
};

use super::{
    Access,
    audit::{Origin, Subject},
    quota::Usage,
};
#[cfg(feature = "tuning")]
use crate::learning::Learner;
use crate::{budget::Ticket, health, lock, runtime::Runtime};

/// Interval at which a delayed request checks whether the device is stopping.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Transport of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// The Unix socket. Its file permissions decide who may connect.
    Socket {
        /// The user's id, if the system reports it.
        user: Option<u32>,
    },
    /// TCP, from this address.
    Tcp(SocketAddr),
    /// A serial line.
    Serial,
}

impl Via {
    const fn name(self) -> &'static str {
        match self {
            Self::Socket { .. } => "socket",
            Self::Tcp(_) => "tcp",
            Self::Serial => "serial",
        }
    }
}

/// The device as one connection may use it.
pub(crate) struct Gate {
    pub(super) runtime: Arc<Runtime>,
    pub(super) access: Arc<Access>,
    pub(super) via: Via,
    pub(super) ticket: Ticket,
    /// The host of the open session; `None` in a plain session.
    pub(super) host: Mutex<Option<PeerKey>>,
    /// Digests of the images that this connection is sending.
    images: Mutex<Vec<Digest>>,
    /// Digest of the stored image that this connection has opened to read.
    shown: Mutex<Option<Digest>>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Gate {
    pub(crate) fn new(runtime: Arc<Runtime>, access: Arc<Access>, via: Via, ticket: Ticket) -> Self {
        Self {
            runtime,
            access,
            via,
            ticket,
            host: Mutex::default(),
            images: Mutex::default(),
            shown: Mutex::default(),
        }
    }

    /// Returns whether the peer has a session, or uses the control socket.
    pub(crate) fn is_known(&self) -> bool {
        matches!(self.via, Via::Socket { .. }) || self.ticket.is_open()
    }

    pub(super) fn leave(&self) {
        if let Some(host) = lock(&self.host).take() {
            self.access.leave(&host);
        }
    }

    #[cfg(feature = "tuning")]
    fn learner(&self) -> Learner {
        Learner::of(&self.runtime)
    }

    /// Returns the runtime, which refuses all learning requests of a build without the feature `tuning`.
    #[cfg(not(feature = "tuning"))]
    fn learner(&self) -> &Runtime {
        &self.runtime
    }

    /// Returns the peer's current roles. Revoking a role takes effect immediately.
    fn roles(&self) -> Roles {
        match *lock(&self.host) {
            Some(host) => self.access.roles(&host).unwrap_or_default(),
            None => Roles::ALL,
        }
    }

    fn origin(&self) -> Origin {
        let host = *lock(&self.host);
        let peer = match (host, self.via) {
            (Some(host), _) => self.access.name(&host),
            (None, Via::Socket { user: Some(user) }) => format!("local:{user}"),
            (None, Via::Socket { user: None }) => "local".to_owned(),
            // The port is left out, so that a program that reconnects counts as one peer.
            (None, Via::Tcp(address)) => address.ip().to_canonical().to_string(),
            (None, Via::Serial) => "serial line".to_owned(),
        };
        Origin {
            peer,
            key: host.map(|host| host.short()),
            via: self.via.name(),
        }
    }

    fn allow(&self, role: Role, command: &str) -> Result<(), Failure> {
        let roles = self.roles();
        if roles.include(role) {
            return Ok(());
        }
        let origin = self.origin();
        let had = if roles.is_empty() {
            "none".to_owned()
        } else {
            roles.to_string()
        };
        Err(Failure::new(
            FailureCode::NOT_ALLOWED,
            format_args!(
                "host '{}' may not {command}: needs the role {role}, has {had}\nhint: on the device, `clr-device \
                 enrol --role {role}` shows a code that grants it",
                origin.peer
            ),
        ))
    }

    /// Executes a read-only request, which needs the role `observe`.
    fn query<T>(&self, command: &str, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        self.query_as(Role::Observe, command, work)
    }

    /// Performs a read-only request for `role`.
    fn query_as<T>(&self, role: Role, command: &str, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        if let Err(refused) = self.allow(role, command) {
            let subject = Subject::default();
            let audit = &self.access.audit;
            audit.command(&self.origin(), role.name(), command, &subject, refused.code.name());
            return Err(refused);
        }
        self.access.audit.query(&self.origin(), command);
        work()
    }

    /// Executes a modifying request: checks the role, waits for the host's request rate, and records the outcome.
    /// Refusals are recorded too.
    fn execute<T>(
        &self,
        role: Role,
        command: &str,
        mut subject: Subject,
        work: impl FnOnce(&mut Subject) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let done = self
            .allow(role, command)
            .and_then(|()| self.take_turn())
            .and_then(|()| work(&mut subject));
        let result = match &done {
            Ok(_) => "done",
            Err(failure) => failure.code.name(),
        };
        self.access
            .audit
            .command(&self.origin(), role.name(), command, &subject, result);
        done
    }

    fn on_task(
        &self,
        role: Role,
        command: &str,
        task: &str,
        work: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.execute(role, command, Subject::task(task), |_| work())
    }

    fn with_usage<T>(&self, count: impl FnOnce(&mut Usage) -> T) -> Option<T> {
        let host = (*lock(&self.host))?;
        let rate = self.runtime.config.load().limits.host_requests_per_second;
        let mut usage = lock(&self.access.usage);
        Some(count(
            usage.entry(host).or_insert_with(|| Usage::new(Instant::now(), rate)),
        ))
    }

    /// Waits until the host's request rate permits another request.
    fn take_turn(&self) -> Result<(), Failure> {
        let rate = self.runtime.config.load().limits.host_requests_per_second;
        let wait = self
            .with_usage(|usage| usage.request(Instant::now(), rate))
            .unwrap_or_default();
        let until = Instant::now() + wait;
        while let Some(left) = until
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        {
            if self.stopping() {
                return Err(Failure::new(FailureCode::STOPPING, "the session has ended"));
            }
            thread::sleep(left.min(POLL_INTERVAL));
        }
        Ok(())
    }

    fn count_bytes(&self, bytes: usize) -> Result<(), Failure> {
        let most = self.runtime.config.load().limits.host_bytes_per_day;
        let counted = self.with_usage(|usage| usage.write(Instant::now(), bytes as u64, most));
        counted.unwrap_or(Ok(()))
    }
}

impl Subject {
    fn task(task: &str) -> Self {
        Self {
            task: Some(task.to_owned()),
            ..Self::default()
        }
    }

    fn transfer(begin: &Begin) -> Self {
        let announced = |signed: &SignedRelease| (Some(signed.release.task.clone()), Some(signed.release.version));
        let ((task, version), digest) = match &begin.kind {
            Kind::Example { task, .. } => ((Some(task.clone()), None), begin.digest),
            Kind::Delta { target, .. } => ((None, None), *target),
            Kind::Release(release) => (announced(release), begin.digest),
            Kind::ReleaseDelta { target, release, .. } => (announced(release), *target),
            _ => ((None, None), begin.digest),
        };
        Self {
            task,
            version,
            digest: Some(digest),
        }
    }
}

/// Returns the role that a transfer needs.
const fn role_of(kind: &Kind) -> Role {
    match kind {
        Kind::Example { .. } => Role::Teach,
        _ => Role::Update,
    }
}

impl Device for Gate {
    fn hello(&self) -> DeviceInfo {
        self.runtime.hello()
    }

    fn begin(&self, begin: &Begin) -> Result<u64, Failure> {
        let role = role_of(&begin.kind);
        let held = self.execute(role, "begin", Subject::transfer(begin), |_| self.runtime.begin(begin))?;
        if role == Role::Teach {
            let mut images = lock(&self.images);
            // The cap of open transfers per session.
            if images.len() >= 8 {
                images.remove(0);
            }
            images.push(begin.digest);
        }
        Ok(held)
    }

    fn chunk(&self, digest: &Digest, offset: u64, data: &[u8]) -> Result<u64, Failure> {
        // The role was checked when the transfer began, but may have been revoked since.
        if self.roles().is_empty() {
            self.allow(Role::Update, "send")?;
        }
        self.count_bytes(data.len())?;
        self.runtime.chunk(digest, offset, data)
    }

    fn commit(&self, begin: &Begin) -> Result<Committed, Failure> {
        self.execute(role_of(&begin.kind), "commit", Subject::transfer(begin), |subject| {
            let committed = self.runtime.commit(begin)?;
            if let Committed::Adapter {
                task, version, digest, ..
            } = &committed
            {
                *subject = Subject {
                    task: Some(task.clone()),
                    version: Some(*version),
                    digest: Some(*digest),
                };
            }
            Ok(committed)
        })
    }

    fn abort(&self, digest: &Digest) -> Result<(), Failure> {
        let own = lock(&self.images).contains(digest);
        let role = if own { Role::Teach } else { Role::Update };
        let subject = Subject {
            digest: Some(*digest),
            ..Subject::default()
        };
        self.execute(role, "abort", subject, |_| self.runtime.abort(digest))
    }

    fn status(&self) -> Result<Status, Failure> {
        self.query("status", || self.runtime.status())
    }

    fn list(&self) -> Result<Vec<TaskSummary>, Failure> {
        self.query("list", || self.runtime.list())
    }

    fn switch(&self, task: &str) -> Result<(), Failure> {
        self.on_task(Role::Operate, "switch", task, || self.runtime.switch(task))
    }

    fn switch_group(&self, tasks: &[&str]) -> Result<(), Failure> {
        let work = || self.runtime.switch_group(tasks);
        self.on_task(Role::Operate, "switch", &tasks.join(", "), work)
    }

    fn selection(&self) -> Result<Vec<String>, Failure> {
        self.query("selection", || self.runtime.selection())
    }

    fn rollback(&self, task: &str) -> Result<(), Failure> {
        self.on_task(Role::Update, "rollback", task, || self.runtime.rollback(task))
    }

    fn restore(&self, task: &str) -> Result<(), Failure> {
        self.on_task(Role::Update, "restore", task, || self.runtime.restore(task))
    }

    fn remove(&self, task: &str) -> Result<(), Failure> {
        self.on_task(Role::Administer, "remove", task, || self.runtime.remove(task))
    }

    fn mark_good(&self, task: &str) -> Result<(), Failure> {
        self.on_task(Role::Operate, "mark-good", task, || self.runtime.mark_good(task))
    }

    fn mark_bad(&self, task: &str) -> Result<(), Failure> {
        self.on_task(Role::Update, "mark-bad", task, || self.runtime.mark_bad(task))
    }

    fn open(&self, task: &str, slot: Slot) -> Result<PullInfo, Failure> {
        self.execute(Role::Update, "open", Subject::task(task), |subject| {
            let info = self.runtime.open(task, slot)?;
            subject.digest = Some(info.digest);
            Ok(info)
        })
    }

    fn read(&self, digest: &Digest, offset: u64, out: &mut [u8]) -> Result<usize, Failure> {
        // Reading an opened image needs the role `teach`; any other file needs `update`.
        let role = if *lock(&self.shown) == Some(*digest) {
            Role::Teach
        } else {
            Role::Update
        };
        let refused = self.allow(role, "read");
        // The audit line of `open` covers reading all pieces of the file, so only a refusal is recorded here.
        if let Err(failure) = &refused {
            let subject = Subject {
                digest: Some(*digest),
                ..Subject::default()
            };
            let audit = &self.access.audit;
            audit.command(&self.origin(), role.name(), "read", &subject, failure.code.name());
        }
        refused?;
        self.runtime.read(digest, offset, out)
    }

    fn tune(&self, request: &TuneRequest) -> Result<(), Failure> {
        self.on_task(Role::Teach, "tune", &request.task, || self.learner().tune(request))
    }

    fn tune_status(&self) -> Result<TuneStatus, Failure> {
        self.query("tune-status", || self.runtime.tune_status())
    }

    fn stop_tuning(&self) -> Result<(), Failure> {
        self.execute(Role::Teach, "stop-tuning", Subject::default(), |_| {
            self.runtime.stop_tuning()
        })
    }

    fn health(&self) -> Result<Health, Failure> {
        self.query("health", || Ok(health::examine(&self.runtime)))
    }

    fn refused(&self, request: &'static str, failure: &Failure) {
        self.runtime.refused(request, failure);
    }

    fn teach(&self, task: &str, label: &str) -> Result<(), Failure> {
        self.on_task(Role::Teach, "teach", task, || self.learner().teach(task, label))
    }

    fn teach_status(&self, task: &str, label: &str) -> Result<TeachStatus, Failure> {
        self.query_as(Role::Teach, "teach-status", || self.runtime.teach_status(task, label))
    }

    fn teach_limits(&self, task: &str) -> Result<TeachLimits, Failure> {
        self.query_as(Role::Teach, "teach-limits", || self.runtime.teach_limits(task))
    }

    fn example_tasks(&self) -> Result<Vec<ExampleTask>, Failure> {
        self.query_as(Role::Teach, "example-tasks", || self.runtime.example_tasks())
    }

    fn examples(&self, task: &str) -> Result<Vec<ExampleSummary>, Failure> {
        self.query_as(Role::Teach, "examples", || self.runtime.examples(task))
    }

    fn open_example(&self, task: &str, id: &Digest) -> Result<PullInfo, Failure> {
        self.execute(Role::Teach, "open-example", Subject::task(task), |subject| {
            subject.digest = Some(*id);
            let info = self.runtime.open_example(task, id)?;
            *lock(&self.shown) = Some(info.digest);
            Ok(info)
        })
    }

    fn remove_examples(&self, task: &str, selection: &ExampleSelection) -> Result<RemovedExamples, Failure> {
        self.execute(Role::Teach, "remove-examples", Subject::task(task), |_| {
            self.runtime.remove_examples(task, selection)
        })
    }

    fn remove_class(&self, task: &str, label: &str) -> Result<RemovedExamples, Failure> {
        self.execute(Role::Teach, "remove-class", Subject::task(task), |_| {
            self.learner().remove_class(task, label)
        })
    }

    fn tune_check(&self, request: &TuneRequest) -> Result<TuneForecast, Failure> {
        self.query_as(Role::Teach, "tune-check", || self.learner().tune_check(request))
    }

    fn enrol(&self, roles: Roles, minutes: u32) -> Result<Enrolment, Failure> {
        self.execute(Role::Administer, "enrol", Subject::default(), |_| {
            self.access.open_enrolment(roles, minutes)
        })
    }

    fn hosts(&self) -> Result<Vec<HostEntry>, Failure> {
        self.execute(Role::Administer, "hosts", Subject::default(), |_| {
            Ok(self.access.host_entries())
        })
    }

    fn revoke(&self, host: &str) -> Result<(), Failure> {
        // The host is recorded in the field `task`.
        self.on_task(Role::Administer, "revoke", host, || self.access.revoke(host))
    }

    fn rotate_key(&self, drop_old: bool) -> Result<KeyRotation, Failure> {
        let command = if drop_old { "drop-old-key" } else { "rotate-key" };
        self.execute(Role::Administer, command, Subject::default(), |_| {
            self.access.rotate_key(drop_old)
        })
    }

    fn stopping(&self) -> bool {
        self.runtime.stopping() || self.ticket.is_ended() || !self.may_stay()
    }
}
