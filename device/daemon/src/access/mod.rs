//! Access control: known hosts, their roles, enrolment, quotas and the audit log.

mod admission;
mod audit;
mod enrolment;
mod files;
mod gate;
mod hosts;
mod quota;
mod session_key;

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use clr_transfer::{
    AccessRefusal, Enrolment, EnrolmentCode, Failure, FailureCode, HostEntry, KeyRotation, PeerKey, PeerSecret, Roles,
};

use self::{audit::Audit, enrolment::EnrolmentState, hosts::Hosts, quota::Usage, session_key::SessionKeys};
pub(crate) use self::{
    audit::check as check_audit,
    gate::{Gate, Via},
};
use super::{Config, lock, time::now};

/// All handshakes together may use at most one in this many parts of a CPU core.
const HANDSHAKE_SHARE: u32 = 10;
/// Maximum pause after the computation of a handshake. A longer computation may use a larger part.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Returns the time used for the expiry of keys. If the time is unknown, old keys count as expired.
fn now_or_max() -> u64 {
    now().unwrap_or(u64::MAX)
}

fn no_keys(what: &str, reason: &str) -> Failure {
    // The error for a damaged file already contains a hint.
    let hint = if reason.contains("hint: ") {
        ""
    } else {
        "\nhint: set `[tcp] listen` or `[serial] port` and restart"
    };
    Failure::new(FailureCode::UNSUPPORTED, format_args!("{what}: {reason}{hint}"))
}

/// Access control of the device, shared by all connections.
#[derive(Debug)]
pub(crate) struct Access {
    /// The device's session keys, or the reason why they are unavailable.
    keys: Mutex<Result<SessionKeys, String>>,
    hosts: Mutex<Hosts>,
    enrolment: Mutex<EnrolmentState>,
    audit: Audit,
    usage: Mutex<HashMap<PeerKey, Usage>>,
    /// Number of open sessions of each host.
    sessions: Mutex<HashMap<PeerKey, u32>>,
    /// Held during the computation of a handshake, so that there is only one at a time.
    handshake: Mutex<()>,
}

impl Access {
    /// Reads the state folder. A damaged file disables what depends on it and is logged. It never prevents the start.
    pub(crate) fn open(config: &Config) -> Self {
        let networked = config.tcp.is_some() || config.serial.is_some();
        let keys = if networked {
            SessionKeys::open(&config.state, now_or_max())
        } else {
            Err("neither [tcp] nor [serial] is configured".to_owned())
        };
        if let (Err(reason), true) = (&keys, networked) {
            tracing::error!("no encrypted sessions: {reason}");
        }
        let hosts = Hosts::read(&config.state, &config.hosts);
        for problem in &hosts.problems {
            tracing::error!("known hosts: {problem}");
        }
        let access = Self {
            keys: Mutex::new(keys),
            hosts: Mutex::new(hosts),
            enrolment: Mutex::default(),
            audit: Audit::open(&config.state.join("audit")),
            usage: Mutex::default(),
            sessions: Mutex::default(),
            handshake: Mutex::default(),
        };
        access.warn(config);
        access
    }

    /// Replaces the configured hosts after a reload.
    pub(crate) fn reload(&self, config: &Config) {
        lock(&self.hosts).configure(&config.hosts);
        self.warn(config);
    }

    fn warn(&self, config: &Config) {
        if config.tcp.as_ref().is_some_and(|tcp| tcp.plain) {
            tracing::warn!("tcp.plain = true: every peer that reaches the port may send all commands, unencrypted");
        }
        if config.serial.as_ref().is_some_and(|serial| serial.plain) {
            tracing::warn!("serial.plain = true: every peer that reaches the line may send all commands, unencrypted");
        }
        let remote = config.tcp.as_ref().is_some_and(|tcp| !tcp.listen.ip().is_loopback());
        if remote && !self.has_hosts() {
            tracing::warn!("no host is enrolled: only this machine can connect; `clr-device enrol` admits a host");
        }
    }

    /// Returns whether at least one host is known. A damaged list counts as a known host, so plain sessions are then
    /// refused.
    pub(crate) fn has_hosts(&self) -> bool {
        !lock(&self.hosts).is_empty()
    }

    /// Returns whether peers on other machines are accepted, which requires a known host or an open enrolment.
    pub(crate) fn accepts_remote_peers(&self) -> bool {
        self.has_hosts() || lock(&self.enrolment).psk().is_some()
    }

