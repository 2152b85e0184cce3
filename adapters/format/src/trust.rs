//! Trusted keys of a device, and the admission checks on received files.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    DecodeError, Decoded, Digest, Header, Limits, Provenance, PublicKey, Refusal, Release, Signature, SignedRelease,
    SignerClass, decode::decode_opened, envelope, pattern::matches,
};

/// A publisher's key, and the tasks it may sign for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// Task names, in which `*` matches any sequence of characters; `None`: every task.
    #[serde(default)]
    pub tasks: Option<Vec<String>>,
}

impl TrustedKey {
    /// Returns whether the key may sign for a task.
    #[must_use]
    pub fn covers(&self, task: &str) -> bool {
        let fits = |pattern: &String| matches(pattern, task);
        self.tasks.as_ref().is_none_or(|patterns| patterns.iter().any(fits))
    }
}

/// Trusted keys, names and minimum versions of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// The publishers' keys.
    pub publishers: Vec<TrustedKey>,
    /// The device's key.
    pub device: Option<PublicKey>,
    /// Whether unsigned files are accepted too. For development, not for deployment.
    pub allow_unsigned: bool,
    /// The device's names, one of which must match a release statement's audience. `None`, for readers other than
    /// devices, accepts every audience.
    pub names: Option<Vec<String>>,
    /// Minimum versions by task.
    pub minimum: Vec<MinimumVersion>,
}

/// The minimum version of a task that a device accepts and serves. It is part of the configuration, so it survives a
/// loss of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinimumVersion {
    /// The task's name, in which `*` matches any sequence of characters.
    pub task: String,
    /// The version.
    pub version: u64,
}

impl Trust {
    /// Returns the minimum version of a task: the highest among the matching patterns.
    #[must_use]
    pub fn minimum(&self, task: &str) -> u64 {
        let set = self.minimum.iter().filter(|minimum| matches(&minimum.task, task));
        set.map(|minimum| minimum.version).max().unwrap_or(0)
    }

    /// Returns the trusted publisher's entry; `None` for the device itself.
    fn signer(&self, class: SignerClass, key: PublicKey) -> Result<Option<&TrustedKey>, Refusal> {
        let known = match class {
            SignerClass::Publisher => self.publishers.iter().find(|trusted| trusted.key == key).map(Some),
            SignerClass::Device => (self.device == Some(key)).then_some(None),
        };
        known.ok_or(Refusal::UnknownKey { class, key })
    }
}

/// Conditions for admitting a file.
#[derive(Clone, Debug)]
pub struct Policy<'a> {
    /// The trusted keys.
    pub trust: &'a Trust,
    /// The device's backbone.
    pub backbone: Digest,
    /// Time in seconds since 1970-01-01 UTC; `None` if the time is unknown, in which case expiry is not checked.
    pub now: Option<u64>,
    /// Limits on the file.
    pub limits: Limits,
}

/// An admitted file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Admitted {
    /// The adapter.
    pub decoded: Decoded,
    /// The file's verified signature; `None` only where unsigned files are accepted.
    pub signer: Option<Signature>,
}

/// Fields that decide about admission, from a header or a release statement.
struct Claims<'a> {
    task: &'a str,
    version: u64,
    backbone: Digest,
    expires: Option<u64>,
}

impl Claims<'_> {
    fn of_release(release: &Release) -> Claims<'_> {
        Claims {
            task: &release.task,
            version: release.version,
            backbone: release.backbone,
            expires: release.expires,
        }
    }

    fn of_header(header: &Header) -> Claims<'_> {
        Claims {
            task: &header.task,
            version: header.version,
            backbone: header.backbone,
            expires: header.expires,
        }
    }

    /// Checks that the signer may sign for the task.
    fn check_task(&self, signer: Option<&TrustedKey>) -> Result<(), Refusal> {
        match signer {
            Some(trusted) if !trusted.covers(self.task) => Err(Refusal::TaskNotAllowed {
                key: trusted.key,
                task: self.task.into(),
            }),
            _ => Ok(()),
        }
    }

    /// Checks that the adapter is for this device and has not expired.
    fn check_device(&self, release: Option<&Release>, policy: &Policy<'_>) -> Result<(), Refusal> {
        if self.backbone != policy.backbone {
            return Err(Refusal::WrongBackbone {
                expected: policy.backbone,
                got: self.backbone,
            });
        }
        if let (Some(expires), Some(now)) = (self.expires, policy.now)
            && now >= expires
        {
            return Err(Refusal::Expired { expires, now });
        }
        if let (Some(release), Some(names)) = (release, &policy.trust.names)
            && !release.is_for(names)
        {
            return Err(Refusal::Audience {
                audience: release.audience.clone(),
                names: names.clone(),
            });
        }
        let minimum = policy.trust.minimum(self.task);
        if self.version < minimum {
            return Err(Refusal::BelowMinimum {
                task: self.task.into(),
                minimum,
                got: self.version,
            });
        }
        Ok(())
    }
}

