//! Sizes of packed codes, and the zigzag encoding of a difference of two codes.

/// Returns the bytes of `count` fields of `width` bits.
pub(super) const fn packed_bytes(width: u32, count: usize) -> Option<usize> {
    match count.checked_mul(width as usize) {
        Some(bits) => Some(bits.div_ceil(8)),
        None => None,
    }
}

const fn mask(width: u32) -> u32 {
    u32::MAX >> (32 - width)
}

/// Returns `target - base` modulo 2^width in zigzag form, so that small differences of either sign are small numbers:
/// 0, -1, 1, -2, 2, … become 0, 1, 2, 3, 4, ….
pub(super) fn step(width: u32, base: u32, target: u32) -> u32 {
    let difference = target.wrapping_sub(base) & mask(width);
    let sign = difference >> (width - 1);
    let magnitude = if sign == 1 { !difference } else { difference };
    ((magnitude << 1) | sign) & mask(width)
}

/// Inverse of [`step`]: returns the target.
pub(super) fn stepped(width: u32, base: u32, step: u32) -> u32 {
    let difference = if step & 1 == 1 { !(step >> 1) } else { step >> 1 };
    base.wrapping_add(difference) & mask(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zigzag_differences_are_reversible_and_small_for_small_steps() {
        for width in [6, 8, 10, 12, 16, 32] {
            let values = [0, 1, 2, 5, 31, mask(width) >> 1, mask(width) - 1, mask(width)];
            for base in values {
                for target in values {
                    let step = step(width, base, target);
                    assert!(step <= mask(width));
                    assert_eq!(stepped(width, base, step), target, "{width} bits, {base} to {target}");
                }
            }
            assert_eq!([0, 1, 2, 3, 4].map(|target| step(width, 2, target)), [3, 1, 0, 2, 4]);
        }
    }
}
