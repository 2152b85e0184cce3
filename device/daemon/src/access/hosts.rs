//! Known hosts: the configured ones, and the enrolled ones with one line each in `state/hosts`.
//!
//! ```text
//! clr hosts 1
//! NAME x25519:KEY ROLE,ROLE CHECKSUM
//! ```
//!
//! The checksum is the first eight digits of the SHA-256 of the rest of the line. A damaged line loses one host. Any
//! damage disables plain sessions, because it proves that hosts were known.

use std::path::{Path, PathBuf};

use clr_transfer::{Failure, FailureCode, PeerKey, Roles};

use super::files::{self, checksum};
use crate::HostConfig;

const HEAD: &str = "clr hosts 1";
/// Cap of enrolled hosts.
const MAX_HOSTS: usize = 256;

/// A host that is allowed to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) key: PeerKey,
    pub(super) roles: Roles,
}

/// All known hosts.
#[derive(Debug)]
pub(super) struct Hosts {
    path: PathBuf,
    configured: Vec<Host>,
    enrolled: Vec<Host>,
    /// Damage found in the file.
    pub(super) problems: Vec<String>,
}

impl Hosts {
    /// Reads `state/hosts`.
    pub(super) fn read(state: &Path, configured: &[HostConfig]) -> Self {
        let path = state.join("hosts");
        let mut hosts = Self {
            configured: Vec::new(),
            enrolled: Vec::new(),
            problems: Vec::new(),
            path,
        };
        hosts.configure(configured);
        let place = hosts.path.display();
        match std::fs::read(&hosts.path) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                let mut lines = text.lines();
                if lines.next() != Some(HEAD) {
                    let problem = format!("'{place}' is damaged: its first line is not `{HEAD}`");
                    hosts.problems.push(problem);
                }
                for (number, line) in (2..).zip(lines) {
                    match Host::read(line) {
                        Some(host) => hosts.enrolled.push(host),
                        None => hosts.problems.push(format!(
                            "line {number} of '{place}' is damaged: that host is no longer known\nhint: enrol it again"
                        )),
                    }
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => hosts.problems.push(format!("cannot read '{place}': {error}")),
        }
        hosts
    }

    /// Replaces the configured hosts.
    pub(super) fn configure(&mut self, configured: &[HostConfig]) {
        let host = |config: &HostConfig| Host {
            name: config.name.clone(),
            key: config.key,
            roles: config.roles.iter().copied().collect(),
        };
        self.configured = configured.iter().map(host).collect();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.configured.is_empty() && self.enrolled.is_empty() && self.problems.is_empty()
    }

    /// Returns the host with a key; configured hosts take precedence.
    pub(super) fn find(&self, key: &PeerKey) -> Option<&Host> {
        self.configured
            .iter()
            .chain(&self.enrolled)
            .find(|host| host.key == *key)
    }

    /// Returns all hosts, each with `true` if it is configured.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Host, bool)> {
        let configured = self.configured.iter().map(|host| (host, true));
        configured.chain(self.enrolled.iter().map(|host| (host, false)))
    }

    /// Enrols a host under a unique name derived from the proposed one. Returns the name.
    pub(super) fn add(&mut self, key: &PeerKey, proposed: &str, roles: Roles) -> Result<String, String> {
        let mut enrolled = self.enrolled.clone();
        enrolled.retain(|host| host.key != *key);
        if enrolled.len() >= MAX_HOSTS {
            return Err(format!("{MAX_HOSTS} hosts are enrolled, the maximum\nhint: revoke one"));
        }
        let taken = |name: &str| self.all().any(|(host, _)| host.name == name && host.key != *key);
        let plain = plain_name(proposed);
        let mut name = plain.clone();
        let mut number = 2;
        while taken(&name) {
            name = format!("{plain}-{number}");
            number += 1;
        }
        enrolled.push(Host {
            name: name.clone(),
            key: *key,
            roles,
        });
        self.write(enrolled)?;
        Ok(name)
    }

    /// Removes an enrolled host, given by name or key.
    pub(super) fn revoke(&mut self, wanted: &str) -> Result<(), Failure> {
        let named = |host: &Host| host.name == wanted || host.key.to_string() == wanted || host.key.short() == wanted;
        if let Some(host) = self.configured.iter().find(|host| named(host)) {
            return Err(Failure::new(
                FailureCode::NO_HOST,
                format_args!(
                    "host '{}' is listed in the configuration\nhint: remove it from [[hosts]], then `systemctl reload \
                     clr-device` or SIGHUP",
                    host.name
                ),
            ));
        }
        let mut enrolled = self.enrolled.clone();
        enrolled.retain(|host| !named(host));
        if enrolled.len() == self.enrolled.len() {
            let text = "no such host is enrolled\nhint: `clr-device hosts` lists them";
            return Err(Failure::new(FailureCode::NO_HOST, text));
        }
        // Removed in memory first, because a failed write must not leave the host admitted.
        self.enrolled.clone_from(&enrolled);
        self.write(enrolled).map_err(|reason| {
            let text = format!(
                "the host is revoked until the next start only: {reason}\nhint: repair the disk, then revoke \
                         the host again"
            );
            Failure::new(FailureCode::STORAGE, text)
        })
    }

    fn write(&mut self, enrolled: Vec<Host>) -> Result<(), String> {
        let mut text = format!("{HEAD}\n");
        for host in &enrolled {
            text.push_str(&host.line());
            text.push('\n');
        }
        if !self.problems.is_empty() {
            // Keep the damaged file for inspection.
            let _ = std::fs::copy(&self.path, self.path.with_extension("damaged"));
        }
        files::replace(&self.path, &text)?;
        self.problems.clear();
        self.enrolled = enrolled;
        Ok(())
    }
}

