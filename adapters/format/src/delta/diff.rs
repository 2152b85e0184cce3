//! Computes a delta from two files.
//!
//! In adapters, the codes of every site and class are compared with those of the same site and class in the other file.
//! In other files, equal sequences of bytes are copied.

use alloc::{collections::BTreeMap, vec::Vec};

use super::{COMPACT, MAGIC, PREFIX, VERSION, apply, bits::packed_bytes, compact, matching::matched, script::Script};
use crate::{Adapter, Decoded, Digest, SectionEncoding, SectionKind, SiteWeights, codec, decode};

/// Bytes of a section's head up to its checksum.
const SECTION_HEAD: usize = 16;

/// Returns the delta from `base` to `target`; `None` if it would not be smaller than `target`.
#[must_use]
pub fn diff(base: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(target.len()).ok()?;
    u32::try_from(base.len()).ok()?;
    let mut out = Vec::with_capacity(PREFIX);
    out.extend(MAGIC);
    let version = out.len();
    out.push(VERSION);
    out.extend(Digest::of(base).0);
    out.extend(Digest::of(target).0);
    out.extend(length.to_le_bytes());
    if compact::diff(base, target, &mut out).is_some() {
        out[version] = COMPACT;
    } else {
        let mut script = Script::new(base);
        match (decode(base), decode(target)) {
            (Ok(old), Ok(new)) if old.format_version < 3 && new.format_version < 3 => {
                adapters(base, &old, target, &new, &mut script);
            }
            _ => matched(base, 0..base.len(), target, &mut script),
        }
        script.finish().finish(&mut out);
    }
    let small = out.len() < target.len();
    // A delta that does not reproduce the target exactly must not be sent.
    let exact = small && apply(base, &out, target.len()).is_ok_and(|again: Vec<u8>| again == target);
    exact.then_some(out)
}

/// The values of one site or class within a section, coded separately.
struct Run<'a> {
    /// The site's name or the class's label.
    name: &'a str,
    offset: usize,
    bytes: usize,
    elements: usize,
    encoding: SectionEncoding,
}

/// Returns the runs of one section, in file order.
fn runs<'a>(decoded: &'a Decoded, kind: SectionKind) -> Vec<Run<'a>> {
    let Some(section) = decoded.sections.iter().find(|section| section.kind == kind) else {
        return Vec::new();
    };
    let adapter: &Adapter = &decoded.adapter;
    let sites = adapter.sites.iter();
    let named: Vec<(&str, usize)> = match kind {
        SectionKind::Kernels => sites
            .filter(|site| matches!(site.weights, SiteWeights::Kernel(_)))
            .map(|site| (site.name.as_deref().unwrap_or_default(), site.weights.values().len()))
            .collect(),
        SectionKind::Scales => sites
            .filter(|site| matches!(site.weights, SiteWeights::Scale(_)))
            .map(|site| (site.name.as_deref().unwrap_or_default(), site.weights.values().len()))
            .collect(),
        SectionKind::Biases => sites
            .map(|site| (site.name.as_deref().unwrap_or_default(), site.bias.len()))
            .collect(),
        SectionKind::HeadWeight => {
            let features = adapter.head.features;
            adapter
                .header
                .labels
                .iter()
                .map(|label| (label.as_str(), features))
                .collect()
        }
        // f32 and f16 codes are whole bytes, so every class can be a run of one value.
        SectionKind::HeadBias if matches!(section.encoding, SectionEncoding::F32 | SectionEncoding::F16) => {
            adapter.header.labels.iter().map(|label| (label.as_str(), 1)).collect()
        }
        SectionKind::HeadBias
        | SectionKind::ProfileMean
        | SectionKind::ProfileDiagonal
        | SectionKind::ProfileFactor
        | SectionKind::ClassMean
        | SectionKind::ClassDeviations
        | SectionKind::ClassDirections
        | SectionKind::ProfileTaught => Vec::from([("", section.elements)]),
    };
    let mut offset = section.offset;
    let of = |(name, elements): (&'a str, usize)| {
        let bytes = codec::run_bytes(section.encoding, elements as u64) as usize;
        offset += bytes;
        Run {
            name,
            offset: offset - bytes,
            bytes,
            elements,
            encoding: section.encoding,
        }
    };
    let runs: Vec<_> = named.into_iter().map(of).collect();
    // A section with another layout is not split.
    if offset == section.offset + section.bytes {
        runs
    } else {
        Vec::new()
    }
}