/// Checks a received file, and parses data only after they are verified. The order of the checks: size and envelope,
/// signer, signature over the release statement or the raw bytes, the content's digest, the adapter itself, whether the
/// signer may sign for the task, whether the provenance matches the signer's class, backbone, expiry, audience, minimum
/// version.
///
/// The store checks whether the version is new.
///
/// # Errors
/// [`Refusal`], with a distinct variant for each of these checks.
pub fn admit(file: &[u8], policy: &Policy<'_>) -> Result<Admitted, Refusal> {
    let envelope = envelope::open(file, &policy.limits)?;
    let signer = envelope.signature;
    let trusted = match &signer {
        None if policy.trust.allow_unsigned => None,
        None => return Err(Refusal::Unsigned),
        Some(Signature { class, key, .. }) => policy.trust.signer(*class, *key)?,
    };
    if let Some(Signature { key, .. }) = signer
        && !envelope.signature_holds()
    {
        return Err(Refusal::BadSignature { key });
    }
    let decoded = decode_opened(file, &envelope, &policy.limits).map_err(|fault| match (fault, signer) {
        (
            fault @ (DecodeError::ReleaseLength { .. } | DecodeError::ReleaseContent { .. }),
            Some(Signature { key, .. }),
        ) => Refusal::WrongContent { key, fault },
        (fault @ DecodeError::ReleaseMismatch { .. }, Some(Signature { key, .. })) => {
            Refusal::Contradiction { key, fault }
        }
        (fault, _) => fault.into(),
    })?;
    let header = &decoded.adapter.header;
    let claims = Claims::of_header(header);
    claims.check_task(trusted)?;
    if let Some(Signature { class, .. }) = signer {
        // A publisher may publish an adapter that was tuned on a device as its own version. A device signs only
        // adapters that it tuned itself.
        let own = header.provenance == Provenance::DeviceTuned && header.revision > 0;
        let fits = match class {
            SignerClass::Publisher => header.revision == 0,
            SignerClass::Device => own,
        };
        if !fits {
            return Err(Refusal::WrongClass {
                class,
                provenance: header.provenance,
                revision: header.revision,
            });
        }
    }
    claims.check_device(decoded.release.as_ref(), policy)?;
    Ok(Admitted { decoded, signer })
}

/// Checks the announcement of a file before it arrives: all checks of [`admit`] that concern fields of the statement.
/// The complete file still has to pass [`admit`] after its arrival.
///
/// # Errors
/// [`Refusal`] if one of these checks fails, with the same variant as in [`admit`].
pub fn admit_release(announced: &SignedRelease, policy: &Policy<'_>) -> Result<(), Refusal> {
    let release = &announced.release;
    let (cap, got) = (policy.limits.file_bytes as u64, announced.file_bytes());
    if got > cap {
        let what = "file bytes";
        return Err(Refusal::TooLarge { what, cap, got });
    }
    let class = SignerClass::Publisher;
    let trusted = policy.trust.signer(class, announced.key)?;
    if !announced.holds() {
        return Err(Refusal::BadSignature { key: announced.key });
    }
    let claims = Claims::of_release(release);
    claims.check_task(trusted)?;
    if release.revision != 0 {
        return Err(Refusal::WrongClass {
            class,
            // A revision above 0 counts tunings on a device.
            provenance: Provenance::DeviceTuned,
            revision: release.revision,
        });
    }
    claims.check_device(Some(release), policy)
}

impl From<DecodeError> for Refusal {
    /// Converts errors of length and of limits to separate refusals, all others to [`Refusal::Malformed`].
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Truncated { expected, got } | DecodeError::TrailingBytes { expected, got } => {
                Self::WrongLength { expected, got }
            }
            DecodeError::TooLarge { what, cap, got } => Self::TooLarge { what, cap, got },
            error => Self::Malformed(error),
        }
    }
}
