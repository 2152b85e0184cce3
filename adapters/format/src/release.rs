//! Release statements: what a publisher signs, small enough to be verified before the file itself arrives.
//!
//! A statement names the file's signed content by length and SHA-256, and repeats what a device decides by: task, version,
//! backbone, expiry and audience. Layout: `docs/reference/adapter-format.md`, "Release statement".

use alloc::{string::String, string::ToString, vec::Vec};
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    DecodeError, Digest, HeaderFault, Limits, PublicKey, SecretKey, Signature, SignerClass,
    decode::decode_opened,
    envelope::{self, FRAME},
    pattern,
    validate::check_task_name,
    wire::{Reader, check},
};

/// The layout that is written and read.
const LAYOUT: u8 = 1;
/// The text that keeps these signatures apart from all others.
const DOMAIN: &[u8] = b"clr release, publisher\0";
/// Bytes in front of the statement: the key and the signature.
const PREFIX: usize = 32 + 64;

/// What a publisher says about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The task.
    pub task: String,
    /// The version.
    pub version: u64,
    /// The revision; 0 for everything that a device takes from a publisher.
    pub revision: u32,
    /// The backbone that the adapter fits.
    pub backbone: Digest,
    /// When it was signed, in seconds since 1970-01-01 UTC.
    pub created: Option<u64>,
    /// From when on a device must not install it, in the same unit.
    pub expires: Option<u64>,
    /// Names of fleets and devices that it is for, in which `*` stands for any run of characters; empty for every device.
    pub audience: Vec<String>,
    /// Bytes of the file before its trailer.
    pub length: u64,
    /// SHA-256 of these bytes.
    pub content: Digest,
}

/// What a publisher adds to what the file says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// When it was signed, in seconds since 1970-01-01 UTC. Two signatures with the same time, or none, are the same bytes.
    pub created: Option<u64>,
    /// Whom it is for; empty for every device.
    pub audience: Vec<String>,
}

/// A statement with its signature, **not verified**: what stands in a file's trailer, and what announces an upload.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedRelease {
    /// The statement.
    pub release: Release,
    /// The publisher's key.
    pub key: PublicKey,
    /// The Ed25519 signature.
    pub signature: [u8; 64],
}

impl Release {
    /// Largest number of audience patterns.
    pub const MAX_PATTERNS: usize = 16;
    /// Largest pattern in bytes.
    pub const MAX_PATTERN: usize = 128;
    /// Largest statement in bytes.
    pub const MAX_BYTES: usize = 2_560;

    /// Whether a device of these names is among the audience.
    #[must_use]
    pub fn is_for(&self, names: &[String]) -> bool {
        self.audience.is_empty()
            || names
                .iter()
                .any(|name| self.audience.iter().any(|pattern| pattern::matches(pattern, name)))
    }

    /// Signs the statement.
    ///
    /// # Errors
    /// As [`SignedRelease::from_bytes`], for a statement that no reader would take.
    pub fn sign(self, key: &SecretKey) -> Result<SignedRelease, DecodeError> {
        let statement = self.to_bytes();
        Self::read(&statement)?;
        Ok(SignedRelease {
            key: key.public(),
            signature: key.sign(&[DOMAIN, &statement].concat()),
            release: self,
        })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let head = (LAYOUT, self.task.as_str(), self.version, self.revision, &self.backbone);
        let terms = (self.created, self.expires, self.audience.as_slice());
        let content = (self.length, &self.content);
        // postcard fails only for types without a length, and there is none here.
        postcard::to_extend(&(head, terms, content), Vec::new()).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        check("bytes of the release statement", bytes.len(), Self::MAX_BYTES)?;
        let mut input = Reader::new(bytes);
        let release = Self::fields(&mut input).map_err(|error| match error {
            DecodeError::Header { field, fault } => DecodeError::Release { field, fault },
            error => error,
        })?;
        // Covers bytes behind the last field as well.
        if release.to_bytes() == bytes {
            Ok(release)
        } else {
            Err(DecodeError::ReleaseForm)
        }
    }

    fn fields(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let layout: u8 = input.take("layout")?;
        if layout != LAYOUT {
            return Err(DecodeError::ReleaseLayout {
                expected: LAYOUT,
                got: layout,
            });
        }
        let release = Self {
            task: input.text("task", Limits::DEFAULT.task_bytes)?,
            version: input.take("version")?,
            revision: input.take("revision")?,
            backbone: input.take("backbone")?,
            created: input.take("created")?,
            expires: input.take("expires")?,
            audience: input.list("audience patterns", Self::MAX_PATTERNS, |input| {
                input.text("audience pattern", Self::MAX_PATTERN)
            })?,
            length: input.take("length")?,
            content: input.take("content")?,
        };
        check_task_name(&release.task)?;
        let sound = |pattern: &String| !pattern.is_empty() && !pattern.chars().any(char::is_control);
        if !release.audience.iter().all(sound) {
            return Err(DecodeError::Header {
                field: "audience pattern",
                fault: HeaderFault::Text,
            });
        }
        Ok(release)
    }

