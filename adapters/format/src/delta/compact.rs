//! Deltas between two adapters of format version 3.
//!
//! Everything but the payload is coded like any file. The payload's codes are coded as differences from the base's
//! codes of the same site (counted from the last), class (by label) and kind, with the same models as in a file.

use alloc::{collections::BTreeMap, vec::Vec};

use super::{
    DeltaError, apply,
    matching::matched,
    script::Script,
    streams::{Reader, push_varint, take_varint},
};
use crate::{
    DecodeError, Limits, SectionKind,
    compact::{Content, Part, parts, read_contents, write_contents},
    decode::check_parameters,
    envelope::{self, Frame},
    wire::{self, Outline},
};

/// Appends the body of a delta between two files of format version 3; `None` if one of them is another file.
pub(super) fn diff(base: &[u8], target: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (old, mut new) = (Compact::read(base)?, Compact::read(target)?);
    let (from, to) = (old.frame.without_payload(base), new.frame.without_payload(target));
    let mut script = Script::new(&from);
    matched(&from, 0..from.len(), &to, &mut script);
    let mut frame = Vec::new();
    script.finish().finish(&mut frame);
    push_varint(frame.len(), out);
    out.extend(frame);
    old.combine(&mut new.contents, &new.parts, &new.outline, i32::wrapping_sub);
    out.extend(write_contents(&new.parts, &new.contents));
    Some(())
}

/// Returns the target of a delta's body. `length` is the target's, at most the cap.
pub(super) fn follow(base: &[u8], mut body: &[u8], length: usize) -> Result<Vec<u8>, DeltaError> {
    // The base is a file of the store, which was read before.
    let old = Compact::read(base).ok_or(DeltaError::Base)?;
    let bytes = take_varint(&mut body).ok_or(DeltaError::Truncated)?;
    let (frame, payload) = body.split_at_checked(bytes).ok_or(DeltaError::Truncated)?;
    let mut reader = Reader::open(frame, length)?;
    let mut file = apply::follow(&old.frame.without_payload(base), &mut reader, length)?;
    if !reader.is_used_up() {
        return Err(DeltaError::TrailingBytes);
    }
    let damaged = || DeltaError::Payload;
    let frame = Frame::of(&file).ok_or_else(damaged)?;
    let outline = wire::read(&file[frame.header.clone()], 3, &Limits::DEFAULT).map_err(|_| damaged())?;
    check_parameters(&outline, &Limits::DEFAULT).map_err(|_| damaged())?;
    let parts = parts(&outline);
    let mut contents = read_contents(payload, &parts, |_, _, _| ()).map_err(|error| match error {
        DecodeError::PayloadRest { .. } => DeltaError::TrailingBytes,
        _ => damaged(),
    })?;
    old.combine(&mut contents, &parts, &outline, i32::wrapping_add);
    let payload = write_contents(&parts, &contents);
    if file.len() + payload.len() != length {
        return Err(damaged());
    }
    file.splice(frame.header.end..frame.header.end, payload);
    Ok(file)
}

/// A file of format version 3.
struct Compact {
    frame: Frame,
    outline: Outline,
    parts: Vec<Part>,
    contents: Vec<Content>,
}

impl Compact {
    /// Reads the codes of a file; `None` if it has another version or is damaged.
    fn read(file: &[u8]) -> Option<Self> {
        let limits = &Limits::DEFAULT;
        let envelope = envelope::open(file, limits).ok()?;
        if envelope.version != 3 {
            return None;
        }
        let outline = wire::read(envelope.header, 3, limits).ok()?;
        check_parameters(&outline, limits).ok()?;
        let parts = parts(&outline);
        Some(Self {
            contents: read_contents(envelope.payload, &parts, |_, _, _| ()).ok()?,
            frame: Frame::of(file)?,
            outline,
            parts,
        })
    }

    /// Combines the contents of another file, in place, with what they are differences from: the content of the
    /// corresponding part of this file if it has the same step and size, with the rows of the same labels in the head.
    /// Other values are differences from 0 and stay. `codes` combines two codes; floats are combined by their bits.
    fn combine(&self, contents: &mut [Content], parts: &[Part], outline: &Outline, codes: fn(i32, i32) -> i32) {
        let mut own: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
        for (index, part) in self.parts.iter().enumerate() {
            own.entry(part.kind as u8).or_default().push(index);
        }
        let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
        for (row, label) in self.outline.header.labels.iter().enumerate() {
            rows.entry(label).or_insert(row);
        }
        let labels = &outline.header.labels;
        // From the last part of a kind on, because an adapter may leave out its first sites.
        for (part, content) in parts.iter().zip(contents).rev() {
            let Some(index) = own.get_mut(&(part.kind as u8)).and_then(Vec::pop) else {
                continue;
            };
            let (reference, own) = (&self.contents[index], &self.parts[index]);
            match part.kind {
                SectionKind::HeadWeight | SectionKind::HeadBias | SectionKind::ClassDeviations
                    if own.step == part.step =>
                {
                    let width = part.values / labels.len().max(1);
                    for (row, label) in labels.iter().enumerate() {
                        if let Some(&from) = rows.get(label.as_str()) {
                            combine(content, row * width, reference, from * width, width, codes);
                        }
                    }
                }
                _ if own == part => combine(content, 0, reference, 0, part.values, codes),
                _ => {}
            }
        }
    }
}

/// Combines `count` values of two contents, which start at `at` and `from`, in place.
fn combine(
    content: &mut Content,
    at: usize,
    reference: &Content,
    from: usize,
    count: usize,
    codes: fn(i32, i32) -> i32,
) {
    match (content, reference) {
        (Content::Codes(values), Content::Codes(others)) => {
            for (value, &other) in pairs(values, at, others, from, count) {
                *value = codes(*value, other);
            }
        }
        (Content::Floats(values), Content::Floats(others)) => {
            for (value, other) in pairs(values, at, others, from, count) {
                *value = f32::from_bits(value.to_bits() ^ other.to_bits());
            }
        }
        _ => {}
    }
}

/// Returns the pairs of `count` values of each slice; none if one of them is shorter.
fn pairs<'a, T>(
    values: &'a mut [T],
    at: usize,
    others: &'a [T],
    from: usize,
    count: usize,
) -> impl Iterator<Item = (&'a mut T, &'a T)> {
    let others = others.get(from..from + count).unwrap_or_default();
    values[at..].iter_mut().zip(others)
}
