//! Search for sequences of the target in the base, for headers and for files other than adapters.

use alloc::vec::Vec;
use core::ops::Range;

use super::script::Script;

/// Minimum bytes of a copy.
const SHORTEST: usize = 8;
/// Maximum of indexed windows of the base.
const REMEMBERED: usize = 1 << 18;

fn window(bytes: &[u8], at: usize) -> Option<u64> {
    let window = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*window))
}

fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Writes `target` with copies from the part `within` of `base`.
pub(super) fn matched(base: &[u8], within: Range<usize>, target: &[u8], script: &mut Script<'_>) {
    let stride = 1 + within.len() / REMEMBERED;
    let mut windows: Vec<(u64, u32)> = within
        .clone()
        .step_by(stride)
        .filter_map(|at| Some((window(&base[..within.end], at)?, at as u32)))
        .collect();
    windows.sort_unstable();
    let base = &base[..within.end];
    // Returns the first window equal to `wanted`. If there are several, the base repeats itself and any of them will
    // do.
    let find = |wanted: u64| {
        let index = windows.partition_point(|&(value, _)| value < wanted);
        windows
            .get(index)
            .filter(|&&(value, _)| value == wanted)
            .map(|&(_, at)| at as usize)
    };
    let (mut at, mut written) = (0, 0);
    // An in-place change shifts nothing, so the position that continues the last copy after the skipped bytes is tried
    // first.
    let mut ahead = script.cursor().clamp(within.start, within.end);
    while at < target.len() {
        let here = ahead + (at - written);
        let straight = base.get(here..).map_or(0, |rest| common(rest, &target[at..]));
        let (mut from, mut length) = (here, straight);
        if length < SHORTEST
            && let Some(found) = window(target, at).and_then(find)
        {
            (from, length) = (found, common(&base[found..], &target[at..]));
        }
        if length < SHORTEST && at + length < target.len() {
            at += 1;
            continue;
        }
        let back = common_back(&base[within.start..from.min(base.len())], &target[written..at]);
        script.literal(&target[written..at - back]);
        script.copy(from - back, length + back);
        at += length;
        (written, ahead) = (at, from + length);
    }
    script.literal(&target[written..]);
}

/// Returns the number of equal bytes at the ends of both slices.
fn common_back(a: &[u8], b: &[u8]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}