    fn roles(&self, key: &PeerKey) -> Option<Roles> {
        lock(&self.hosts).find(key).map(|host| host.roles)
    }

    fn name(&self, key: &PeerKey) -> String {
        let hosts = lock(&self.hosts);
        hosts
            .find(key)
            .map_or_else(|| "unknown".to_owned(), |host| host.name.clone())
    }

    fn open_enrolment(&self, roles: Roles, minutes: u32) -> Result<Enrolment, Failure> {
        if let Err(reason) = &*lock(&self.keys) {
            return Err(no_keys("no host can be enrolled", reason));
        }
        if roles.is_empty() {
            let text = "no role given\nhint: --role update";
            return Err(Failure::new(FailureCode::MALFORMED, text));
        }
        let code = EnrolmentCode::from_random(files::random()?);
        let seconds = lock(&self.enrolment).open(code.psk(), roles, minutes)?;
        Ok(Enrolment {
            code: code.to_string(),
            seconds,
        })
    }

    /// Enrols a host that presented the correct code.
    fn enrol(&self, key: &PeerKey, name: &str) -> Result<(), AccessRefusal> {
        let mut enrolment = lock(&self.enrolment);
        let roles = enrolment.roles_for(key)?;
        let kept = lock(&self.hosts).add(key, name, roles);
        let name = kept.map_err(|reason| {
            tracing::error!("cannot enrol a host: {reason}");
            AccessRefusal::Unavailable
        })?;
        enrolment.used_by(key);
        self.audit.event("enrolled", &name, key, &roles.to_string());
        tracing::info!(name, key = key.short(), %roles, "host enrolled");
        Ok(())
    }

    fn wrong_code(&self) {
        let closed = lock(&self.enrolment).wrong();
        self.audit.event("wrong-code", "unknown", &PeerKey([0; 32]), "");
        if closed {
            tracing::warn!("five wrong codes: enrolment is closed for an hour");
        }
    }

    fn secret(&self) -> Option<PeerSecret> {
        lock(&self.keys).as_ref().ok().map(|keys| keys.current().clone())
    }

    fn old_secret(&self) -> Option<PeerSecret> {
        lock(&self.keys)
            .as_ref()
            .ok()
            .and_then(|keys| keys.old(now_or_max()).cloned())
    }

    /// Creates a new session key, or drops the previous one. Open sessions continue.
    fn rotate_key(&self, drop_old: bool) -> Result<KeyRotation, Failure> {
        let mut keys = lock(&self.keys);
        let keys = match &mut *keys {
            Ok(keys) => keys,
            Err(reason) => return Err(no_keys("there is no key to rotate", reason)),
        };
        if drop_old {
            keys.drop_old()?;
            tracing::info!("old session key dropped");
        } else {
            keys.rotate(now_or_max())?;
            tracing::info!(key = keys.current().public().short(), "session key created");
        }
        Ok(keys.rotation(now_or_max()))
    }

    fn host_entries(&self) -> Vec<HostEntry> {
        let sessions = lock(&self.sessions).clone();
        let hosts = lock(&self.hosts);
        let entry = |(host, configured): (&hosts::Host, bool)| HostEntry {
            name: host.name.clone(),
            key: host.key.to_string(),
            roles: host.roles.to_string(),
            configured,
            sessions: sessions.get(&host.key).copied().unwrap_or(0),
        };
        hosts.all().map(entry).collect()
    }

    fn revoke(&self, host: &str) -> Result<(), Failure> {
        lock(&self.hosts).revoke(host)
    }

    /// Counts a session of a host. Returns false if the host already has `most` sessions.
    fn enter(&self, key: &PeerKey, most: usize) -> bool {
        let mut sessions = lock(&self.sessions);
        let open = sessions.entry(*key).or_default();
        let may = (*open as usize) < most;
        *open += u32::from(may);
        may
    }

    fn leave(&self, key: &PeerKey) {
        let mut sessions = lock(&self.sessions);
        if let Some(open) = sessions.get_mut(key) {
            *open -= 1;
            if *open == 0 {
                sessions.remove(key);
            }
        }
    }

    /// Executes the computation of a handshake. Only one computation runs at a time, and a pause after it limits them
    /// to a tenth of a CPU core on average.
    fn calculate(&self, work: &mut dyn FnMut()) {
        let _one_at_a_time = lock(&self.handshake);
        let started = Instant::now();
        work();
        let pause = (HANDSHAKE_SHARE - 1) * started.elapsed();
        std::thread::sleep(pause.min(LONGEST_PAUSE));
    }
}
