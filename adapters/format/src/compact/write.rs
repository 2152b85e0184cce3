//! Writing of a payload.

use alloc::vec::Vec;

use super::{Content, Models, Part, contents, parts};
use crate::{
    Adapter, EncodeError,
    codec::range::{Coder as _, Encoder},
    wire::Outline,
};

/// Encodes the payload of `adapter`, whose header is `outline`.
pub(crate) fn write(adapter: &Adapter, outline: &Outline) -> Result<Vec<u8>, EncodeError> {
    let parts = parts(outline);
    Ok(write_contents(&parts, &contents(adapter, &parts)?))
}

/// Encodes a payload of these parts.
pub(crate) fn write_contents(parts: &[Part], contents: &[Content]) -> Vec<u8> {
    let (mut encoder, mut models) = (Encoder::default(), Models::default());
    for (part, content) in parts.iter().zip(contents) {
        match content {
            Content::Floats(values) => {
                for byte in values.iter().flat_map(|value| value.to_le_bytes()) {
                    // Only decoders return `None`.
                    let _ = encoder.byte(byte);
                }
            }
            Content::Codes(codes) => {
                let model = models.of(part.kind);
                let any = codes.iter().any(|&code| code != 0);
                let _ = model.any.code(&mut encoder, any);
                if any {
                    model.codes.write(&mut encoder, codes, part.width);
                }
            }
        }
    }
    encoder.finish()
}
