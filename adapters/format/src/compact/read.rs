//! Reading of a payload from untrusted bytes.

use alloc::{vec, vec::Vec};

use super::{Content, Model, Models, Part, assemble, parts, write_contents};
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
    let mut decoder = Decoder::new(payload);
    let parts = parts(&outline);
    let mut sections: Vec<SectionInfo> = Vec::new();
    let contents = read_contents(&mut decoder, &parts, |part, before, after| {
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
    let left = payload.len() - decoder.position();
    if left > 0 {
        return Err(DecodeError::PayloadRest { left });
    }
    // The coder accepts other bytes for the same values.
    if write_contents(&parts, &contents) != payload {
        return Err(DecodeError::PayloadForm);
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

/// Decodes the values of these parts. Calls `done` after each part with the positions before and after it.
pub(crate) fn read_contents(
    decoder: &mut Decoder<'_>,
    parts: &[Part],
    mut done: impl FnMut(&Part, usize, usize),
) -> Result<Vec<Content>, DecodeError> {
    let mut models = Models::default();
    let mut contents = Vec::with_capacity(parts.len());
    for (run, part) in parts.iter().enumerate() {
        let before = decoder.position();
        let content = match part.step {
            None => floats(decoder, part.values).map(Content::Floats),
            Some(_) => codes(decoder, models.of(part.kind), part).map(Content::Codes),
        };
        contents.push(content.ok_or(DecodeError::SectionData {
            section: part.kind,
            run,
            fault: CodeFault::Ends,
        })?);
        done(part, before, decoder.position());
    }
    Ok(contents)
}

fn floats(decoder: &mut Decoder<'_>, count: usize) -> Option<Vec<f32>> {
    let mut values = Vec::with_capacity(count.min(decoder.left() / 4 + 1));
    for _ in 0..count {
        let mut bytes = [0; 4];
        for byte in &mut bytes {
            *byte = decoder.byte(0)?;
        }
        values.push(f32::from_le_bytes(bytes));
    }
    Some(values)
}

fn codes(decoder: &mut Decoder<'_>, model: &mut Model, part: &Part) -> Option<Vec<i32>> {
    if !model.any.code(decoder, false)? {
        return Some(vec![0; part.values]);
    }
    // A damaged file must not reserve memory for values that it does not contain.
    let mut codes = Vec::with_capacity(part.values.min(64 * decoder.left() + 1_024));
    model.codes.read(decoder, part.values, part.width, &mut codes)?;
    Some(codes)
}
