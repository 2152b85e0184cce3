//! Errors of decoding and encoding.

use alloc::{boxed::Box, string::String};

use crate::{Digest, InvalidAdapter, SectionKind, codec::CodeFault};

/// Error of decoding. No part of the file has been used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The magic number is wrong.
    #[error(
        "not an adapter file: the first 8 bytes are not the magic number\nhint: adapter files end in .clr and are written by `clr train`"
    )]
    Magic,
    /// The format is newer than this program.
    #[error("format version {got}, expected 1 to {expected}\nhint: a newer clr wrote this file; update this one")]
    Version {
        /// The newest version that this program reads.
        expected: u16,
        /// The file's version.
        got: u16,
    },
    /// Reserved bytes are not zero.
    #[error("reserved bytes of the {place} are not zero")]
    Reserved {
        /// `prefix`, `trailer` or a section's name.
        place: &'static str,
    },
    /// A size is beyond its cap. Nothing was allocated for it.
    #[error("{what}: {got}, at most {cap} allowed")]
    TooLarge {
        /// The limited quantity.
        what: &'static str,
        /// The largest permitted size.
        cap: u64,
        /// The size claimed.
        got: u64,
    },
    /// The file ends early.
    #[error(
        "the file ends early: {got} bytes, expected {expected}\nhint: it was not copied completely; fetch it again"
    )]
    Truncated {
        /// Size according to its length fields, as far as these can be read, in bytes.
        expected: u64,
        /// Number of bytes in the file.
        got: u64,
    },
    /// The file has trailing data.
    #[error("{got} bytes, expected {expected}: trailing data")]
    TrailingBytes {
        /// Size according to its length fields, in bytes.
        expected: u64,
        /// Number of bytes in the file.
        got: u64,
    },
    /// The checksum of the file is wrong.
    #[error("the file's checksum is {got:08x}, expected {expected:08x}\nhint: the file is damaged; fetch it again")]
    FileChecksum {
        /// The CRC-32 stored in the file.
        expected: u32,
        /// The CRC-32 of its bytes.
        got: u32,
    },
    /// The signature is of an unknown kind.
    #[error("signature kind {kind} is unknown\nhint: a newer clr signed this file; update this one")]
    SignatureKind {
        /// The kind.
        kind: u8,
    },
    /// The signature has the wrong length for its kind.
    #[error("signature of {got} bytes, expected {expected}")]
    SignatureLength {
        /// Number of bytes of a signature of this kind.
        expected: u16,
        /// Number of bytes according to the trailer.
        got: u16,
    },
    /// A field of the release statement cannot be read.
    #[error("release statement, field `{field}`: {fault}")]
    Release {
        /// The field.
        field: &'static str,
        /// Description of the fault.
        fault: HeaderFault,
    },
    /// The release statement has an unknown layout.
    #[error(
        "release statement of layout {got}, expected {expected}\nhint: a newer clr signed this file; update this one"
    )]
    ReleaseLayout {
        /// The layout that this program reads.
        expected: u8,
        /// The statement's layout.
        got: u8,
    },
    /// The release statement is readable, but not in canonical form.
    #[error("the release statement is not in canonical form, or bytes follow it")]
    ReleaseForm,
    /// The length of the content differs from the one in the release statement.
    #[error("{got} bytes before the trailer, the release statement names {expected}")]
    ReleaseLength {
        /// Number of bytes according to the statement.
        expected: u64,
        /// Number of bytes of the content.
        got: u64,
    },
    /// The digest of the content differs from the one in the release statement.
    #[error("the content has the digest {}, the release statement names {}", got.short(), expected.short())]
    ReleaseContent {
        /// The digest in the statement.
        expected: Digest,
        /// The digest of the content.
        got: Digest,
    },
    /// The release statement and the header differ.
    #[error("{field}: `{statement}` in the release statement, `{header}` in the header")]
    ReleaseMismatch {
        /// The field.
        field: &'static str,
        /// Value in the statement.
        statement: String,
        /// Value in the header.
        header: String,
    },
    /// A header field cannot be read.
    #[error("header field `{field}`: {fault}")]
    Header {
        /// The field.
        field: &'static str,
        /// Description of the fault.
        fault: HeaderFault,
    },
    /// The header has trailing data after its last field.
    #[error("{left} bytes of trailing data after the header's last field")]
    HeaderRest {
        /// Number of bytes left over.
        left: usize,
    },
    /// The header is readable but not in canonical form.
    #[error("the header is not in canonical form from byte {offset} on")]
    HeaderForm {
        /// Offset of the first difference in the header.
        offset: usize,
    },
    /// A section is missing, or another one is in its place.
    #[error("section `{expected}` expected, got kind {got:?}")]
    SectionKind {
        /// The section that the header requires here.
        expected: SectionKind,
        /// The kind found; `None` at the payload's end.
        got: Option<u8>,
    },
    /// A section's encoding is unknown or does not fit its kind.
    #[error("section `{section}`: encoding {got} is unknown here")]
    SectionEncoding {
        /// The section.
        section: SectionKind,
        /// The encoding's code.
        got: u8,
    },
    /// The number of values of a section differs from the header.
    #[error("section `{section}`: {got} values, expected {expected}")]
    SectionElements {
        /// The section.
        section: SectionKind,
        /// Number of values according to the header.
        expected: u64,
        /// Number of values according to the section.
        got: u64,
    },
    /// The length of a section's data differs from its number of values and encoding.
    #[error("section `{section}`: {got} bytes, expected {expected}")]
    SectionBytes {
        /// The section.
        section: SectionKind,
        /// Number of bytes that the section's values require.
        expected: u64,
        /// Number of bytes according to the section's head.
        got: u64,
    },
    /// The payload ends within a section.
    #[error("section `{section}`: the payload ends after {got} bytes, expected {expected}")]
    SectionTruncated {
        /// The section.
        section: SectionKind,
        /// Number of bytes that the section requires.
        expected: u64,
        /// Number of bytes left in the payload.
        got: u64,
    },
    /// A section's checksum is wrong.
    #[error("section `{section}`: checksum {got:08x}, expected {expected:08x}")]
    SectionChecksum {
        /// The section.
        section: SectionKind,
        /// The CRC-32 stored in the section's head.
        expected: u32,
        /// The CRC-32 of the section's data.
        got: u32,
    },
    /// A section's data are not canonical.
    #[error("section `{section}`, run {run}: {fault}")]
    SectionData {
        /// The section.
        section: SectionKind,
        /// Index of the site within the section; for the head's weight, index of the class.
        run: usize,
        /// Description of the fault.
        fault: CodeFault,
    },
    /// The payload is readable, but not in canonical form.
    #[error("the payload is not in the form that the encoder writes")]
    PayloadForm,
    /// The payload has trailing data after its last section.
    #[error("{left} bytes of trailing data after the last section")]
    PayloadRest {
        /// Number of bytes left over.
        left: usize,
    },
    /// The file is well-formed, but the adapter is invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidAdapter),
}

