//! Reading of a payload from untrusted bytes.

use alloc::{vec, vec::Vec};

use super::{Content, Model, Models, Part, assemble, parts};
use crate::{
    Adapter, DecodeError, SectionEncoding, SectionInfo,
    codec::{
        CodeFault,
        range::{AHEAD, Coder as _, Decoder},
    },
    wire::Outline,
};

/// Decodes the payload of a file with this header. The number of values must have been checked against the limits.
/// Returns the adapter, and where its sections are; `start` is the payload's offset in the file.
pub(crate) fn read(payload: &[u8], outline: Outline, start: usize) -> Result<(Adapter, Vec<SectionInfo>), DecodeError> {
    let parts = parts(&outline);
    let mut sections: Vec<SectionInfo> = Vec::new();
    let contents = read_contents(payload, &parts, |part, before, after| {
        let (before, bytes) = (before.saturating_sub(AHEAD), after - before);
        match sections.last_mut().filter(|section| section.kind == part.kind) {
            Some(section) => {
                section.elements += part.values;
                section.bytes += bytes;
            }
            None => sections.push(SectionInfo {
                kind: part.kind,
                encoding: if part.step.is_some() {
                    SectionEncoding::Coded
                } else {
                    SectionEncoding::F32
                },
                elements: part.values,
                offset: start + before,
                bytes,
                crc: None,
            }),
        }
    })?;
    if let Some(last) = sections.last_mut() {
        last.bytes += AHEAD;
    }
    let not_finite = |content: &Content| match content {
        Content::Floats(values) => values.iter().any(|value| !value.is_finite()),
        Content::Codes(_) => false,
    };
    if let Some(run) = contents.iter().position(not_finite) {
        return Err(DecodeError::SectionData {
            section: parts[run].kind,
            run,
            fault: CodeFault::NotFinite,
        });
    }
    Ok((assemble(outline, &parts, contents), sections))
}

/// Decodes a payload of these parts. Calls `done` after each part with the positions before and after it.
pub(crate) fn read_contents(
    payload: &[u8],
    parts: &[Part],
    mut done: impl FnMut(&Part, usize, usize),
) -> Result<Vec<Content>, DecodeError> {
    let (mut decoder, mut models) = (Decoder::new(payload), Models::default());
    let mut contents = Vec::with_capacity(parts.len());
    for (run, part) in parts.iter().enumerate() {
        let before = decoder.position();
        let content = match part.step {
            None => floats(&mut decoder, part.values).map(Content::Floats),
            Some(_) => codes(&mut decoder, models.of(part.kind), part).map(Content::Codes),
        };
        contents.push(content.map_err(|fault| match fault {
            Fault::Ends => DecodeError::SectionData {
                section: part.kind,
                run,
                fault: CodeFault::Ends,
            },
            Fault::Form => DecodeError::PayloadForm,
        })?);
        done(part, before, decoder.position());
    }
    let left = decoder.left();
    if left > 0 {
        return Err(DecodeError::PayloadRest { left });
    }
    if !decoder.is_canonical() {
        return Err(DecodeError::PayloadForm);
    }
    Ok(contents)
}

/// Fault of the bytes of one part.
enum Fault {
    /// The bytes end, or contain an impossible code.
    Ends,
    /// An encoder writes other bytes for these values.
    Form,
}

fn floats(decoder: &mut Decoder<'_>, count: usize) -> Result<Vec<f32>, Fault> {
    let mut values = Vec::with_capacity(count.min(decoder.left() / 4 + 1));
    for _ in 0..count {
        let mut bytes = [0; 4];
        for byte in &mut bytes {
            *byte = decoder.byte(0).ok_or(Fault::Ends)?;
        }
        values.push(f32::from_le_bytes(bytes));
    }
    Ok(values)
}

fn codes(decoder: &mut Decoder<'_>, model: &mut Model, part: &Part) -> Result<Vec<i32>, Fault> {
    if !model.any.code(decoder, false).ok_or(Fault::Ends)? {
        return Ok(vec![0; part.values]);
    }
    let mut codes = Vec::new();
    let read = model.codes.read(decoder, part.values, part.width, &mut codes);
    read.ok_or(Fault::Ends)?;
    if codes.iter().all(|&code| code == 0) {
        return Err(Fault::Form);
    }
    Ok(codes)
}
