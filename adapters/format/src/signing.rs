//! Signing of complete files, and reading their signatures.

use alloc::{string::String, vec::Vec};

use crate::{
    DecodeError, Digest, Limits, Release, SecretKey, Signature, SignedRelease, SignerClass, decode::decode_opened,
    envelope, trailer,
};

/// Fields that a publisher adds when signing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Time of signing, in seconds since 1970-01-01 UTC. Signing twice with the same time, or with `None`, gives the
    /// same bytes.
    pub created: Option<u64>,
    /// The audience; empty: every device.
    pub audience: Vec<String>,
}

/// Signs a file's bytes before the trailer, for an adapter tuned on a device. An existing signature is replaced. A
/// publisher uses [`crate::sign_release`] instead, which also states the audience and allows a device to verify an
/// upload before it arrives. The signed bytes, and with them the adapter, stay the same. The file's digest changes,
/// because it includes the trailer.
///
/// # Errors
/// [`DecodeError`] if the file's envelope is invalid, as in [`crate::decode`].
pub fn sign(file: &[u8], class: SignerClass, key: &SecretKey) -> Result<Vec<u8>, DecodeError> {
    let envelope = envelope::open(file, &Limits::DEFAULT)?;
    let signature = Signature::of(envelope.signed, class, key);
    Ok(trailer::close(
        envelope.signed.to_vec(),
        class as u8,
        &[&signature.key.0[..], &signature.bytes[..]].concat(),
    ))
}

/// Signs a file with a publisher's release statement. An existing signature is replaced. The adapter stays the same.
/// The file's digest changes, because it includes the trailer.
///
/// # Errors
/// [`DecodeError`] if [`crate::decode`] refuses the file; [`DecodeError::TooLarge`] or [`DecodeError::Release`] if
/// readers would refuse the audience.
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
    Ok(trailer::close(
        envelope.signed.to_vec(),
        trailer::RELEASE,
        &signed.to_bytes(),
    ))
}

/// Returns the signature of a file. Does not decode the rest, and does not verify the signature.
///
/// # Errors
/// [`DecodeError`] if the file's envelope is invalid, as in [`crate::decode`].
pub fn signature(file: &[u8], limits: &Limits) -> Result<Option<Signature>, DecodeError> {
    Ok(envelope::open(file, limits)?.signature)
}

impl SignedRelease {
    /// Returns the signed statement of a file, if there is one. Does not decode the rest, and does not verify the
    /// signature.
    ///
    /// # Errors
    /// [`DecodeError`] if the file's envelope is invalid, as in [`crate::decode`].
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
}
