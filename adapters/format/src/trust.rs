//! Whom a device believes, and the checks in front of every file that reaches it.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    DecodeError, Decoded, Digest, Limits, Provenance, PublicKey, Refusal, Signature, SignerClass,
    decode::decode_opened, envelope,
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
        let matches = |pattern: &String| matches(pattern.as_bytes(), task.as_bytes());
        self.tasks.as_ref().is_none_or(|patterns| patterns.iter().any(matches))
    }
}

/// Whether `text` fits `pattern`; `*` stands for any run of bytes. Time is at most their product.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (p, t) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
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

/// Checks a file in the order in which least is believed: size and envelope, the signer, the signature over the raw
/// bytes, and only then what they say: the adapter itself, whether the signer may speak for its task, whether its
/// provenance is of the signer's class, the backbone, the expiry.
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
        Some(Signature { class, key, .. }) => {
            let unknown = Refusal::UnknownKey {
                class: *class,
                key: *key,
            };
            match class {
                SignerClass::Publisher => {
                    let publishers = &policy.trust.publishers;
                    Some(publishers.iter().find(|trusted| trusted.key == *key).ok_or(unknown)?)
                }
                SignerClass::Device if policy.trust.device == Some(*key) => None,
                SignerClass::Device => return Err(unknown),
            }
        }
    };
    if let Some(signature) = &signer
        && !signature.holds(envelope.signed)
    {
        return Err(Refusal::BadSignature { key: signature.key });
    }
    let decoded = decode_opened(file, &envelope, &policy.limits)?;
    let header = &decoded.adapter.header;
    if let Some(trusted) = trusted
        && !trusted.covers(&header.task)
    {
        return Err(Refusal::TaskNotAllowed {
            key: trusted.key,
            task: header.task.clone(),
        });
    }
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
    if header.backbone != policy.backbone {
        return Err(Refusal::WrongBackbone {
            expected: policy.backbone,
            got: header.backbone,
        });
    }
    if let (Some(expires), Some(now)) = (header.expires, policy.now)
        && now >= expires
    {
        return Err(Refusal::Expired { expires, now });
    }
    Ok(Admitted { decoded, signer })
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

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_pattern_stands_for_what_its_stars_leave_open() {
        for (pattern, text, expected) in [
            ("birds", "birds", true),
            ("birds", "bird", false),
            ("bird*", "birds", true),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("a*b*c", "a-bb-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*/north", "site 3/north", true),
            ("**", "ü", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }
}
