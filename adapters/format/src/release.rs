//! Release statements, signed by a publisher, which a device verifies before the file arrives.
//!
//! A statement contains the length and SHA-256 of the file's content, and repeats the fields that decide about
//! admission: task, version, backbone, expiry and audience. Layout: `docs/reference/adapter-format.md`, "Release
//! statement".

use alloc::{string::String, string::ToString, vec::Vec};
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    DecodeError, Digest, HeaderFault, Limits, PublicKey, SecretKey, Signature, SignerClass, pattern,
    trailer::FRAME,
    validate::check_task_name,
    wire::{Reader, check},
};

/// The supported layout.
const LAYOUT: u8 = 1;
/// Prefix of the signed bytes, which separates this signature from all others.
const DOMAIN: &[u8] = b"clr release, publisher\0";
/// Bytes before the statement: the key and the signature.
const PREFIX: usize = 32 + 64;

/// A publisher's statement about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The task.
    pub task: String,
    /// The version.
    pub version: u64,
    /// The revision; 0 for every publisher's file that a device accepts.
    pub revision: u32,
    /// The backbone that the adapter fits.
    pub backbone: Digest,
    /// Time of signing, in seconds since 1970-01-01 UTC.
    pub created: Option<u64>,
    /// Expiry, in the same unit: from this time on, a device refuses to install the file.
    pub expires: Option<u64>,
    /// Patterns of the names of the fleets and devices that may install the file; `*` matches any sequence of
    /// characters. Empty: every device.
    pub audience: Vec<String>,
    /// Bytes of the file before its trailer.
    pub length: u64,
    /// SHA-256 of these bytes.
    pub content: Digest,
}

/// A statement with its signature, **not verified**. It is the content of a file's trailer, and the announcement of an
/// upload.
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
    /// Maximum number of audience patterns.
    pub const MAX_PATTERNS: usize = 16;
    /// Maximum bytes of a pattern.
    pub const MAX_PATTERN: usize = 128;
    /// Maximum bytes of a statement.
    pub const MAX_BYTES: usize = 2_560;

    /// Returns whether a device with these names belongs to the audience.
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
    /// [`DecodeError`] if [`SignedRelease::from_bytes`] would refuse the signed statement.
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
        // postcard fails only for sequences of unknown length, which do not occur here.
        postcard::to_extend(&(head, terms, content), Vec::new()).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        check("bytes of the release statement", bytes.len(), Self::MAX_BYTES)?;
        let mut input = Reader::new(bytes);
        let release = Self::fields(&mut input).map_err(|error| match error {
            DecodeError::Header { field, fault } => DecodeError::Release { field, fault },
            error => error,
        })?;
        // Comparing the re-encoded statement also detects trailing bytes.
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

    /// Checks that these bytes match the statement.
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

    /// Checks that the statement matches the file's header.
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
    /// Maximum bytes of a signed statement.
    pub const MAX_BYTES: usize = PREFIX + Release::MAX_BYTES;

    /// Returns key, signature and statement, as in a file's trailer.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.key.0[..], &self.signature[..], &self.release.to_bytes()].concat()
    }

    /// Parses the bytes of [`SignedRelease::to_bytes`]. Does not verify the signature.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] if the statement exceeds a cap; [`DecodeError::Release`] if a field cannot be read;
    /// [`DecodeError::ReleaseLayout`] if the layout is unknown; [`DecodeError::ReleaseForm`] if the statement is not in
    /// canonical form; [`DecodeError::Invalid`] if the task's name is invalid.
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

    /// Returns the bytes of the complete file: the content, and a trailer with this statement.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        let trailer = FRAME + PREFIX + self.release.to_bytes().len();
        self.release.length.saturating_add(trailer as u64)
    }

    /// Returns whether the signature is valid for the statement.
    #[must_use]
    pub fn holds(&self) -> bool {
        let message = [DOMAIN, &self.release.to_bytes()].concat();
        self.key.verifies(&message, &self.signature)
    }

    /// Returns the signature in the form common to all files.
    #[must_use]
    pub const fn signature(&self) -> Signature {
        Signature {
            class: SignerClass::Publisher,
            key: self.key,
            bytes: self.signature,
        }
    }
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
    /// Serialises as the bytes of a trailer.
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
