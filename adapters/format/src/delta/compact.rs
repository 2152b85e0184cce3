//! Deltas between two adapters of format version 3.
//!
//! Everything but the payload is coded like any file. The payload's codes are coded as differences from the base's
//! codes of the same site (counted from the last), class (by label) and kind, with the same models as in a file.

use alloc::{collections::BTreeMap, vec, vec::Vec};

use super::{
    DeltaError, apply,
    matching::matched,
    script::Script,
    streams::{Reader, push_varint, take_varint},
};
use crate::{
    Adapter, Limits, SectionKind,
    codec::range::Decoder,
    compact::{Content, Part, contents, parts, read_contents, write_contents},
    decode,
    envelope::Frame,
    wire::{self, Outline},
};

/// Appends the body of a delta between two files of format version 3; `None` if one of them is another file.
pub(super) fn diff(base: &[u8], target: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (old, new) = (Compact::read(base)?, Compact::read(target)?);
    let (from, to) = (old.frame.without_payload(base), new.frame.without_payload(target));
    let mut script = Script::new(&from);
    matched(&from, 0..from.len(), &to, &mut script);
    let mut frame = Vec::new();
    script.finish().finish(&mut frame);
    push_varint(frame.len(), out);
    out.extend(frame);
    let differences = (new.parts.iter().zip(&new.contents)).zip(old.reference(&new.parts, &new.outline));
    let differences: Vec<Content> = differences
        .map(|((_, content), reference)| combined(content, &reference, i32::wrapping_sub, |a, b| a ^ b))
        .collect();
    out.extend(write_contents(&new.parts, &differences));
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
    crate::decode::check_parameters(&outline, &Limits::DEFAULT).map_err(|_| damaged())?;
    let parts = parts(&outline);
    let mut decoder = Decoder::new(payload);
    let differences = read_contents(&mut decoder, &parts, |_, _, _| ()).map_err(|_| damaged())?;
    if !decoder.is_at_end() {
        return Err(DeltaError::TrailingBytes);
    }
    let contents = (differences.iter().zip(old.reference(&parts, &outline)))
        .map(|(difference, reference)| combined(difference, &reference, i32::wrapping_add, |a, b| a ^ b));
    let payload = write_contents(&parts, &contents.collect::<Vec<_>>());
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
    fn read(file: &[u8]) -> Option<Self> {
        let decoded = decode(file).ok().filter(|decoded| decoded.format_version == 3)?;
        let adapter: &Adapter = &decoded.adapter;
        let frame = Frame::of(file)?;
        let outline = wire::read(&file[frame.header.clone()], 3, &Limits::DEFAULT).ok()?;
        let parts = parts(&outline);
        Some(Self {
            contents: contents(adapter, &parts).ok()?,
            frame,
            outline,
            parts,
        })
    }

    /// Returns for each part of another file what it is a difference from: the content of the corresponding part of this
    /// file if it has the same step and size, with the rows of the same labels in the head; otherwise zeros.
    fn reference(&self, others: &[Part], outline: &Outline) -> Vec<Content> {
        let mut own: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
        for (index, part) in self.parts.iter().enumerate() {
            own.entry(part.kind as u8).or_default().push(index);
        }
        // From the last part of a kind on, because an adapter may leave out its first sites.
        let mut references: Vec<Content> = others
            .iter()
            .rev()
            .map(|part| {
                let found = own.get_mut(&(part.kind as u8)).and_then(Vec::pop);
                let of = |index: usize| (&self.parts[index], &self.contents[index]);
                match (part.kind, found.map(of)) {
                    (
                        SectionKind::HeadWeight | SectionKind::HeadBias | SectionKind::ClassDeviations,
                        Some((own, content)),
                    ) if own.step == part.step => self.rows(content, part, outline),
                    (_, Some((own, content))) if own == part => content.clone(),
                    _ => zeros(part),
                }
            })
            .collect();
        references.reverse();
        references
    }

    /// Returns the rows of the head with the labels of another file; zeros for a label that this file lacks.
    fn rows(&self, content: &Content, part: &Part, outline: &Outline) -> Content {
        let (own, labels) = (&self.outline.header.labels, &outline.header.labels);
        let width = part.values / labels.len().max(1);
        let place = |label| own.iter().position(|own| own == label);
        match content {
            Content::Codes(codes) => Content::Codes(pick(codes, labels.iter().map(place), width)),
            Content::Floats(values) => Content::Floats(pick(values, labels.iter().map(place), width)),
        }
    }
}

/// Returns the rows at these places, one after another; zeros for a row without a place.
fn pick<T: Copy + Default>(values: &[T], places: impl Iterator<Item = Option<usize>>, width: usize) -> Vec<T> {
    let mut picked = Vec::new();
    for place in places {
        match place.and_then(|place| values.get(place * width..(place + 1) * width)) {
            Some(row) => picked.extend_from_slice(row),
            None => picked.resize(picked.len() + width, T::default()),
        }
    }
    picked
}

fn zeros(part: &Part) -> Content {
    match part.step {
        Some(_) => Content::Codes(vec![0; part.values]),
        None => Content::Floats(vec![0.0; part.values]),
    }
}

/// Combines two contents of the same part value by value. Floats are combined by their bits.
fn combined(
    one: &Content,
    other: &Content,
    codes: impl Fn(i32, i32) -> i32,
    bits: impl Fn(u32, u32) -> u32,
) -> Content {
    match (one, other) {
        (Content::Codes(a), Content::Codes(b)) => Content::Codes(a.iter().zip(b).map(|(&a, &b)| codes(a, b)).collect()),
        (Content::Floats(a), Content::Floats(b)) => {
            let combined = a
                .iter()
                .zip(b)
                .map(|(a, b)| f32::from_bits(bits(a.to_bits(), b.to_bits())));
            Content::Floats(combined.collect())
        }
        _ => one.clone(),
    }
}
