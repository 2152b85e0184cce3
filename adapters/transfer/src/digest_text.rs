//! Serialisation of digests: 64 hexadecimal digits in JSON, 32 bytes on the wire.

use alloc::{format, string::String};

use clr_adapters::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

fn parse<E: Error>(text: &str) -> Result<Digest, E> {
    let mut bytes = [0; 32];
    let fault = || E::custom(format!("`{text}` is not a digest of 64 hexadecimal digits"));
    if text.len() != 64 || !text.is_ascii() {
        return Err(fault());
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| fault())?;
    }
    Ok(Digest(bytes))
}

pub(crate) fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.collect_str(digest)
    } else {
        digest.serialize(serializer)
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    if deserializer.is_human_readable() {
        parse(&String::deserialize(deserializer)?)
    } else {
        Digest::deserialize(deserializer)
    }
}