/// Returns the streams of packed codes of a run: width in bits, whether they are distances of steps, count.
fn parts(run: &Run<'_>) -> Vec<(u32, bool, usize)> {
    let n = run.elements;
    match run.encoding {
        SectionEncoding::F32 => Vec::from([(32, false, n)]),
        SectionEncoding::F16 => Vec::from([(16, false, n)]),
        SectionEncoding::Coded => Vec::new(),
        SectionEncoding::Kernel => Vec::from([
            (16, false, 1),
            (6, true, n / 9),
            (12, false, n / 9),
            (6, false, 8 * (n / 9)),
        ]),
        SectionEncoding::Linear8 => Vec::from([(16, false, 1), (6, true, n.div_ceil(32)), (8, false, n)]),
        SectionEncoding::Linear10 | SectionEncoding::Square10 => {
            Vec::from([(16, false, 1), (6, true, n.div_ceil(16)), (10, false, n)])
        }
    }
}

fn adapters(base: &[u8], old: &Decoded, target: &[u8], new: &Decoded, script: &mut Script<'_>) {
    let start = |decoded: &Decoded| {
        let first = decoded.sections.iter().map(|section| section.offset).min();
        first.map_or(decoded.file_bytes, |offset| offset - SECTION_HEAD)
    };
    matched(base, 0..start(old), &target[..start(new)], script);
    let mut at = start(new);
    for section in &new.sections {
        let head = section.offset - SECTION_HEAD;
        script.literal(&target[at..head]);
        let before = old.sections.iter().find(|old| old.kind == section.kind);
        match before {
            Some(before) => {
                let from = before.offset - SECTION_HEAD;
                bytewise(base, from, &target[head..section.offset], script);
            }
            None => script.literal(&target[head..section.offset]),
        }
        let end = section.offset + section.bytes;
        let mut known: BTreeMap<&str, Vec<Run<'_>>> = BTreeMap::new();
        for run in runs(old, section.kind).into_iter().rev() {
            known.entry(run.name).or_default().push(run);
        }
        let mut written = section.offset;
        for run in runs(new, section.kind) {
            let bytes = &target[run.offset..run.offset + run.bytes];
            let before = known.get_mut(run.name).and_then(Vec::pop);
            let like = before.filter(|before| (before.encoding, before.elements) == (run.encoding, run.elements));
            match like {
                Some(before) => coded(&before, &run, bytes, script),
                None => script.literal(bytes),
            }
            written = run.offset + run.bytes;
        }
        script.literal(&target[written..end]);
        at = end;
    }
    let end = old.sections.iter().map(|section| section.offset + section.bytes).max();
    matched(base, end.unwrap_or(0)..base.len(), &target[at..], script);
}

/// Compares bytes at equal offsets: copies from the base up to the first difference, and writes the rest as literals.
fn bytewise(base: &[u8], from: usize, target: &[u8], script: &mut Script<'_>) {
    let same = base[from..].iter().zip(target).take_while(|(a, b)| a == b).count();
    script.copy(from, same);
    script.literal(&target[same..]);
}

fn coded(before: &Run<'_>, run: &Run<'_>, mut bytes: &[u8], script: &mut Script<'_>) {
    let mut from = before.offset;
    for (width, distances, count) in parts(run) {
        let Some((own, rest)) = packed_bytes(width, count).and_then(|length| bytes.split_at_checked(length)) else {
            break;
        };
        script.codes(from, width, distances, count, own);
        from += own.len();
        bytes = rest;
    }
    script.literal(bytes);
}
