//! Damaged and hostile files are refused with distinct errors: no panic, no allocation beyond a cap.

mod envelope;
mod header;
mod memory;
mod payload;

use std::sync::LazyLock;

use clr_adapters::{Adapter, DecodeError, Encoding, decode, encode};

use crate::sample;

const PREFIX: usize = 20;
const LENGTHS: [usize; 2] = [12, 16];
/// Step between the tested positions in a file: larger under Miri.
const STEP: usize = if cfg!(miri) { 211 } else { 1 };
/// Step between the tested bits: about one bit per tested byte, at changing bit positions.
const BIT_STEP: usize = 8 * STEP - 7;

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Recomputes the file's checksum.
fn reseal(mut file: Vec<u8>) -> Vec<u8> {
    let end = file.len() - 4;
    let crc = crc32fast::hash(&file[..end]).to_le_bytes();
    file[end..].copy_from_slice(&crc);
    file
}

/// Returns a sealed file with an arbitrary header and payload.
fn seal(header: &[u8], payload: &[u8]) -> Vec<u8> {
    seal_as(2, header, payload)
}

/// Returns a file of a format version with this header and payload.
fn seal_as(version: u8, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut file = b"\x89CLR\r\n\x1a\n".to_vec();
    file.extend([version, 0, 0, 0]);
    file.extend((header.len() as u32).to_le_bytes());
    file.extend((payload.len() as u32).to_le_bytes());
    file.extend(header);
    file.extend(payload);
    file.extend([0; 8]);
    reseal(file)
}

fn parts(file: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (header, payload) = (u32_at(file, LENGTHS[0]), u32_at(file, LENGTHS[1]));
    (
        file[PREFIX..PREFIX + header].to_vec(),
        file[PREFIX + header..][..payload].to_vec(),
    )
}

/// Returns the small adapter, with steps for the encoding that has them.
fn sample_for(encoding: Encoding) -> Adapter {
    if encoding == Encoding::Compact {
        sample::compact(&sample::small())
    } else {
        sample::small()
    }
}

/// The small adapter in every encoding, created once.
static FILES: LazyLock<[Vec<u8>; 4]> =
    LazyLock::new(|| Encoding::ALL.map(|encoding| encode(&sample_for(encoding), encoding).unwrap()));

fn file(encoding: Encoding) -> Vec<u8> {
    let index = Encoding::ALL.iter().position(|&one| one == encoding).unwrap();
    FILES[index].clone()
}

/// Changes a file's header and payload, seals it again, and returns the error of decoding it.
fn refused(encoding: Encoding, change: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) -> DecodeError {
    let (mut header, mut payload) = parts(&file(encoding));
    change(&mut header, &mut payload);
    decode(&seal(&header, &payload)).unwrap_err()
}

/// Recomputes the checksum of the section that starts at `at`.
fn reseal_section(payload: &mut [u8], at: usize) {
    let bytes = u32_at(payload, at + 8);
    let crc = crc32fast::hash(&payload[at + 16..][..bytes]).to_le_bytes();
    payload[at + 12..at + 16].copy_from_slice(&crc);
}