impl Host {
    fn line(&self) -> String {
        let text = format!("{} {} {}", self.name, self.key, self.roles);
        format!("{text} {}", checksum(&text))
    }

    fn read(line: &str) -> Option<Self> {
        let (text, sum) = line.rsplit_once(' ')?;
        let [name, key, roles] = text.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let host = Self {
            name: name.to_owned(),
            key: key.parse().ok()?,
            roles: roles.parse().ok()?,
        };
        (sum == checksum(text)).then_some(host)
    }
}

/// Returns up to 64 characters of a name: those that are safe in a line, a log and a command.
fn plain_name(proposed: &str) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '@' | '-');
    let name: String = proposed.chars().filter(plain).take(64).collect();
    if name.is_empty() { "host".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PeerKey {
        PeerKey([number; 32])
    }

    #[test]
    fn enrolled_hosts_survive_a_restart_and_revoked_ones_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut hosts = Hosts::read(folder.path(), &[]);
        assert!(hosts.is_empty());
        assert_eq!(hosts.add(&key(1), "an na\n\u{1b}[2J", Roles::ALL).unwrap(), "anna2J");
        assert_eq!(
            hosts.add(&key(2), "anna2J", "update".parse().unwrap()).unwrap(),
            "anna2J-2"
        );
        assert_eq!(hosts.add(&key(3), "", Roles::ALL).unwrap(), "host");
        hosts.revoke("host").unwrap();
        hosts.revoke(&key(1).to_string()).unwrap();
        assert_eq!(hosts.revoke("host").unwrap_err().code, FailureCode::NO_HOST);
        let again = Hosts::read(folder.path(), &[]);
        assert!(again.find(&key(1)).is_none() && again.problems.is_empty());
        assert_eq!(again.find(&key(2)), hosts.find(&key(2)));
    }

    #[test]
    fn every_flipped_bit_costs_at_most_one_host_and_never_admits_another() {
        let folder = tempfile::tempdir().unwrap();
        let mut hosts = Hosts::read(folder.path(), &[]);
        for number in 1..=3 {
            hosts
                .add(&key(number), "host", "observe,update".parse().unwrap())
                .unwrap();
        }
        let path = folder.path().join("hosts");
        let sound = std::fs::read(&path).unwrap();
        for bit in 0..8 * sound.len() {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
            let read = Hosts::read(folder.path(), &[]);
            assert!(!read.is_empty(), "bit {bit}");
            // Adding or removing a newline damages two lines.
            assert!(!read.enrolled.is_empty(), "bit {bit}");
            for host in &read.enrolled {
                assert!(hosts.enrolled.contains(host), "bit {bit}: {host:?}");
            }
        }
        for cut in 0..sound.len() {
            std::fs::write(&path, &sound[..cut]).unwrap();
            let read = Hosts::read(folder.path(), &[]);
            let complete = sound[..cut].ends_with(b"\n") && cut > HEAD.len();
            assert!(!read.is_empty() || complete || cut == HEAD.len(), "cut at {cut}");
        }
        std::fs::write(&path, "").unwrap();
        assert!(
            !Hosts::read(folder.path(), &[]).is_empty(),
            "an emptied file is damaged"
        );
    }
}