    /// Whether these are the bytes that the statement names.
    pub(crate) fn check_content(&self, content: &[u8]) -> Result<(), DecodeError> {
        let got = content.len() as u64;
        if got != self.length {
            let expected = self.length;
            return Err(DecodeError::ReleaseLength { expected, got });
        }
        match Digest::of(content) {
            got if got == self.content => Ok(()),
            got => Err(DecodeError::ReleaseContent {
                expected: self.content,
                got,
            }),
        }
    }

    /// Whether the statement says what the file's own header says.
    pub(crate) fn check_header(&self, header: &crate::Header) -> Result<(), DecodeError> {
        let time = |time: Option<u64>| time.map_or_else(|| "never".to_string(), |time| time.to_string());
        let fields = [
            ("task", self.task.clone(), header.task.clone()),
            ("version", self.version.to_string(), header.version.to_string()),
            ("revision", self.revision.to_string(), header.revision.to_string()),
            ("backbone", self.backbone.to_string(), header.backbone.to_string()),
            ("expires", time(self.expires), time(header.expires)),
        ];
        match fields.into_iter().find(|(_, statement, header)| statement != header) {
            None => Ok(()),
            Some((field, statement, header)) => Err(DecodeError::ReleaseMismatch {
                field,
                statement,
                header,
            }),
        }
    }
}

impl SignedRelease {
    /// Largest form in bytes.
    pub const MAX_BYTES: usize = PREFIX + Release::MAX_BYTES;

    /// The one that a file carries, if it carries one, without reading the file further and without verifying it.
    ///
    /// # Errors
    /// As the outer layers of [`crate::decode`].
    pub fn of_file(file: &[u8], limits: &Limits) -> Result<Option<Self>, DecodeError> {
        let envelope = envelope::open(file, limits)?;
        Ok(envelope
            .release
            .zip(envelope.signature)
            .map(|(release, signature)| Self {
                release,
                key: signature.key,
                signature: signature.bytes,
            }))
    }

    /// Key, signature and statement, as in a file's trailer.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.key.0[..], &self.signature[..], &self.release.to_bytes()].concat()
    }

    /// Reads [`SignedRelease::to_bytes`]. Nothing is verified.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`], [`DecodeError::Release`], [`DecodeError::ReleaseLayout`], [`DecodeError::ReleaseForm`],
    /// [`DecodeError::Invalid`] for a task that cannot be one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let parts = bytes.split_first_chunk::<32>();
        let parts = parts.and_then(|(key, rest)| rest.split_first_chunk::<64>().map(|rest| (key, rest)));
        let (key, (signature, statement)) = parts.ok_or(DecodeError::Release {
            field: "signature",
            fault: HeaderFault::Ends,
        })?;
        Ok(Self {
            release: Release::read(statement)?,
            key: PublicKey(*key),
            signature: *signature,
        })
    }

    /// Bytes of the whole file: the content, and a trailer with this.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        let trailer = FRAME + PREFIX + self.release.to_bytes().len();
        self.release.length.saturating_add(trailer as u64)
    }

    /// Whether the signature is the key's over the statement.
    #[must_use]
    pub fn holds(&self) -> bool {
        let message = [DOMAIN, &self.release.to_bytes()].concat();
        self.key.verifies(&message, &self.signature)
    }

    /// The signature as a file's.
    #[must_use]
    pub const fn signature(&self) -> Signature {
        Signature {
            class: SignerClass::Publisher,
            key: self.key,
            bytes: self.signature,
        }
    }
}

/// The file with a release statement and a publisher's signature over it; a signature that it had is replaced. What the
/// adapter says stays as it is. The digest is another: it names the signed file.
///
/// # Errors
/// As [`crate::decode`]; [`DecodeError::TooLarge`] and [`DecodeError::Release`] for an audience that no reader would take.
pub fn sign_release(file: &[u8], terms: &Terms, key: &SecretKey) -> Result<Vec<u8>, DecodeError> {
    let envelope = envelope::open(file, &Limits::DEFAULT)?;
    let header = decode_opened(file, &envelope, &Limits::DEFAULT)?.adapter.header;
    let release = Release {
        task: header.task,
        version: header.version,
        revision: header.revision,
        backbone: header.backbone,
        created: terms.created,
        expires: header.expires,
        audience: terms.audience.clone(),
        length: envelope.signed.len() as u64,
        content: Digest::of(envelope.signed),
    };
    let signed = release.sign(key)?;
    Ok(envelope::close(
        envelope.signed.to_vec(),
        envelope::RELEASE,
        &signed.to_bytes(),
    ))
}

impl fmt::Debug for SignedRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRelease")
            .field("release", &self.release)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Serialize for SignedRelease {
    /// As the bytes of a trailer.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.to_bytes())
    }
}

impl<'de> Deserialize<'de> for SignedRelease {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl de::Visitor<'_> for Bytes {
            type Value = SignedRelease;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a signed release statement")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<SignedRelease, E> {
                SignedRelease::from_bytes(bytes).map_err(E::custom)
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}
