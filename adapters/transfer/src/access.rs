//! Roles of hosts: the sets of requests that a peer may make.

use alloc::{string::String, vec::Vec};
use core::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A permission of a host. Every role includes the requests of [`Role::Observe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Role {
    /// May read the status, the list of tasks and the tuning progress.
    Observe = 1,
    /// May switch tasks and confirm a trial.
    Operate = 2,
    /// May teach images and tune.
    Teach = 4,
    /// May send, read and revert adapters.
    Update = 8,
    /// May make all requests, including removal of tasks, enrolment and revocation of hosts, and rotation of the
    /// device's key.
    Administer = 16,
}

impl Role {
    /// All roles, from the least to the most powerful.
    pub const ALL: [Self; 5] = [
        Self::Observe,
        Self::Operate,
        Self::Teach,
        Self::Update,
        Self::Administer,
    ];

    /// Returns the role's name, as written in configurations and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Operate => "operate",
            Self::Teach => "teach",
            Self::Update => "update",
            Self::Administer => "administer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Error for text that is not the name of a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a role\nhint: observe, operate, teach, update or administer")]
pub struct RoleError(String);

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        let found = Self::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| RoleError(text.into()))
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Roles(u8);

impl Roles {
    /// The set of all permissions.
    pub const ALL: Self = Self(0b1_1111);

    /// Returns whether `role` is in the set or included in one of its members.
    #[must_use]
    pub const fn include(self, role: Role) -> bool {
        match role {
            Role::Observe => self.0 & Self::ALL.0 != 0,
            role => self.0 & (role as u8 | Role::Administer as u8) != 0,
        }
    }

    /// Returns whether the set has no member.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 & Self::ALL.0 == 0
    }

    /// Returns the members.
    pub fn members(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |&role| self.0 & role as u8 != 0)
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |set, role| set | role as u8))
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, role) in self.members().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(role.name())?;
        }
        Ok(())
    }
}

impl FromStr for Roles {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        text.split(',').map(|name| name.trim().parse()).collect()
    }
}

/// A known host of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// The host's name.
    pub name: String,
    /// The host's public key, as text.
    pub key: String,
    /// The host's roles, joined by commas.
    pub roles: String,
    /// Whether the host is listed in the configuration; otherwise it was enrolled.
    pub configured: bool,
    /// Number of the host's open sessions.
    pub sessions: u32,
}

/// An open enrolment, with the code to type on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The code, grouped for reading.
    pub code: String,
    /// Seconds until the code expires.
    pub seconds: u32,
}

/// The device's session keys after a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRotation {
    /// The current key, as text.
    pub key: String,
    /// The previous key, as text, as long as it is accepted.
    pub old: Option<String>,
    /// Seconds until the previous key is no longer accepted.
    pub seconds: u32,
}

/// Maximum number of hosts in one reply.
pub(crate) const MAX_HOSTS: usize = 256;

/// Truncates the texts and the list to the limits of a reply.
pub(crate) fn clip_hosts(hosts: &mut Vec<HostEntry>) {
    hosts.truncate(MAX_HOSTS);
    for host in hosts {
        host.name.truncate(host.name.floor_char_boundary(64));
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn administer_includes_every_role_and_every_role_includes_observe() {
        for role in Role::ALL {
            let set: Roles = [role].into_iter().collect();
            assert!(set.include(role) && set.include(Role::Observe));
            assert_eq!(set.include(Role::Administer), role == Role::Administer);
            assert_eq!(set.include(Role::Teach), matches!(role, Role::Teach | Role::Administer));
        }
        assert!(!Roles::default().include(Role::Observe));
    }

    #[test]
    fn a_set_of_roles_survives_its_text() {
        let set: Roles = "update, observe".parse().unwrap();
        assert_eq!(set.to_string(), "observe,update");
        assert_eq!(set.to_string().parse(), Ok(set));
        assert!("root".parse::<Roles>().unwrap_err().to_string().contains("hint: "));
    }
}