/// Fault of a header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// The header ends within the field.
    #[error("the header ends within it")]
    Ends,
    /// The text is not UTF-8.
    #[error("not UTF-8")]
    Utf8,
    /// The number does not fit its type.
    #[error("the number does not fit its type")]
    Number,
    /// The text is empty or has control characters.
    #[error("it is empty or has control characters")]
    Text,
    /// The variant number is unknown.
    #[error("the value is not one of the known choices")]
    Choice,
    /// A name shares more bytes with the previous name than that name has.
    #[error("shares {got} bytes with the previous name of {have}")]
    Shared {
        /// Number of shared bytes according to the file.
        got: usize,
        /// Number of bytes of the previous name.
        have: usize,
    },
}

/// Error of encoding.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The adapter is not valid.
    #[error(transparent)]
    Invalid(#[from] InvalidAdapter),
    /// The header or file would be larger than a reader accepts.
    #[error("{what}: {got} bytes, at most {cap} allowed\nhint: fewer or smaller canaries, or shorter labels")]
    TooLarge {
        /// `header` or `file`.
        what: &'static str,
        /// The cap.
        cap: usize,
        /// The size.
        got: usize,
    },
    /// A value is too large for its step.
    #[error(
        "{section}: {value} is more than 4,194,304 steps of {step}\nhint: training diverged, or the step is too small"
    )]
    Step {
        /// The kind of the value.
        section: SectionKind,
        /// The value.
        value: f32,
        /// The size of its step.
        step: f64,
    },
    /// An encoding of format version 2 was asked for an adapter that only version 3 can hold.
    #[error(
        "site {site} has differences from the backbone, which only the encoding `compact` can hold\nhint: make it absolute first (`clr_onnx::with_all_sites`), or encode it as `compact`"
    )]
    Relative {
        /// Index of the site in the adapter.
        site: usize,
    },
    /// An encoding of format version 2 was asked for an adapter with class features.
    #[error(
        "class features, which only the encoding `compact` can hold\nhint: remove them from the header, or encode the adapter as `compact`"
    )]
    ClassFeatures,
    /// An encoding of format version 2 was asked for an adapter whose profile belongs to a background.
    #[error(
        "a profile against a background, which only the encoding `compact` can hold\nhint: remove it from the header, or encode the adapter as `compact`"
    )]
    Background,
    /// The header could not be serialised.
    #[error("header: {reason}")]
    Header {
        /// The serialiser's reason.
        reason: String,
    },
    /// The written adapter cannot be decoded, which is a defect of this crate.
    #[error("the written adapter does not read back: {0}")]
    ReadBack(#[source] Box<DecodeError>),
}
