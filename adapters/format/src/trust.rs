//! Whom a device believes, and the checks in front of every file that reaches it.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    DecodeError, Decoded, Digest, Header, Limits, Provenance, PublicKey, Refusal, Release, Signature, SignedRelease,
    SignerClass, decode::decode_opened, envelope, pattern::matches,
};

/// A publisher's key, and the tasks it may speak for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// Task names, in which `*` stands for any run of characters; every task where `None`.
    #[serde(default)]
    pub tasks: Option<Vec<String>>,
}

impl TrustedKey {
    /// Whether the key may speak for a task.
    #[must_use]
    pub fn covers(&self, task: &str) -> bool {
        let fits = |pattern: &String| matches(pattern, task);
        self.tasks.as_ref().is_none_or(|patterns| patterns.iter().any(fits))
    }
}

/// Whom a device believes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Keys of publishers.
    pub publishers: Vec<TrustedKey>,
    /// The device's own key.
    pub device: Option<PublicKey>,
    /// Whether files without a signature are taken as well: for a bench, not for the field.
    pub unsigned: bool,
    /// The device's names, of which a release statement's audience must have one; `None` for a reader that is no device, to which every
    /// audience is right.
    pub names: Option<Vec<String>>,
    /// Lowest versions by task.
    pub minimum: Vec<MinimumVersion>,
}

/// The lowest version of a task that a device takes and serves. As configuration, it survives what empties the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinimumVersion {
    /// The task's name, in which `*` stands for any run of characters.
    pub task: String,
    /// The version.
    pub version: u64,
}

impl Trust {
    /// The lowest version of a task that is taken: the highest of those that are set for it.
    #[must_use]
    pub fn minimum(&self, task: &str) -> u64 {
        let set = self.minimum.iter().filter(|minimum| matches(&minimum.task, task));
        set.map(|minimum| minimum.version).max().unwrap_or(0)
    }

    /// The publisher's entry of a signer that is believed; the device itself has none.
    fn signer(&self, class: SignerClass, key: PublicKey) -> Result<Option<&TrustedKey>, Refusal> {
        let known = match class {
            SignerClass::Publisher => self.publishers.iter().find(|trusted| trusted.key == key).map(Some),
            SignerClass::Device => (self.device == Some(key)).then_some(None),
        };
        known.ok_or(Refusal::UnknownKey { class, key })
    }
}

/// What a file must fulfil to be taken.
#[derive(Clone, Debug)]
pub struct Policy<'a> {
    /// Whose signatures count.
    pub trust: &'a Trust,
    /// The backbone in service.
    pub backbone: Digest,
    /// Seconds since 1970-01-01 UTC; expiry is not checked by a device that does not know the time.
    pub now: Option<u64>,
    /// Caps.
    pub limits: Limits,
}

/// A file that passed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Admitted {
    /// The adapter.
    pub decoded: Decoded,
    /// Who signed it, verified; `None` only where unsigned files are taken.
    pub signer: Option<Signature>,
}

/// What is decided by, from a header or a release statement.
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

    /// Whether the signer may speak for the task.
    fn check_task(&self, signer: Option<&TrustedKey>) -> Result<(), Refusal> {
        match signer {
            Some(trusted) if !trusted.covers(self.task) => Err(Refusal::TaskNotAllowed {
                key: trusted.key,
                task: self.task.into(),
            }),
            _ => Ok(()),
        }
    }

    /// Whether the adapter is one for this device now.
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

/// Checks a file in the order in which least is believed: size and envelope, the signer, the signature over the release
/// statement or the raw bytes, and only then what they say: the content's digest and the adapter itself, whether the signer may
/// speak for its task, whether its provenance is of the signer's class, the backbone, the expiry, the audience, the minimum
/// version.
///
/// Whether the version is new is the store's to say.
///
/// # Errors
/// A [`Refusal`] of its own for each of them.
pub fn admit(file: &[u8], policy: &Policy<'_>) -> Result<Admitted, Refusal> {
    let envelope = envelope::open(file, &policy.limits)?;
    let signer = envelope.signature;
    let trusted = match &signer {
        None if policy.trust.unsigned => None,
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
        // A publisher may send on what a device tuned, as a version of its own; a device signs only its own work.
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

/// Checks the announcement of a file that has not arrived: all that [`admit`] checks and a statement can tell. The file itself
/// is admitted when it is there.
///
/// # Errors
/// As [`admit`].
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
            // A revision is what tuning on a device counts.
            provenance: Provenance::DeviceTuned,
            revision: release.revision,
        });
    }
    claims.check_device(Some(release), policy)
}

impl From<DecodeError> for Refusal {
    /// Lengths and caps have refusals of their own; everything else about a file's bytes is [`Refusal::Malformed`].
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
