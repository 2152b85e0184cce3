//! Encoding and decoding of a section's numbers.
//!
//! A section is a sequence of *runs*: the values of one site, or the weights of one class. Every run is coded
//! separately, so decoding a site needs no other site. Formulas: `docs/reference/adapter-format.md`, "Encodings".

pub(crate) mod bits;
mod blocks;
pub(crate) mod codes;
mod kernels;
pub(crate) mod range;
pub(crate) mod steps;

#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use half::f16;

use crate::SectionEncoding;

/// Fault of the bytes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeFault {
    /// A value is NaN or infinite.
    #[error("a value is not finite")]
    NotFinite,
    /// The run's largest step is outside the range of an encoder.
    #[error("the step exponent {0} is outside -504..=511")]
    Exponent(i16),
    /// A code is not used by the encoding.
    #[error("code {0} is not in use")]
    Code(u32),
    /// The payload ends within the run, or one of its codes is too large.
    #[error("the payload ends within it, or a code is too large")]
    Ends,
    /// The padding bits are not zero.
    #[error("the padding bits are not zero")]
    Padding,
}

/// Returns the bytes of a run of `elements` values.
pub(crate) fn run_bytes(encoding: SectionEncoding, elements: u64) -> u64 {
    match encoding {
        SectionEncoding::F32 => 4 * elements,
        SectionEncoding::F16 => 2 * elements,
        SectionEncoding::Kernel => kernels::run_bytes(elements),
        SectionEncoding::Linear8 => blocks::LINEAR_8.run_bytes(elements),
        SectionEncoding::Linear10 => blocks::LINEAR_10.run_bytes(elements),
        SectionEncoding::Square10 => blocks::SQUARE_10.run_bytes(elements),
        SectionEncoding::Coded => 0,
    }
}

/// Returns whether `encoding` can hold all `values` as finite numbers.
pub(crate) fn can_hold(encoding: SectionEncoding, values: &[f32]) -> bool {
    encoding != SectionEncoding::F16 || values.iter().all(|&value| f16::from_f32(value).is_finite())
}

/// Returns whether `values`, all above 0, are still above 0 after a round trip through `encoding`.
pub(crate) fn keeps_above_zero(encoding: SectionEncoding, values: &[f32]) -> bool {
    let (mut bytes, mut back) = (Vec::new(), Vec::new());
    encode_run(encoding, values, &mut bytes);
    decode_run(encoding, &bytes, values.len(), &mut back).is_ok() && back.iter().all(|&value| value > 0.0)
}

/// Appends the bytes of one run. The values are finite.
pub(crate) fn encode_run(encoding: SectionEncoding, values: &[f32], out: &mut Vec<u8>) {
    match encoding {
        SectionEncoding::F32 => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        SectionEncoding::F16 => out.extend(values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes())),
        SectionEncoding::Kernel => kernels::encode(values, out),
        SectionEncoding::Linear8 => blocks::LINEAR_8.encode(values, out),
        SectionEncoding::Linear10 => blocks::LINEAR_10.encode(values, out),
        SectionEncoding::Square10 => blocks::SQUARE_10.encode(values, out),
        SectionEncoding::Coded => {}
    }
}

/// Appends the values of one run. The length of `bytes` is [`run_bytes`].
pub(crate) fn decode_run(
    encoding: SectionEncoding,
    bytes: &[u8],
    elements: usize,
    out: &mut Vec<f32>,
) -> Result<(), CodeFault> {
    let start = out.len();
    match encoding {
        SectionEncoding::F32 => {
            out.extend(bytes.as_chunks().0.iter().map(|&chunk| f32::from_le_bytes(chunk)));
        }
        SectionEncoding::F16 => {
            out.extend(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&chunk| f16::from_le_bytes(chunk).to_f32()),
            );
        }
        SectionEncoding::Kernel => kernels::decode(bytes, elements, out)?,
        SectionEncoding::Linear8 => blocks::LINEAR_8.decode(bytes, elements, out)?,
        SectionEncoding::Linear10 => blocks::LINEAR_10.decode(bytes, elements, out)?,
        SectionEncoding::Square10 => blocks::SQUARE_10.decode(bytes, elements, out)?,
        SectionEncoding::Coded => {}
    }
    if out[start..].iter().all(|value| value.is_finite()) {
        Ok(())
    } else {
        Err(CodeFault::NotFinite)
    }
}
